"""A broker in simulated time: the real queue, the real slots and the real patience, on replicas that only wait.

Hours pass in milliseconds, because the clock of the loop jumps to whatever is due next. No Ray is needed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from greater_ray.types import Usage
from greater_ray.work import Unit

T = TypeVar("T")
Seconds = Callable[[int, Unit], float]  # how long the replica with a number takes for a unit
FOREVER = float("inf")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while something runs and jumps while all wait."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        due = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if due and not self._ready:
            self.now = max(self.now, min(due))
        super()._run_once()


def run_virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run something to its end; nothing in it may wait for the world outside."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


class Method:
    """Stands for an actor's method."""

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self.remote = call


class WaitingReplica:
    """A replica that waits and gives its number; one that takes ``FOREVER`` answers only by being ended."""

    def __init__(self, number: int, loading: float, seconds: Seconds) -> None:
        self.number = number
        self._loading, self._seconds = loading, seconds
        self._killed = asyncio.get_running_loop().create_future()
        self.up, self.load, self.run = Method(self._up), Method(self._load), Method(self._run)

    async def _wait(self, seconds: float) -> None:
        done, _ = await asyncio.wait([self._killed], timeout=None if seconds == FOREVER else seconds)
        if done:
            raise RayActorError()

    def kill(self) -> None:
        """What ``ray.kill`` does to a call in flight."""
        if not self._killed.done():
            self._killed.set_result(None)

    async def _up(self) -> str:
        return f"host-{self.number}"

    async def _load(self, model: Any) -> dict[str, Any]:
        await self._wait(self._loading)
        return {"model": {"weights": "w"}, "hardware": "h"}

    async def _run(self, unit: Unit) -> tuple[int, Usage]:
        await self._wait(self._seconds(self.number, unit))
        return self.number, Usage(generated_tokens=1)

"""The broker of one pool: hands shards to replicas, replaces replicas that die, and knows what is going on.

One asyncio actor per model. Every slot of the pool is one loop: launch a replica, load it, take work until it dies.
Nothing but the work in flight is kept here, so that memory does not grow with the grid.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError, PoolError, SetAsideError
from greater_ray.types import Usage
from greater_ray.work import Unit

# A shard that ends this many replicas is set aside; a model that ends this many while loading stops its pool.
ATTEMPTS = 3
_HOMES = 10_000  # shards whose replica is remembered: more than replicas have memory for
_EVENTS = 200  # events kept until the driver fetches them


@dataclass
class Job:
    """One unit of work on its way; ``home`` names what a slot may still hold for it, None marks small work."""

    unit: Unit
    future: "asyncio.Future[tuple[Any, Usage]]"
    number: int
    home: str | None
    attempts: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class Slot:
    """One place for a replica: what it does now, and what it has done."""

    state: str = "starting"
    host: str = "-"
    busy_seconds: float = 0.0
    since: float = 0.0
    calls: int = 0
    tokens: int = 0
    deaths: int = 0


class WorkQueue:
    """Waiting jobs, oldest first, each found at once by the slot that prefers it.

    A free slot takes, in this order: what is urgent (small work without rows, work whose replica has died), work whose
    questions it holds, work that no slot holds, the oldest of the rest whose own slot is not free as well. So
    preference never leaves a replica idle that could help, and never changes a result.
    """

    def __init__(self) -> None:
        self._urgent: deque[Job] = deque()
        self._all: OrderedDict[int, Job] = OrderedDict()
        self._by_home: dict[int | None, OrderedDict[int, Job]] = {}
        self._home: OrderedDict[str, int] = OrderedDict()
        self._homes_of: dict[int, int | None] = {}
        self._free: set[int] = set()
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._all) + len(self._urgent)

    async def put(self, jobs: Sequence[Job], *, first: bool = False) -> None:
        """Add jobs; ``first`` puts those that were begun before in front of all."""
        async with self._changed:
            for job in jobs:
                if first:
                    self._urgent.appendleft(job)
                elif job.home is None:
                    self._urgent.append(job)
                else:
                    home = self._home.get(job.home)
                    self._homes_of[job.number] = home
                    self._all[job.number] = self._by_home.setdefault(home, OrderedDict())[job.number] = job
            self._changed.notify_all()

    async def take(self, slot: int) -> Job:
        """Wait for work and take what suits the slot best."""
        async with self._changed:
            self._free.add(slot)
            try:
                job = await self._changed.wait_for(lambda: self._first(slot))
            finally:
                self._free.discard(slot)
                # What this slot was left to do may be for others now.
                self._changed.notify_all()
            assert job is not None, "only a job ends the waiting"
            if self._urgent:
                self._urgent.popleft()
            else:
                del self._all[job.number]
                del self._by_home[self._homes_of.pop(job.number)][job.number]
            self._settle_in(job, slot)
            return job

    def _first(self, slot: int) -> Job | None:
        """Return what a free slot takes now."""
        if self._urgent:
            return self._urgent[0]
        for home in (slot, None):
            if own := self._by_home.get(home):
                return next(iter(own.values()))
        return next((job for number, job in self._all.items() if self._homes_of[number] not in self._free), None)

    def _settle_in(self, job: Job, slot: int) -> None:
        """Remember which slot holds the questions from now on."""
        if job.home is None:
            return
        self._home[job.home] = slot
        self._home.move_to_end(job.home)
        if len(self._home) > _HOMES:
            self._home.popitem(last=False)

    def forget(self, slot: int) -> None:
        """A slot has lost what it held: its waiting work is nobody's, each piece in its turn."""
        for shard in [shard for shard, home in self._home.items() if home == slot]:
            del self._home[shard]
        for number in self._by_home.pop(slot, ()):
            self._homes_of[number] = None
        nobodys = [number for number in self._all if self._homes_of[number] is None]
        self._by_home[None] = OrderedDict((number, self._all[number]) for number in nobodys)

    def drain(self) -> list[Job]:
        """Take everything out."""
        jobs = [*self._urgent, *self._all.values()]
        self._urgent.clear()
        self._all.clear()
        self._by_home.clear()
        self._homes_of.clear()
        return jobs


class Broker:
    """Serves one model on ``count`` slots.

    ``launch`` returns the handle of a new, empty replica actor; ``end`` ends one that does not answer any more.
    """

    def __init__(
        self,
        model: ModelConfig,
        count: int,
        launch: Callable[[], Any],
        end: Callable[[Any], None] = lambda actor: None,
    ) -> None:
        self.model, self.launch, self.end = model, launch, end
        self.slots = [Slot() for _ in range(count)]
        self.queue = WorkQueue()
        self.facts: dict[str, Any] | None = None
        self.hardware: list[str] = []
        self.error: GreaterRayError | None = None
        self._ready = asyncio.Event()
        self._number = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._actors: dict[int, Any] = {}
        self._loops = [asyncio.get_running_loop().create_task(self._serve(k)) for k in range(count)]

    # -- what coordinators and the driver call -------------------------------------------------------------------------

    async def ready(self) -> tuple[dict[str, Any], str]:
        """Wait until the first replica has loaded and return its model's facts and its hardware.

        Raises:
            PoolError: the model cannot be loaded.
        """
        await self._ready.wait()
        if self.error is not None:
            raise self.error
        assert self.facts is not None
        return self.facts, self.hardware[0]

    async def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        """Compute every unit on some replica; results are aligned with the units.

        Raises:
            PoolError: the pool has stopped.
            SetAsideError: a unit ended three replicas.
            GreaterRayError: what the engine raised.
        """
        if self.error is not None:
            raise self.error
        loop = asyncio.get_running_loop()
        jobs = []
        for unit in units:
            jobs.append(Job(unit, loop.create_future(), self._number, unit.home))
            self._number += 1
        await self.queue.put(jobs)
        if self.error is not None:
            # It came while these jobs were on their way into the queue, after all others had been told.
            self._turn_away()
        try:
            return [await job.future for job in jobs]
        except BaseException:
            for job in jobs:
                job.future.cancel()
            raise

    async def stats(self) -> dict[str, Any]:
        """Return what the slots do and have done, the length of the queue, and events since the last call."""
        now = time.monotonic()
        starting = [now - s.since if s.state == "starting" else 0.0 for s in self.slots]
        events = [self._events.popleft() for _ in range(len(self._events))]
        slots = [
            {**asdict(s), "busy_seconds": s.busy_seconds + (now - s.since if s.state == "busy" else 0.0)}
            for s in self.slots
        ]
        return {
            "model": self.model.name,
            "slots": slots,
            "starting_seconds": starting,
            "queue": len(self.queue),
            "events": events,
            "error": str(self.error) if self.error is not None else None,
        }

    # -- one slot ----------------------------------------------------------------------------------------------------

    async def _serve(self, index: int) -> None:
        try:
            await self._serve_slot(index)
        except Exception as error:  # noqa: BLE001 - a slot that ended in silence would leave calls waiting for ever
            self._stop(f"model: '{self.model.name}': internal error: {type(error).__name__}: {error}")

    async def _serve_slot(self, index: int) -> None:
        slot, failed = self.slots[index], 0
        while self.error is None:
            slot.state, slot.since = "starting", time.monotonic()
            actor = self._actors[index] = self.launch()
            error = await self._load(actor, slot)
            if error is None:
                failed = 0
                await self._work(actor, index, slot)
            elif not _is_preempted(error):
                failed += 1
            # One that only could not be reached would keep its GPU.
            self.end(actor)
            if failed == ATTEMPTS:
                assert error is not None
                self._give_up(slot, error)
                return

    def _give_up(self, slot: Slot, error: RayError) -> None:
        """Leave a slot on which no replica comes up to the others, or stop the pool where there are none."""
        slot.state = "given up"
        why = f"{ATTEMPTS} replicas in a row died while loading, as when memory runs out: {_reason(error)}"
        if any(other.state in ("idle", "busy") for other in self.slots):
            self._events.append({"event": "slot given up", "why": why})
        else:
            self._stop(f"model: '{self.model.name}': {why}")

    async def _load(self, actor: Any, slot: Slot) -> RayError | None:
        """Load the model; return why the replica died. A model that nobody could load stops the pool at once."""
        try:
            facts = await actor.load.remote(self.model)
        except RayTaskError as error:
            if self.facts is None:
                self._stop(f"model: '{self.model.name}' cannot be served: {_reason(error)}")
            self._events.append({"event": "could not load", "reason": _reason(error)})
            return error
        except RayError as error:
            slot.deaths += 1
            self._events.append({"event": "died while loading", "reason": _reason(error)})
            return error
        slot.host = facts["host"]
        model = facts["model"]
        if self.facts is None:
            self.facts = model
        elif model.get("weights") != self.facts.get("weights"):
            what = "has other weights, another tokenizer or another chat template"
            self._stop(f"model: '{self.model.name}' {what} on {slot.host} than on the first replica.")
            return None
        if self.hardware and facts["hardware"] not in self.hardware:
            why = f"{slot.host} computes on {facts['hardware']}, others on {self.hardware[0]}: last bits may differ"
            self._events.append({"event": "mixed hardware", "why": why})
        self.hardware = [*dict.fromkeys([*self.hardware, facts["hardware"]])]
        self._ready.set()
        return None

    async def _work(self, actor: Any, index: int, slot: Slot) -> None:
        """Take work until the replica dies."""
        while self.error is None:
            slot.state = "idle"
            job = await self.queue.take(index)
            if job.future.done():
                continue
            slot.state, slot.since = "busy", time.monotonic()
            try:
                result = await actor.run.remote(job.unit)
                slot.tokens += result[1].tokens
            except RayTaskError as error:
                # An error of the engine itself would come again: it belongs to the cell.
                cause = error.cause if isinstance(error.cause, GreaterRayError) else error
                self._settle(job, error=cause)
            except RayError as error:
                slot.deaths += 1
                slot.state = "starting"
                self.queue.forget(index)
                await self._retry(job, index, error)
                return
            except Exception as error:  # noqa: BLE001 - an engine of one's own that returns something else
                self._settle(job, error=error)
            else:
                self._settle(job, result=result)
            finally:
                slot.busy_seconds += time.monotonic() - slot.since
                slot.calls += 1

    @staticmethod
    def _settle(job: Job, result: Any = None, error: BaseException | None = None) -> None:
        if job.future.done():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    async def _retry(self, job: Job, index: int, error: RayError) -> None:
        """Put a job whose replica died in front of the queue, or aside."""
        preempted = _is_preempted(error)
        job.attempts += not preempted
        what = job.unit.title
        reason = f"replica {index} on {self.slots[index].host} died during {what}: {_reason(error)}"
        job.reasons.append(reason)
        self._events.append({"event": "replica died", "attempt": job.attempts, "preempted": preempted, "why": reason})
        if job.attempts < ATTEMPTS:
            await self.queue.put([job], first=True)
            if self.error is not None:
                self._turn_away()
            return
        message = f"set aside after it ended {ATTEMPTS} replicas: {what} of '{self.model.name}'. Last: {reason}"
        self._events.append({"event": "set aside", "why": message})
        self._settle(job, error=SetAsideError(message))

    def _stop(self, reason: str) -> None:
        """Stop the pool: everybody who waits gets the reason, at once."""
        if self.error is None:
            self.error = PoolError(reason if reason.endswith(".") else f"{reason}.")
        self._ready.set()
        self._turn_away()

    def _turn_away(self) -> None:
        """Give everybody who waits the reason why the pool has stopped."""
        for job in self.queue.drain():
            self._settle(job, error=self.error)


def _is_preempted(error: RayError) -> bool:
    return isinstance(error, RayActorError) and error.preempted


def _reason(error: BaseException) -> str:
    """Return the first telling line of a Ray error."""
    cause = getattr(error, "cause", None)
    text = str(cause if cause is not None else error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if "Worker exit detail" in line or "death cause" in line or "node" in line.lower()
    ]
    return (telling or lines or [type(error).__name__])[0][:300].rstrip(".")

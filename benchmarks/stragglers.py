"""Replicas of unequal speed, in simulated time: how much longer than at best a grid takes, and what waits for the slow.

The broker, its queue and its patience are the real ones. "Before" is the same broker without repeated calls.
"""

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.simulated import seconds_of
from benchmarks.virtual_time import Seconds, WaitingReplica, run_virtually
from greater_ray.cluster.broker import Broker
from greater_ray.cluster.patience import Call, Patience
from greater_ray.config import ModelConfig
from greater_ray.types import Example, Layout
from greater_ray.work import Answers, Unit

REPLICAS = 16
MEAN = 10.0  # seconds of a unit
_ROOM = 300.0  # seconds of patience, the default
LAYOUT = Layout("So the answer is")


class Stoic(Patience):
    """Waits for whatever has been begun."""

    def worth_repeating(self, replica: int, call: Call, elapsed: float, idle: int) -> bool:
        return False


@dataclass(frozen=True)
class Shape:
    """A grid: cells that go on side by side, whose steps each wait for all their shards."""

    title: str
    cells: int
    steps: int
    shards: int

    def units(self, draw: int, cell: int, step: int) -> list[Unit]:
        rows = [Example(f"{draw}-{cell}-{step}-{k}", "?", "1", "1") for k in range(self.shards)]
        return [Unit(Answers([row], [(1,)]), LAYOUT) for row in rows]


SHAPES = (
    Shape("independent shards (1 cell, 1 step of 480)", 1, 1, 480),
    Shape("a grid (24 cells of 5 steps, 4 shards each)", 24, 5, 4),
    Shape("one cell (20 steps of 24 shards)", 1, 20, 24),
)
TIMES: dict[str, Callable[[Unit], float]] = {
    "equal": lambda unit: MEAN,
    "lognormal": lambda unit: seconds_of(MEAN, unit.work.shard[0].id),
}


def makespan(shape: Shape, draw: int, seconds: Seconds, patience: Callable[[float], Patience]) -> tuple[float, int]:
    """Return how many seconds a grid takes, and how many calls were repeated."""

    async def work() -> tuple[float, int]:
        numbers = iter(range(REPLICAS))
        broker = Broker(
            ModelConfig(name="m"),
            REPLICAS,
            lambda: WaitingReplica(next(numbers), 0.0, seconds),
            WaitingReplica.kill,
            patience(_ROOM),
        )
        await broker.ready()

        async def cell(number: int) -> None:
            for step in range(shape.steps):
                await broker.run(shape.units(draw, number, step))

        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.gather(*(cell(number) for number in range(shape.cells)))
        return loop.time() - begin, sum(slot.repeated for slot in broker.slots)

    return run_virtually(work)


def at_best(shape: Shape, draw: int, took: Callable[[Unit], float], speed: float) -> float:
    """Return a bound that no order of the work can beat: all speeds together, and the longest chain of one cell."""
    total, chains = 0.0, []
    for cell in range(shape.cells):
        steps = [[took(unit) for unit in shape.units(draw, cell, step)] for step in range(shape.steps)]
        total += sum(map(sum, steps))
        # A step takes its longest shard, and all of them on all replicas.
        chains.append(sum(max(max(step), sum(step) / (REPLICAS - 1 + speed)) for step in steps))
    return max(total / (REPLICAS - 1 + speed), *chains)


def measure(slow: float, draws: int, report: Callable[[str], None]) -> list[tuple[str, list[float]]]:
    """Report every shape and kind of times with one replica at a share of the others' speed; return the ratios."""
    found = []
    for shape in SHAPES:
        for kind, took in TIMES.items():

            def seconds(replica: int, unit: Unit, took: Callable[[Unit], float] = took) -> float:
                return took(unit) / (slow if replica == 0 else 1.0)

            rows: dict[str, list[float]] = {"before": [], "now": [], "repeated": []}
            for draw in range(draws):
                best = at_best(shape, draw, took, slow)
                rows["before"].append(makespan(shape, draw, seconds, Stoic)[0] / best)
                now, repeated = makespan(shape, draw, seconds, Patience)
                rows["now"].append(now / best)
                rows["repeated"].append(repeated / (shape.cells * shape.steps * shape.shards))
            title = f"{shape.title}, {kind} times"
            report(
                f"{title}: {spread(rows['before'])} before, {spread(rows['now'])} now; "
                f"{statistics.median(rows['repeated']):.1%} of the calls repeated"
            )
            found.append((title, rows["now"]))
    return found


def spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"

"""The ledger: what is counted of a model's work, and what a search has cost, held against its budget.

Work goes out in portions, so that no limit is passed by a whole batch of it.

Two models are counted apart: the task model, and the model that writes prompts, even where both are one.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from greater_ray.config import Budget
from greater_ray.errors import BudgetSpent
from greater_ray.types import Shard, Usage, total
from greater_ray.work import Unit
from greater_ray.work.memory import shard_key

# With a limit, so many units of a batch run before it is known what one of them costs.
FIRST_UNITS = 8
# Asked before a portion is handed out, with what the batch has cost so far and in how many units. Tells how many more
# of its units may run, None for all of them, and may raise, for instance ``BudgetSpent``.
Allow = Callable[[Usage, int], int | None]
# Computes units and tells what each of them cost, for instance ``Executor.run``.
Compute = Callable[[Sequence[Unit]], list[tuple[Any, Usage]]]


def anything(spent: Usage, units: int) -> int | None:
    """Allow all units at once."""
    return None


def portions(units: Sequence[Unit], allow: Allow, spent: Callable[[], Usage]) -> Iterator[Sequence[Unit]]:
    """Cut a batch as ``allow`` says; ``spent`` tells what its portions so far have cost."""
    done = 0
    while done < len(units):
        portion = units[done : done + (allow(spent(), done) or len(units))]
        yield portion
        done += len(portion)


def fitting(left: Mapping[str, float], costs: Mapping[str, float], units: int) -> int | None:
    """Return how many more units of a batch fit what is left of every limit, one at least; None: there is no limit.

    ``costs`` is what ``units`` units of the same batch have cost, by limit. Tokens do not depend on the number of
    replicas, and neither does this number.
    """
    if not left:
        return None
    if not units:
        return FIRST_UNITS
    numbers = [rest * units / costs[name] for name, rest in left.items() if costs[name]]
    return max(1, math.floor(min(numbers))) if numbers else None


def spent_by_limit(task: Usage, writer: Usage, seconds: float) -> dict[str, float]:
    """Return what every limit of the ledger in a ``Budget`` is held against; ``seconds`` is the wall time so far."""
    return {
        "tokens": task.tokens,
        "seconds": seconds,
        "calls": task.calls,
        "prompt_tokens": task.prefix_tokens + task.prefill_tokens,
        "generated_tokens": task.generated_tokens,
        "forward_tokens": task.tokens - task.backward_tokens,
        "backward_tokens": task.backward_tokens,
        "model_seconds": task.seconds,
        "optimizer_calls": writer.calls,
        "optimizer_tokens": writer.tokens,
        "optimizer_prompt_tokens": writer.prefix_tokens + writer.prefill_tokens,
        "optimizer_generated_tokens": writer.generated_tokens,
        "optimizer_seconds": writer.seconds,
    }


class Meter:
    """What a model has computed so far. All its work goes through ``run``, which says what of it is counted.

    ``allow`` is asked before every portion of work. The questions of a shard are counted the first time only: their
    keys and values are computed once, whether or not they are kept. ``context`` tells apart shards whose questions
    stand behind other demonstrations.
    """

    def __init__(self) -> None:
        self.allow: Allow = anything
        self._usage = Usage()
        self._seen: set[str] = set()

    @property
    def usage(self) -> Usage:
        """All that was counted so far."""
        return self._usage

    @property
    def seen(self) -> list[str]:
        """Names of the shards whose questions were counted, in order."""
        return sorted(self._seen)

    def restore(self, usage: Usage, seen: Iterable[str] = ()) -> None:
        """Go on from what was saved of ``usage`` and ``seen``."""
        self._usage, self._seen = usage, set(seen)

    def run(self, units: Sequence[Unit], compute: Compute, context: str = "") -> list[tuple[Any, Usage]]:
        """Compute units, as many at once as ``allow`` says; return every result with what it is counted as.

        The wall time of a portion goes to its units in equal parts.
        """
        before, results = self.usage, []
        for portion in portions(units, self.allow, lambda: self.usage - before):
            begin = time.perf_counter()
            done = compute(portion)
            seconds = Usage(seconds=(time.perf_counter() - begin) / len(portion))
            spent = [
                self._first_seen(unit, usage, context) + seconds for unit, (_, usage) in zip(portion, done, strict=True)
            ]
            self.add(total(spent))
            results += [(result, usage) for (result, _), usage in zip(done, spent, strict=True)]
        return results

    def add(self, usage: Usage) -> None:
        """Count something that is known beside the computing, for instance unreadable replies."""
        self._usage = self._usage + usage

    def mark_seen(self, shard: Shard, context: str = "") -> None:
        """Count a shard's questions as metered: a continued run pays for them no second time."""
        self._seen.add(context + shard_key(shard))

    def _first_seen(self, unit: Unit, usage: Usage, context: str) -> Usage:
        """Take off the questions of a shard that were metered before."""
        shard = unit.work.shard
        if not shard:
            return usage
        known = context + shard_key(shard) in self._seen
        self.mark_seen(shard, context)
        return usage - Usage(prefix_tokens=usage.prefix_tokens) if known else usage


class Metered(Protocol):
    """A model that counts what it computes."""

    meter: Meter


class Ledger:
    """What the task model and the writer have cost in one search, and how long it has taken."""

    def __init__(self, budget: Budget, model: Metered, writer: Metered) -> None:
        self._limits = {
            name: limit for name, limit in budget.model_dump(exclude={"steps", "patience"}).items() if limit is not None
        }
        self._model, self._writer = model.meter, writer.meter
        self._begin = time.monotonic()

    def open(self, elapsed: float) -> None:
        """Hold all work against the budget from now on; ``elapsed`` seconds were spent before."""
        self._begin = time.monotonic() - elapsed
        self._model.allow = self._allow_task
        self._writer.allow = self._allow_writer

    def close(self) -> None:
        """Lift all limits: the search has ended."""
        self._model.allow = self._writer.allow = anything

    @property
    def elapsed(self) -> float:
        """Seconds of the search so far, those before an interruption included."""
        return time.monotonic() - self._begin

    def left(self) -> dict[str, float]:
        """Return what is left of every limit.

        Raises:
            BudgetSpent: one is reached; the message is its name.
        """
        spent = spent_by_limit(self._model.usage, self._writer.usage, self.elapsed)
        left = {name: limit - spent[name] for name, limit in self._limits.items()}
        for name in spent:
            if left.get(name, 1) <= 0:
                raise BudgetSpent(name)
        return left

    def _allow_task(self, spent: Usage, units: int) -> int | None:
        return fitting(self.left(), spent_by_limit(spent, Usage(), spent.seconds), units)

    def _allow_writer(self, spent: Usage, units: int) -> int | None:
        return fitting(self.left(), spent_by_limit(Usage(), spent, spent.seconds), units)

"""A model as optimizers see it: work is cut into units of fixed shape, known results are reused, all is metered.

The shard is the unit of work, sums are taken in float64 in shard order, and results never depend on who computed a
shard. What the kinds of work are, and how each is cut, remembered and joined, stands in ``greater_ray.work``.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

from greater_ray.config import fingerprint
from greater_ray.errors import ModelError
from greater_ray.ledger import Meter
from greater_ray.protocols import Executor
from greater_ray.types import (
    Conversation,
    Example,
    Generation,
    Layout,
    Shard,
    Shown,
    TokenIds,
    Usage,
    split_shards,
    total,
)
from greater_ray.work import BaseEngine, CheckPrompts, Generate, Memory, Unit, Work

ResultT = TypeVar("ResultT")


class LocalExecutor:
    """Computes every unit in this process, on one engine: as many at a time as it takes."""

    def __init__(self, engine: BaseEngine) -> None:
        self.engine, self.width = engine, engine.concurrency

    def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        """Compute the units in order; see ``Executor``. After the first error no further unit is begun."""
        if self.width == 1:
            return [self.engine.run(unit) for unit in units]
        pool = ThreadPoolExecutor(self.width)
        try:
            return list(pool.map(self.engine.run, units))
        finally:
            pool.shutdown(cancel_futures=True)


class ShardedModel:
    """A ``GradientModel`` over an executor, for one layout.

    ``memory`` holds what is known and belongs to the checkpoint; ``meter`` counts and limits what is computed.
    """

    def __init__(self, executor: Executor, layout: Layout | None, shard_size: int = 1) -> None:
        self.executor, self.layout, self.shard_size = executor, layout, shard_size
        self.memory, self.meter = Memory(), Meter()

    @property
    def usage(self) -> Usage:
        """All that was computed so far, under whatever demonstrations."""
        return self.meter.usage

    def showing(self, shown: Shown, prompt: TokenIds) -> "ShardedModel":
        """Return this model with demonstrations in front of every question, each asked under ``prompt``.

        It has the same meter and a part of the same memory. Without demonstrations it is the very same model.
        """
        if not shown:
            return self
        assert self.layout is not None
        (check,) = self.ask(CheckPrompts([prompt]))
        model = copy(self)
        model.layout = replace(self.layout, demonstrations=shown.rows, nearest=shown.nearest, demonstrated=check.text)
        model.memory = self.memory.within(fingerprint([shown.rows, shown.nearest, check.text]))
        return model

    def shards(self, examples: Sequence[Example]) -> list[Shard]:
        """Cut rows into shards; see ``greater_ray.work.base.Asking``."""
        return split_shards(examples, self.shard_size)

    def ask(self, work: Work[ResultT]) -> ResultT:
        """Have work done; see ``GradientModel``."""
        return self.ask_each([work])[0][0]

    def ask_each(self, works: Sequence[Work[ResultT]]) -> list[tuple[ResultT, Usage]]:
        """Have several pieces of work done together, and tell what each of them cost."""
        cut = [work.units(self) for work in works]
        batch = [Unit(unit, self.layout) for units in cut for unit in units]
        done = iter(self.meter.run(batch, self.executor.run, self.memory.context))
        results = [[next(done) for _ in units] for units in cut]
        for units, pairs in zip(cut, results, strict=True):
            for unit, (result, _) in zip(units, pairs, strict=True):
                unit.remember(result, self.memory)
        return [
            (work.joined([result for result, _ in pairs], self), total(usage for _, usage in pairs))
            for work, pairs in zip(works, results, strict=True)
        ]

    def mark_seen(self, shard: Shard) -> None:
        """Count this shard's questions as metered; see ``Meter``."""
        self.meter.mark_seen(shard, self.memory.context)


class ShardedWriter(ShardedModel):
    """A ``TextModel`` over an executor, with a ledger of its own; errors name the setting that the model comes from."""

    def __init__(self, executor: Executor, setting: str = "optimizer_model") -> None:
        super().__init__(executor, None)
        self._setting = setting

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        """Continue every conversation; see ``TextModel``. Every row has a seed of its own."""
        seeds = tuple(seed * 2**20 + row for row in range(len(conversations)))
        try:
            return self.ask(Generate(tuple(conversations), seeds, max_tokens, temperature))
        except ModelError as error:
            raise error.renamed("model", self._setting) from None

    def note_unreadable(self, count: int) -> None:
        """Count replies that could not be read; see ``TextModel``."""
        self.meter.add(Usage(unreadable=count))

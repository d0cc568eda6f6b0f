"""How far a search is, and its way into the run folder and back.

A checkpoint follows every step and vouches for all lines written before it, so a run that was killed at any moment
continues from the last finished step.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from greater_ray.files import UNFIT, unfit
from greater_ray.protocols import Method, MethodState
from greater_ray.records import StepRecord
from greater_ray.sharding import ShardedModel, ShardedWriter
from greater_ray.store import RunStore
from greater_ray.types import Usage
from greater_ray.work.memory import KEPT


@dataclass
class Search:
    """Where a search stands beside what its models know.

    ``proposals`` counts what became of what the writer has proposed; ``stop_reason`` is None while the search goes on.
    """

    state: MethodState
    elapsed: float = 0.0
    stop_reason: str | None = None
    proposals: Counter[str] = field(default_factory=Counter)


class Checkpoint:
    """Saves a search with the memory and the ledgers of its models, and brings all of it back."""

    def __init__(self, store: RunStore, model: ShardedModel, writer: ShardedWriter) -> None:
        self.store, self.model, self.writer = store, model, writer

    def load(self, method: Method[Any, Any]) -> Search | None:
        """Return the search as it was last saved, with its models as they were then; None for a new run.

        Raises:
            StoreError: the checkpoint, or a line that it vouches for, is broken.
        """
        saved = self.store.load_state()
        if saved is None:
            return None
        for kept in KEPT:
            self.model.memory.restore(kept, self.store.lines(kept.name).read_as(kept.read))
        try:
            self.model.meter.restore(Usage(**saved["usage"]), saved["seen_prefixes"])
            # What writes reads no rows, so it has seen none.
            self.writer.meter.restore(Usage(**saved["optimizer_usage"]))
            state = method.state_type.model_validate(saved["method_state"])
            # A folder of an earlier version has no counts.
            proposals = Counter(saved.get("proposals", {}))
            return Search(state, float(saved["elapsed"]), saved["stop_reason"], proposals)
        except UNFIT as error:
            raise self.store.unfit_state(unfit(error)) from error

    def save_step(self, search: Search, record: StepRecord) -> None:
        """Write down a step and vouch for it."""
        self.store.steps.append([record.model_dump(mode="json")])
        self.save(search)

    def save(self, search: Search) -> None:
        """Write what is new in memory, then the checkpoint that vouches for it."""
        for kept in KEPT:
            self.store.lines(kept.name).append(self.model.memory.fresh(kept))
        self.store.save_state(
            {
                "method_state": search.state.model_dump(mode="json"),
                "usage": asdict(self.model.usage),
                "optimizer_usage": asdict(self.writer.usage),
                "proposals": search.proposals,
                "seen_prefixes": self.model.meter.seen,
                "elapsed": search.elapsed,
                "stop_reason": search.stop_reason,
            }
        )

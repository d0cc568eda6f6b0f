"""The figures of one record: scores before and after the search on every split, and what each part has cost."""

from collections.abc import Collection
from dataclasses import dataclass

from greater_ray.records import TrialRecord
from greater_ray.types import Usage

# Which split is shown where there is room for one: rows that no prompt was selected on tell most about new rows.
SPLITS_SHOWN = ("test", "dev", "train")


@dataclass(frozen=True, slots=True)
class SplitScore:
    """Start prompt against found prompt on the rows of one split. Accuracies are shares from 0 to 1.

    ``selection`` tells that the prompt was selected on this split, here or under a transfer's source: such rows tell
    nothing about new ones. ``interval`` is the 95 % interval of ``after``. ``change`` with its interval and exact p,
    and ``loss_interval`` (of the change in the mean cross-entropy of the label, nats), are paired; they are None where
    the prompt has not changed. Losses are None where the model does not tell likelihoods.
    """

    split: str
    selection: bool
    rows: int
    before: float
    after: float
    interval: tuple[float, float]
    change: float | None
    change_interval: tuple[float, float] | None
    p_value: float | None
    loss_before: float | None
    loss_after: float | None
    loss_interval: tuple[float, float] | None


def scores(record: TrialRecord, selection_splits: Collection[str] = ()) -> list[SplitScore]:
    """Return the scores of a record by split; ``selection_splits`` are those of a transfer's source."""
    found = []
    for split in record.config.evaluation.splits:
        before, after = record.evaluation(split, record.initial), record.evaluation(split, record.best)
        if before is None or after is None:
            continue
        change = next((c for c in record.comparisons if c.split == split), None)
        found.append(
            SplitScore(
                split=split,
                selection=split in {*record.chosen_by, *selection_splits},
                rows=after.num_examples,
                before=before.accuracy,
                after=after.accuracy,
                interval=after.accuracy_interval,
                change=change.difference if change else None,
                change_interval=change.interval if change else None,
                p_value=change.p_value if change else None,
                loss_before=before.label_ce,
                loss_after=after.label_ce,
                loss_interval=change.label_ce_interval if change else None,
            )
        )
    return found


def costs(record: TrialRecord) -> dict[str, Usage]:
    """Return the ledgers of a trial apart: the task model's search, the model that writes, the final evaluation."""
    return {
        "search": record.optimization_usage,
        "writer": record.optimizer_usage,
        "evaluation": record.evaluation_usage,
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stays in memory of a record that was read: its figures and prompts, not its answers."""

    scores: list[SplitScore]
    costs: dict[str, Usage]
    chosen_by: tuple[str, ...]
    prompt: str
    start_prompt: str
    steps: int
    stop_reason: str
    proposals: dict[str, int]
    no_improvement: bool


def outcome(record: TrialRecord, selection_splits: Collection[str] = ()) -> Outcome:
    """Return what stays in memory of a record; ``selection_splits`` as in ``scores``."""
    return Outcome(
        scores=scores(record, selection_splits),
        costs=costs(record),
        chosen_by=record.chosen_by,
        prompt=record.best.full_text,
        start_prompt=record.initial.full_text,
        steps=record.steps,
        stop_reason=record.stop_reason,
        proposals=record.proposals,
        no_improvement=record.no_improvement,
    )

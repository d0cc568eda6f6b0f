"""A search as points of a curve: what is told of the prompt after every step, over the tokens that were spent."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from greater_ray.records import StepRecord, TrialRecord
from greater_ray.results.remembered import OnRows
from greater_ray.types import TokenIds


class CurvePoint(NamedTuple):
    """The prompt after so many tokens of search and writer: the method's criterion, and loss and hits as ``OnRows``."""

    tokens: int
    criterion: float | None
    loss: float | None
    hits: float | None


def curve(
    steps: Sequence[StepRecord], record: TrialRecord | None, measured: Mapping[TokenIds, OnRows]
) -> list[CurvePoint]:
    """Return a point for the start prompt, where there is a record to tell it, and one for every step."""
    points = [(0, record.initial.loss, record.initial.ids)] if record else []
    points += [(step.usage.tokens + step.optimizer_usage.tokens, step.loss, step.prompt_ids) for step in steps]
    return [
        CurvePoint(tokens, loss, *(measured[ids][1:] if ids in measured else (None, None)))
        for tokens, loss, ids in points
    ]

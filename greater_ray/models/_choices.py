"""Answers that are a closed set: the label against the other choices."""

from dataclasses import replace

import torch
from torch import Tensor

from greater_ray.errors import DataError
from greater_ray.models._decode import RowResult
from greater_ray.models._spans import SpanBuilder
from greater_ray.types import LossSpec, Rollout, Shard, TokenIds


def choice_ids(spans: SpanBuilder, shard: Shard, loss: LossSpec) -> tuple[TokenIds, ...]:
    """Return the ids of all choices where the loss compares them, else none.

    Raises:
        ConfigError: the task's answers are no closed set.
        DataError: a row's label is none of the choices.
    """
    if loss.label == "ce":
        return ()
    for example in shard:
        if spans.label(example) not in spans.choices:
            raise DataError(f"row '{example.id}': the label '{example.label}' is none of the task's choices.")
    return spans.choices


def choice_loss(nlls_C: Tensor, label: int) -> Tensor:
    """Minus the log of the label's share among choices with these mean negative log-likelihoods ``[C]``."""
    return -torch.log_softmax(-nlls_C, dim=0)[label]


def rollout_of(row: RowResult, label: int | None = None) -> Rollout:
    """Return a row's rollout; with the number of its label among the choices, what the choices tell."""
    rollout = Rollout(row.reasoning, row.truncated, row.label_ce, row.prompt_nll, row.label_hit)
    if not row.choice_nlls or label is None:
        return rollout
    nlls = torch.tensor(row.choice_nlls, dtype=torch.float64)
    best = row.choice_nlls.index(min(row.choice_nlls))
    return replace(rollout, choice_ce=float(choice_loss(nlls, label)), choice_hit=best == label)

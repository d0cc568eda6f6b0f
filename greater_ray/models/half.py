"""What half precision changes on the rows at hand: the same weights computed in float32, beside."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from greater_ray.models._head import HALF
from greater_ray.models.checks import packed_copies
from greater_ray.models.engine import Engine
from greater_ray.types import Layout, LossSpec, Shard, TokenIds
from greater_ray.work import Rollouts


class HalfCheck(NamedTuple):
    """How far a model in half precision is from its own weights in float32.

    ``tokens`` is the share of greedy tokens before the first other one, ``loss`` the largest difference of a label's
    or prompt's loss on the same reasoning, ``scale`` the largest such loss.
    """

    tokens: float
    rows: int
    equal_rows: int
    loss: float
    scale: float


def is_half(engine: Engine) -> bool:
    """Tell whether an engine's weights are in half precision."""
    return engine.model.dtype in HALF


def check_half(engine: Engine, layout: Layout, shard: Shard, prompt: TokenIds) -> HalfCheck:
    """Decode the rows in both precisions, and score the float32 reasoning in both.

    The copy in float32 needs 4 bytes per parameter.
    """
    wide = Engine(_widened(engine.model), engine.tokenizer)
    loss = LossSpec(fluency="nll")
    (decoded,), _ = engine.rollouts(Rollouts(shard, [prompt], loss), layout)
    (right,), _ = wide.rollouts(Rollouts(shard, [prompt], loss), layout)
    given = Rollouts(shard, [prompt], loss, reasoning=[r.reasoning for r in right])
    (scored,), _ = engine.rollouts(given, layout)
    equal = [_common(a.reasoning, b.reasoning) for a, b in zip(decoded, right, strict=True)]
    pairs = [(a.label_loss(loss), b.label_loss(loss)) for a, b in zip(scored, right, strict=True)]
    pairs += [(a.fluency(loss), b.fluency(loss)) for a, b in zip(scored, right, strict=True)]
    return HalfCheck(
        tokens=sum(equal) / max(1, sum(len(r.reasoning) for r in right)),
        rows=len(shard),
        equal_rows=sum(a.reasoning == b.reasoning for a, b in zip(decoded, right, strict=True)),
        loss=max(abs(a - b) for a, b in pairs),
        scale=max(abs(b) for _, b in pairs),
    )


def _widened(model: Any) -> Any:
    """Copy a model in float32, without its weights' packed copies."""
    return copy.deepcopy(model, {id(tensor): None for tensor in packed_copies(model)}).to(torch.float32)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Count equal tokens at the beginning."""
    return next(
        (k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )

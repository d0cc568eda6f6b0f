"""Plain attention that serves every architecture, soft-capping included, and keeps float64 where the model has it.

transformers' own eager attention takes the softmax in float32 and copies keys and values once per query head of a
group. Here the softmax is at least as wide as the model, and the heads of a group share their keys and values.

Both attentions here also take a prefix that several rows have in common: the candidates of a question attend to its
keys and values in one product, so that they are read once and never copied.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from greater_ray.models._kv import Common

WIDE, SHARED = "wide_eager", "shared_sdpa"
# With more queries a row, scores in full would take more memory than a copy of the prefix for every row.
MOST_QUERIES = 64


def wide_eager_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend ``[B, Hq, Q, D]`` over ``[B, H, S, D]`` with an additive mask ``[B, 1, Q, S]``, to ``[B, Q, Hq, D]``."""
    common: Common | None = getattr(key, "common_prefix", None)
    if common is not None:
        assert attention_mask is not None
        if query.shape[2] <= MOST_QUERIES:
            return _behind_common(query, key, value, attention_mask, common, scaling, softcap), None
        key, value = _joined(key, value, common)
    rows, query_heads, num_queries, size = query.shape
    heads = key.shape[1]
    grouped = query.reshape(rows, heads, query_heads // heads * num_queries, size)
    scores = grouped @ key.transpose(2, 3) * (size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(rows, query_heads, num_queries, -1)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : scores.shape[-1]]
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    weights = torch.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    mixed = weights.view(rows, heads, -1, weights.shape[-1]) @ value
    return mixed.view(rows, query_heads, num_queries, -1).transpose(1, 2).contiguous(), None


def shared_sdpa_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does, but where rows have a prefix in common."""
    common: Common | None = getattr(key, "common_prefix", None)
    if common is not None:
        assert attention_mask is not None
        if query.shape[2] <= MOST_QUERIES:
            return _behind_common(query, key, value, attention_mask, common, options.get("scaling")), None
        key, value = _joined(key, value, common)
    mixed: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
    return mixed, None


def _joined(key: Tensor, value: Tensor, common: Common) -> tuple[Tensor, Tensor]:
    """Return whole keys and values, with a copy of the prefix for every row."""
    members = common.lanes.members
    return torch.cat([common.keys[members], key], dim=2), torch.cat([common.values[members], value], dim=2)


def _behind_common(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    common: Common,
    scaling: float | None,
    softcap: float | None = None,
) -> Tensor:
    """Attend ``[B, Hq, Q, D]`` over a prefix of ``[N, H, P, D]`` and own keys ``[B, H, S, D]``; to ``[B, Q, Hq, D]``.

    All queries of one row of the prefix are one product with it. The softmax is over both, so nothing is merged later.
    """
    rows, query_heads, num_queries, size = query.shape
    heads, length, lanes = key.shape[1], common.keys.shape[2], common.lanes
    count, width, each = lanes.count, lanes.width, query_heads // heads * num_queries
    own = query.reshape(rows, heads, each, size)

    # Whole rows are gathered, and the heads put in order by a plain copy: half the time of one indexing of both.
    def by_prefix(states: Tensor) -> Tensor:
        """``[B, H, each, X]`` to ``[N * H, width * each, X]``."""
        states = states.reshape(rows, -1).index_select(0, lanes.asked).view(count, width, heads, each, -1)
        return states.transpose(1, 2).reshape(count * heads, width * each, -1)

    def by_row(states: Tensor) -> Tensor:
        """The way back."""
        states = states.view(count, heads, width, each, -1).transpose(1, 2).reshape(count * width, -1)
        return states.index_select(0, lanes.of_place).view(rows, heads, each, -1)

    before = by_row(torch.bmm(by_prefix(own), common.keys.flatten(0, 1).transpose(1, 2)))
    scores = torch.cat([before, own @ key.transpose(2, 3)], dim=-1)
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    scores = scores.to(wide).mul_(size**-0.5 if scaling is None else scaling).view(rows, query_heads, num_queries, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores += mask[..., : scores.shape[-1]]
    weights = torch.softmax(scores, dim=-1).to(query.dtype).view(rows, heads, each, -1)
    mixed = weights[..., length:] @ value
    mixed += by_row(torch.bmm(by_prefix(weights[..., :length]), common.values.flatten(0, 1)))
    return mixed.view(rows, query_heads, num_queries, size).transpose(1, 2).contiguous()


def register() -> str:
    """Make the plain implementation known to transformers and return its name."""
    AttentionInterface.register(WIDE, wide_eager_attention)
    AttentionMaskInterface.register(WIDE, eager_mask)
    return WIDE


def use_own_attention(model: Any) -> None:
    """Give a model the attention of this module in place of transformers' eager one, and on a CPU of sdpa."""
    if model.config._attn_implementation == "eager":
        model.set_attn_implementation(register())
    elif model.config._attn_implementation == "sdpa" and next(model.parameters()).device.type == "cpu":
        AttentionInterface.register(SHARED, shared_sdpa_attention)
        AttentionMaskInterface.register(SHARED, sdpa_mask)
        model.set_attn_implementation(SHARED)

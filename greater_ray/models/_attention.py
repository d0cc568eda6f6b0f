"""Plain attention that serves every architecture, soft-capping included, and keeps float64 where the model has it.

transformers' own eager attention takes the softmax in float32 and copies keys and values once per query head of a
group. Here the softmax is at least as wide as the model, and the heads of a group share their keys and values.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

WIDE = "wide_eager"


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


def register() -> str:
    """Make the implementation known to transformers and return its name."""
    AttentionInterface.register(WIDE, wide_eager_attention)
    AttentionMaskInterface.register(WIDE, eager_mask)
    return WIDE

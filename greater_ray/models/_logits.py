"""What is read off logits: losses of given tokens, and the likeliest tokens.

Shape suffixes: B rows, Q places, N places of any rows, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from greater_ray.types import TokenIds

# Numbers of logits whose softmax is taken at once for losses; on a CPU what its caches hold, three times as fast.
_LOSS_ENTRIES, _LOSS_ENTRIES_CPU = 2**24, 2**20


def widen(logits: Tensor) -> Tensor:
    """Logits in at least float32: half precision ties often, and a loss in it is a rounded one."""
    return logits if logits.dtype == torch.float64 else logits.float()


def token_losses(logits_BQV: Tensor, targets_BQ: Tensor, temperature: float = 1.0) -> list[list[float]]:
    """Cross-entropy of every target under logits divided by ``temperature``, in nats, at least in float32.

    A GPU is waited for once, not once a row. So many rows at a time as keep the softmax small.
    """
    num_rows, num_places, size = logits_BQV.shape
    entries = _LOSS_ENTRIES_CPU if logits_BQV.device.type == "cpu" else _LOSS_ENTRIES
    step = max(1, entries // (num_places * size))
    targets_BQ, parts = targets_BQ.to(logits_BQV.device), []
    for start in range(0, num_rows, step):
        wide = widen(logits_BQV[start : start + step])
        wide = wide if temperature == 1.0 else wide / temperature
        few = targets_BQ[start : start + step]
        parts.append(torch.nn.functional.cross_entropy(wide.flatten(0, 1), few.flatten(), reduction="none"))
    losses: list[list[float]] = torch.cat(parts).view(num_rows, num_places).tolist()
    return losses


def mean(values: Sequence[float]) -> float:
    """Mean of some losses, rounded once, so that it does not depend on how rows were padded; 0 of none."""
    return math.fsum(values) / len(values) if values else 0.0


def best_tokens(logits_V: Tensor, banned_V: Tensor, depth: int) -> TokenIds:
    """The ``depth`` likeliest tokens that are not banned, best first; equal ones by token id."""
    return ranked_tokens(logits_V[None], banned_V, depth)[0]


def ranked_tokens(logits_NV: Tensor, banned_V: Tensor, depth: int) -> list[TokenIds]:
    """``best_tokens`` of several rows of logits."""
    masked = widen(logits_NV).masked_fill(banned_V.to(logits_NV.device), -torch.inf)
    values, tokens = masked.topk(min(depth, masked.shape[1]))
    return [
        tuple(token for value, token in sorted(pairs, key=lambda pair: (-pair[0], pair[1])) if value > -torch.inf)
        for pairs in map(list, map(zip, values.tolist(), tokens.tolist()))
    ]

"""The gradient of the loss through the reasoning, in one batched backward pass (paper 4.2-4.4, Eq. 5-7).

The one-hot gradient of the paper, dL/d eps_i, is ``E @ dL/d e_i`` with e_i the input embedding at position i and E the
embedding rows of the candidates; so one backward pass with respect to the prompt's embeddings serves every candidate,
and the same forward pass yields the proposal logits. Reasoning tokens are constants.

Shape suffixes: B rows, T tokens, N prompt tokens, V vocabulary, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from greater_ray.models._decode import Decoder, Parts, widen
from greater_ray.models._kv import NEVER, Prefix, Rows
from greater_ray.types import LossSpec, TokenIds


@dataclass(frozen=True, slots=True)
class RowGradient:
    """Gradient ``[N, D]`` of one row's loss, the loss, and the logits ``[N, V]`` that score the prompt's tokens."""

    gradient: Tensor
    loss: float
    logits: Tensor


def row_gradients(
    decoder: Decoder,
    prefix: Prefix,
    rows: Rows,
    parts: Sequence[Parts],
    reasoning: Sequence[TokenIds],
    extractor: TokenIds,
    loss: LossSpec,
) -> list[RowGradient]:
    """Return one gradient per row, for rows of one prompt; ``rows`` are their places in the prefix."""
    prompt = parts[0].prompt
    num_prompt, longest_y = len(prompt), max(len(p.label) for p in parts)
    longest = max(len(p.suffix) + len(r) for p, r in zip(parts, reasoning, strict=True))
    ids, positions = [], []
    for part, r in zip(parts, reasoning, strict=True):
        gap, tail = longest - len(part.suffix) - len(r), longest_y - len(part.label)
        body = [part.head[-1], *prompt, *part.suffix, *r]
        begin = len(part.head) - 1
        ids.append(body + [decoder.pad] * gap + [*extractor, *part.label] + [decoder.pad] * tail)
        end = begin + len(body)
        after = range(end, end + len(extractor) + longest_y)
        positions.append([*range(begin, end), *[NEVER] * gap, *after])
    ids_BT = torch.tensor(ids, device=decoder.device)
    positions_BT = torch.tensor(positions, device=decoder.device)
    embed = decoder.model.get_input_embeddings()
    prompt_BND = embed(ids_BT[:, 1 : 1 + num_prompt]).detach().requires_grad_(True)
    embeds_BTD = torch.cat([embed(ids_BT[:, :1]), prompt_BND, embed(ids_BT[:, 1 + num_prompt :])], dim=1)
    label_start = ids_BT.shape[1] - longest_y
    keep = torch.tensor([*range(num_prompt), *range(label_start - 1, label_start - 1 + longest_y)])
    output = decoder.model(
        inputs_embeds=embeds_BTD,
        attention_mask=decoder.masks.build(positions_BT, torch.cat([prefix.positions[rows], positions_BT], dim=1)),
        position_ids=positions_BT.clamp(min=0),
        past_key_values=prefix.cache(rows),
        use_cache=True,
        logits_to_keep=keep.to(decoder.device),
    )
    logits_BQV = output.logits
    losses = torch.stack(
        [
            sample_loss(
                logits_BQV[b, :num_prompt], prompt, logits_BQV[b, num_prompt:][: len(part.label)], part.label, loss
            )
            for b, part in enumerate(parts)
        ]
    )
    (gradient_BND,) = torch.autograd.grad(losses.sum(), prompt_BND)
    return [
        RowGradient(gradient_BND[b], float(losses[b].detach()), logits_BQV[b, :num_prompt].detach())
        for b in range(len(parts))
    ]


def sample_loss(
    prompt_logits: Tensor, prompt: TokenIds, label_logits: Tensor, label: TokenIds, loss: LossSpec
) -> Tensor:
    """L of one sample (paper Eq. 6): ``[N, V]`` and ``[Y, V]`` logits to a scalar, in at least float32."""
    device = prompt_logits.device
    entropy = torch.nn.functional.cross_entropy
    ce = entropy(widen(label_logits) / loss.ce_temperature, torch.tensor(label, device=device))
    nll = entropy(widen(prompt_logits), torch.tensor(prompt, device=device))
    return ce + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll)

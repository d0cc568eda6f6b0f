"""The gradient of the loss through the reasoning, in one batched backward pass (paper 4.2-4.4, Eq. 5-7).

The one-hot gradient of the paper, dL/d eps_i, is ``E @ dL/d e_i`` with e_i the input embedding at position i and E the
embedding rows of the candidates; so one backward pass with respect to the prompt's embeddings serves every candidate,
and the same forward pass yields the proposal logits. Reasoning tokens are constants, and so is all that stands in front
of the first position that is asked for: it is run without autograd.

Shape suffixes: B rows, T tokens, N prompt tokens, V vocabulary, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from greater_ray.models._choices import choice_loss
from greater_ray.models._decode import Decoder, Parts, RowBatch
from greater_ray.models._kv import NEVER, Prefix
from greater_ray.models._logits import widen
from greater_ray.types import LossSpec, TokenIds


@dataclass(frozen=True, slots=True)
class RowGradient:
    """Gradient ``[N, D]`` of one row's loss for the prompt's tokens from ``first`` on, the loss, and their logits.

    ``logits`` ``[N, V]`` score these tokens.
    """

    gradient: Tensor
    loss: float
    logits: Tensor


class Beginning(NamedTuple):
    """Rows of which all before the prompt's token ``first`` is run, and that token's logits ``[B, V]``."""

    batch: RowBatch
    logits: Tensor
    first: int


@torch.no_grad()
def begin(decoder: Decoder, prefix: Prefix, rows: Sequence[int], parts: Sequence[Parts], first: int) -> Beginning:
    """Run heads' last tokens and the prompt's first ones, without autograd; ``rows`` are places in the prefix."""
    batch = RowBatch(decoder, prefix, rows, [Parts(p.head, p.prompt[:first], (), ()) for p in parts])
    return Beginning(batch, batch.prefill(0, share=False), first)


def row_gradients(
    decoder: Decoder,
    begun: Beginning,
    parts: Sequence[Parts],
    reasoning: Sequence[TokenIds],
    extractor: TokenIds,
    loss: LossSpec,
    choices: Sequence[TokenIds] = (),
) -> list[RowGradient]:
    """Return one gradient per row, for rows of one prompt of which the first tokens are run.

    ``choices`` are all labels, for a loss that compares them: they stand behind the extractor in place of the label,
    as alternatives that do not see each other.
    """
    first, next_logits_BV, store = begun.first, begun.logits, begun.batch.store
    prompt, num_prompt = parts[0].prompt[first:], len(parts[0].prompt) - first
    longest = max(len(p.suffix) + len(r) for p, r in zip(parts, reasoning, strict=True))
    longest_y = sum(map(len, choices)) or max(len(p.label) for p in parts)
    ids, positions = [], []
    for part, r in zip(parts, reasoning, strict=True):
        gap = longest - len(part.suffix) - len(r)
        alternatives = choices or (part.label,)
        tail = longest_y - sum(map(len, alternatives))
        body = [*prompt, *part.suffix, *r]
        begin = len(part.head) + first
        flat = [token for alternative in alternatives for token in alternative]
        ids.append(body + [decoder.pad] * gap + [*extractor, *flat] + [decoder.pad] * tail)
        end = begin + len(body)
        start = end + len(extractor)
        after = [start + k for alternative in alternatives for k in range(len(alternative))]
        after += range(start + len(flat), start + longest_y)
        positions.append([*range(begin, end), *[NEVER] * gap, *range(end, start), *after])
    ids_BT = torch.tensor(ids, device=decoder.device)
    positions_BT = torch.tensor(positions, device=decoder.device)
    embed = decoder.model.get_input_embeddings()
    prompt_BND = embed(ids_BT[:, :num_prompt]).detach().requires_grad_(True)
    embeds_BTD = torch.cat([prompt_BND, embed(ids_BT[:, num_prompt:])], dim=1)
    label_start = ids_BT.shape[1] - longest_y
    groups = None
    if choices:
        numbers = [number for number, choice in enumerate(choices, 1) for _ in choice]
        groups = torch.tensor([0] * label_start + numbers, device=decoder.device)
    # The first token's logits are known; those of the last one belong to the suffix.
    keep = torch.tensor([*range(num_prompt - 1), *range(label_start - 1, label_start - 1 + longest_y)])
    output = decoder.model(
        inputs_embeds=embeds_BTD,
        attention_mask=decoder.masks.build(positions_BT, torch.cat([store.positions, positions_BT], dim=1), groups),
        position_ids=positions_BT.clamp(min=0),
        past_key_values=store.as_prefix().cache(),
        use_cache=True,
        logits_to_keep=keep,
    )
    logits_BQV = output.logits
    sums, scores = [], []
    for b, part in enumerate(parts):
        own = torch.cat([next_logits_BV[b : b + 1], logits_BQV[b, : num_prompt - 1]])
        scores.append(own.detach())
        nll = (first * begun.batch.results[b].prompt_nll + num_prompt * mean_nll(own, prompt)) / (first + num_prompt)
        sums.append(sample_loss(nll, _label_loss(logits_BQV[b, num_prompt - 1 :], part, choices, loss), loss))
    losses = torch.stack(sums)
    (gradient_BND,) = torch.autograd.grad(losses.sum(), prompt_BND)
    values = losses.detach().tolist()
    return [RowGradient(gradient_BND[b], values[b], scores[b]) for b in range(len(parts))]


def _label_loss(logits_QV: Tensor, part: Parts, choices: Sequence[TokenIds], loss: LossSpec) -> Tensor:
    """Return the label's term from the logits ``[Q, V]`` at the extractor's last token and those behind it."""
    if not choices:
        return mean_nll(logits_QV[: len(part.label)], part.label, loss.ce_temperature)
    begin, nlls = 1, []
    for choice in choices:
        # The first token of every choice follows the extractor; the last one's own logits are not read.
        own = torch.cat([logits_QV[:1], logits_QV[begin : begin + len(choice) - 1]])
        nlls.append(mean_nll(own, choice, loss.ce_temperature))
        begin += len(choice)
    return choice_loss(torch.stack(nlls), choices.index(part.label))


def mean_nll(logits_QV: Tensor, tokens: TokenIds, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of ``tokens`` under ``[Q, V]`` logits, in at least float32."""
    targets = torch.tensor(tokens, device=logits_QV.device)
    return torch.nn.functional.cross_entropy(widen(logits_QV) / temperature, targets)


def sample_loss(nll: Tensor, label_loss: Tensor, loss: LossSpec) -> Tensor:
    """L of one sample (paper Eq. 6) from its prompt's mean NLL and the label's term."""
    return label_loss + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll)

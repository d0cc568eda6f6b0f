"""A trial of every architecture at load: do its attention and positions follow what the engine gives them?

What is computed with slots, positions and masks of our own is compared with plain passes, one per row. Attention that
takes distances from elsewhere (ALiBi) or keeps other states than keys and values would give other numbers in silence.
"""

from dataclasses import replace

import torch

from greater_ray.errors import ModelError
from greater_ray.models._decode import Decoder, Parts, RowBatch
from greater_ray.models._kv import NEVER, Prefix, SlotStore
from greater_ray.models._memory import is_out_of_memory
from greater_ray.types import TokenIds

_LENGTHS = (7, 4)
_FIRST = 3  # tokens whose keys are kept, and read by the rest
_GAP = 2
# Largest accepted difference of logits, as a share of the largest one.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_HALF_TOLERANCE = 0.1


@torch.no_grad()
def refuse_unsupported(decoder: Decoder, vocabulary: int) -> None:
    """Run a few tokens both ways.

    Raises:
        ModelError: the two differ, or the model does not take what the engine gives it.
    """
    name = type(decoder.model).__name__
    try:
        error = _difference(decoder, vocabulary)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as problem:
        if isinstance(problem, RuntimeError) and is_out_of_memory(problem):
            raise
        reason = (str(problem).strip().splitlines() or [""])[0][:120].rstrip(".")
        why = f"{name} is not supported: it does not take masks and positions ({type(problem).__name__}: {reason})."
        raise ModelError(why, setting="model.name") from problem
    if not error <= _TOLERANCE.get(decoder.model.dtype, _HALF_TOLERANCE):
        why = f"{name} is not supported: its attention does not go by the positions of tokens alone."
        raise ModelError(why, setting="model.name")


@torch.no_grad()
def takes_common_prefix(decoder: Decoder, vocabulary: int) -> bool:
    """Tell whether rows may stand behind one row of a prefix without copies of it: run so, they give equal logits.

    An architecture that changes keys between cache and attention loses the prefix there.
    """
    nothing = Prefix(torch.empty(1, 0, dtype=torch.long, device=decoder.device), [])
    first = RowBatch(decoder, nothing, [0], [Parts(_some(_FIRST + 1, vocabulary), (), (), ())])
    first.prefill(0, share=False)
    first.store.positions[:, -1] = NEVER
    prefix, head = first.store.as_prefix(), first.parts[0].head
    parts = [Parts(head, (k,), (k + 1,), ()) for k in range(3)]
    found = []
    for shares in (False, True):
        batch = RowBatch(replace(decoder, shares=shares), prefix, [0] * len(parts), parts)
        try:
            found.append(batch.prefill(0))
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as problem:
            if isinstance(problem, RuntimeError) and is_out_of_memory(problem):
                raise
            return False
    plain, shared = (logits.double() for logits in found)
    error = float((plain - shared).abs().max() / plain.abs().max().clamp(min=1e-9))
    return error <= _TOLERANCE.get(decoder.model.dtype, _HALF_TOLERANCE)


def _some(length: int, vocabulary: int) -> TokenIds:
    return tuple((7 * k + 3) % vocabulary for k in range(length))


def _difference(decoder: Decoder, vocabulary: int) -> float:
    device = decoder.device
    rows = [list(_some(length, vocabulary)) for length in _LENGTHS]
    # Each row ends in the last slot, and slots that no row uses lie behind its first tokens.
    tails = [len(row) - _FIRST for row in rows]
    slots = _FIRST + _GAP + max(tails)
    unused = [slots - len(row) for row in rows]
    ids = torch.tensor(
        [row[:_FIRST] + [decoder.pad] * gap + row[_FIRST:] for row, gap in zip(rows, unused, strict=True)],
        device=device,
    )
    places = [[*range(_FIRST), *[NEVER] * gap, *range(_FIRST, len(row))] for row, gap in zip(rows, unused, strict=True)]
    positions = torch.tensor(places, device=device)
    store = SlotStore(decoder.num_layers, len(rows), slots, device)
    for start, stop in ((0, _FIRST), (_FIRST, slots)):
        store.positions[:, start:stop] = positions[:, start:stop]
        output = decoder.model(
            input_ids=ids[:, start:stop],
            attention_mask=decoder.masks.build(positions[:, start:stop], store.positions[:, :stop]),
            position_ids=positions[:, start:stop].clamp(min=0),
            past_key_values=store.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        store.extent.cursor = stop
    worst = 0.0
    for row, logits in zip(rows, output.logits[:, -1], strict=True):
        plain = decoder.model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0, -1]
        difference = (plain.double() - logits.double()).abs().max() / plain.double().abs().max().clamp(min=1e-9)
        worst = max(worst, float(difference))
    return worst

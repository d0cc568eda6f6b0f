"""Keys and values of heads, computed once per shard and kept while memory allows."""

from collections import OrderedDict
from typing import Any

import torch

from greater_ray.models._decode import Decoder
from greater_ray.models._kv import NEVER, Prefix, SlotStore
from greater_ray.models._memory import MicroBatch
from greater_ray.types import TokenIds

Heads = tuple[TokenIds, ...]

# So many tokens that all rows of a shard begin with are run once for all of them; fewer are not worth a pass.
LEAST_SHARED = 16


class Prefixes(OrderedDict[Heads, Prefix]):
    """Prefixes by the heads of their rows, the longest unused first; ``memory`` is how many bytes may be kept."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.memory = memory
        # The heads that the running unit of work reads.
        self.in_use: Heads | None = None

    def evict(self) -> bool:
        """Drop the heads that the running unit of work does not read; tell whether there were any."""
        others = [heads for heads in self if heads != self.in_use]
        for heads in others:
            del self[heads]
        return bool(others)

    @torch.no_grad()
    def of(self, heads: Heads, decoder: Decoder, batch: MicroBatch) -> Prefix:
        """Return keys and values of heads but for their last tokens, computed where they are not known."""
        self.in_use = heads
        if heads in self:
            self.move_to_end(heads)
            return self[heads]
        prefix = self[heads] = _prefill(heads, decoder, batch)
        while sum(p.nbytes for p in self.values()) > self.memory and len(self) > 1:
            self.popitem(last=False)
        return prefix


def shared_length(heads: Heads) -> int:
    """Return how many tokens all heads begin with, but for their last tokens; 0 where that is too short to pay."""
    if len(heads) == 1:
        return 0
    length = 0
    for tokens in zip(*(head[:-1] for head in heads), strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length if length >= LEAST_SHARED else 0


def fed_tokens(heads: Heads) -> int:
    """Return how many tokens the model reads for these heads, what they share once."""
    shared = shared_length(heads)
    return shared + sum(len(head) - 1 - shared for head in heads)


def _prefill(heads: Heads, decoder: Decoder, batch: MicroBatch) -> Prefix:
    """Run all heads in the order of their rows: what they share as a row of its own, the rest of each behind it.

    The slots of the shared tokens come first, then the others, padded on the left.
    """
    shared = shared_length(heads)
    common = None
    if shared:
        common = _prefill((heads[0][: shared + 1],), decoder, batch)
    rests = [head[shared:-1] for head in heads]
    length = max(map(len, rests))
    pads = [length - len(rest) for rest in rests]
    ids = torch.tensor([[decoder.pad] * pad + list(rest) for rest, pad in zip(rests, pads, strict=True)])
    own = torch.tensor([[NEVER] * pad + list(range(shared, shared + length - pad)) for pad in pads])
    ids, own = ids.to(decoder.device), own.to(decoder.device)
    positions = own if common is None else torch.cat([common.positions.expand(len(heads), -1), own], dim=1)
    # All rows of a layer lie in one block: joined piece by piece within what is tried again.
    layers: list[Any] = [] if length else [(None, None)] * decoder.num_layers

    def work(start: int, stop: int) -> list[None]:
        store = SlotStore(decoder.num_layers, stop - start, shared + length, decoder.device)
        if common is not None:
            store.put_prefix(common, [0] * (stop - start))
        decoder.model(
            input_ids=ids[start:stop],
            attention_mask=decoder.masks.build(own[start:stop], positions[start:stop]),
            position_ids=own[start:stop].clamp(min=0),
            past_key_values=store.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        store.copy_to(layers, start, len(heads))
        return [None] * (stop - start)

    if length:
        batch.map(work, len(heads))
    elif common is not None:
        # They differ in their last tokens alone.
        layers = [tuple(part.expand(len(heads), -1, -1, -1) for part in pair) for pair in common.layers]
    return Prefix(positions, layers)

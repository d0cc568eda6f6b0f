"""Keys and values of heads, computed once per shard and kept while memory allows."""

from collections import OrderedDict
from typing import Any

import torch

from greater_ray.models._decode import Decoder
from greater_ray.models._kv import NEVER, Prefix, SlotStore
from greater_ray.models._memory import MicroBatch
from greater_ray.types import TokenIds

Heads = tuple[TokenIds, ...]


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


def _prefill(heads: Heads, decoder: Decoder, batch: MicroBatch) -> Prefix:
    length = max(map(len, heads)) - 1
    pads = [length - (len(h) - 1) for h in heads]
    ids = torch.tensor([[decoder.pad] * pad + list(h[:-1]) for h, pad in zip(heads, pads, strict=True)])
    positions = torch.tensor([[NEVER] * pad + list(range(len(h) - 1)) for h, pad in zip(heads, pads, strict=True)])
    ids, positions = ids.to(decoder.device), positions.to(decoder.device)
    # All rows of a layer lie in one block: joined piece by piece within what is tried again.
    layers: list[Any] = [] if length else [(None, None)] * decoder.num_layers

    def work(start: int, stop: int) -> list[None]:
        store = SlotStore(decoder.num_layers, stop - start, length, decoder.device)
        decoder.model(
            input_ids=ids[start:stop],
            attention_mask=decoder.masks.build(positions[start:stop], positions[start:stop]),
            position_ids=positions[start:stop].clamp(min=0),
            past_key_values=store.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        store.copy_to(layers, start, len(heads))
        return [None] * (stop - start)

    if length:
        batch.map(work, len(heads))
    return Prefix(positions, layers)

"""Key/value storage and attention masks of our own, shared by prefill, decoding, scoring and the gradient pass.

Every token lives in a *slot*. Slots of one batch are common to all rows, but a row need not use every slot: an unused
slot is simply masked. Masks are built here from the true positions of the tokens and handed to the model ready-made
(4-D), so that padding, gaps and sliding windows are exact for every architecture, and keys and values never move.

Shape suffixes: B rows, H key/value heads, S slots, D head size, Q query tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from greater_ray.errors import ModelError

NEVER = -(2**30)  # position of an unused slot: masked for every query


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """What transformers asks of a layer; masks are ready-made, so sizes are never asked for."""

    keys: Any  # tensors once written to; untyped in transformers too
    values: Any
    is_sliding = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: storage is given at construction."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of keys for ``query_length`` further tokens."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: no limit of its own."""
        return -1

    def get_max_cache_shape(self) -> int:
        """Return -1: no limit of its own (name used by older releases)."""
        return -1


@dataclass(slots=True)
class Extent:
    """How much of a batch's storage there is, and how much of it is in use.

    Shared by a store and its layers, which must not know each other: in a reference cycle finished keys and values
    would live on until a garbage collection, and CUDA's allocator never asks for one.
    """

    capacity_rows: int
    capacity_slots: int
    rows: int
    cursor: int = 0
    # Slots in front that are not stored here: the rows of a common prefix lie elsewhere.
    common: int = 0


class Lanes:
    """Which places of a batch stand behind which row of a common prefix of ``count`` rows; a lane is one for each row.

    ``asked`` ``[count * width]`` is the place in every row's lanes (0 where a lane is empty), ``of_place`` ``[places]``
    where every place is among those, ``members`` ``[places]`` its row.
    """

    def __init__(self, count: int, members: Sequence[int], device: torch.device) -> None:
        self.count, self.device = count, device
        self._members, self._places = list(members), -1

    def swap(self, first: int, second: int) -> None:
        """Exchange two places."""
        members = self._members
        members[first], members[second] = members[second], members[first]
        self._places = -1

    def arrange(self, places: int) -> "Lanes":
        """Put the first so many places into lanes; where nothing has changed, nothing is done."""
        if places != self._places:
            lanes: list[list[int]] = [[] for _ in range(self.count)]
            numbers = []
            for place, member in enumerate(self._members[:places]):
                numbers.append(len(lanes[member]))
                lanes[member].append(place)
            self.width = max(map(len, lanes))
            asked = [place for lane in lanes for place in [*lane, *[0] * (self.width - len(lane))]]
            self.asked = torch.tensor(asked, device=self.device)
            self.members = torch.tensor(self._members[:places], device=self.device)
            of_place = [self.width * member + number for member, number in zip(self._members, numbers, strict=False)]
            self.of_place = torch.tensor(of_place, device=self.device)
            self._places = places
        return self


class Common(NamedTuple):
    """Keys and values ``[N, H, P, D]`` of one layer that several rows of a batch have in common, and which rows."""

    keys: Tensor
    values: Tensor
    lanes: Lanes


class SlotLayer(_Layer):
    """Preallocated keys and values; writes in place at the cursor, reads as a view."""

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent
        self.common: Common | None = None
        self.is_initialized = True

    def empty(self, states: Tensor) -> Tensor:
        """Return room for states ``[_, H, _, D]`` of this kind in all rows and slots."""
        extent = self.extent
        slots = extent.capacity_slots - extent.common
        return states.new_zeros(extent.capacity_rows, states.shape[1], slots, states.shape[-1])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write ``[rows, H, Q, D]`` at the cursor and return all keys and values up to there.

        Where a prefix is common, they are those behind it; it comes along as ``common_prefix`` of the keys.
        """
        extent, begin = self.extent, self.extent.cursor - self.extent.common
        stop = begin + key_states.shape[-2]
        if self.keys is None:
            self.keys, self.values = self.empty(key_states), self.empty(value_states)
        self.keys[: extent.rows, :, begin:stop] = key_states
        self.values[: extent.rows, :, begin:stop] = value_states
        keys, values = self.keys[: extent.rows, :, :stop], self.values[: extent.rows, :, :stop]
        if self.common is not None:
            self.common.lanes.arrange(extent.rows)
            keys.common_prefix = self.common
        return keys, values

    def get_seq_length(self) -> int:
        """Return the number of slots in use."""
        return self.extent.cursor


class PrefixLayer(_Layer):
    """Read-only keys and values ``[B, H, P, D]`` in front of new ones; differentiable in the new ones.

    ``None`` stands for a prefix of no tokens (a question of one token without any markup).
    """

    def __init__(self, keys: Tensor | None, values: Tensor | None) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return prefix and new states, without keeping the new ones."""
        if self.keys is None:
            return key_states, value_states
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_seq_length(self) -> int:
        """Return the length of the prefix."""
        return 0 if self.keys is None else int(self.keys.shape[-2])


class SlotStore:
    """A batch of rows with preallocated slots: their extent, positions ``[B, S]``, keys and values of every layer."""

    def __init__(self, num_layers: int, rows: int, slots: int, device: torch.device) -> None:
        self.extent = Extent(rows, slots, rows)
        self.positions = torch.full((rows, slots), NEVER, dtype=torch.long, device=device)
        self.layers = [SlotLayer(self.extent) for _ in range(num_layers)]
        self.lanes: Lanes | None = None
        self.cache = Cache(layers=list(self.layers))

    def copy_to(self, layers: list[Any], start: int, rows: int) -> None:
        """Put this batch's keys and values at ``start`` of (keys, values) pairs ``[rows, H, S, D]``, one per layer.

        Pairs that are not there yet are made; a batch of all rows becomes them, without a copy.
        """
        states = [(layer.keys, layer.values) for layer in self.layers]
        if self.extent.capacity_rows == rows:
            layers[:] = states
            return
        for number, pair in enumerate(states):
            if number == len(layers):
                layers.append(tuple(part.new_empty(rows, *part.shape[1:]) for part in pair))
            for whole, part in zip(layers[number], pair, strict=True):
                whole[start : start + self.extent.rows] = part

    def share_prefix(self, prefix: "Prefix", rows: Sequence[int]) -> None:
        """Stand behind the chosen rows of a prefix, each of them for several rows, without a copy."""
        self.positions[:, : prefix.positions.shape[1]] = prefix.positions[list(rows)]
        self.extent.cursor = self.extent.common = prefix.positions.shape[1]
        first, stop = min(rows), max(rows) + 1
        self.lanes = Lanes(stop - first, [row - first for row in rows], self.positions.device)
        for layer, (keys, values) in zip(self.layers, prefix.layers, strict=True):
            layer.common = Common(keys[first:stop], values[first:stop], self.lanes)

    def put_prefix(self, prefix: "Prefix", rows: Sequence[int]) -> None:
        """Copy the chosen rows of a prefix into the first slots."""
        rows = list(rows)
        length = prefix.positions.shape[1]
        self.positions[:, :length] = prefix.positions[rows]
        self.extent.cursor = length
        if not length:
            return
        for layer, states in zip(self.layers, prefix.layers, strict=True):
            layer.keys, layer.values = map(layer.empty, states)
            layer.keys[:, :, :length] = states[0][rows]
            layer.values[:, :, :length] = states[1][rows]

    def swap_rows(self, first: int, second: int) -> None:
        """Exchange two rows everywhere, up to the cursor; by slices, as lists of rows would be copied to a GPU."""
        stop = self.extent.cursor - self.extent.common
        written = [states[:, :, :stop] for layer in self.layers for states in (layer.keys, layer.values)]
        for states in [*written, self.positions]:
            kept = states[first].clone()
            states[first] = states[second]
            states[second] = kept
        if self.lanes is not None:
            self.lanes.swap(first, second)

    def as_prefix(self) -> "Prefix":
        """Return all that is stored, which nothing is in front of, as the prefix of other rows."""
        assert self.extent.common == 0
        return Prefix(self.positions, [(layer.keys, layer.values) for layer in self.layers])


class Prefix:
    """Keys and values of a shard's heads, left-padded to a common length; a single row where all heads are equal.

    ``positions`` is ``[B, P]`` (padding marked as never visible), ``layers`` one (keys, values) pair per layer.
    """

    def __init__(self, positions: Tensor, layers: list[tuple[Tensor, Tensor]]) -> None:
        self.positions, self.layers = positions, layers

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair if t is not None)

    def cache(self) -> Cache:
        """Return a fresh read-only cache over all rows, for a differentiable forward pass."""
        return Cache(layers=[PrefixLayer(keys, values) for keys, values in self.layers])


class Masks:
    """Builds the ready-made attention masks that one architecture expects."""

    def __init__(self, config: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        # Some attentions take their softmax in float32, where float64's minimum would become an infinity.
        self._hidden = torch.finfo(torch.float32 if dtype == torch.float64 else dtype).min
        types = list(getattr(config, "layer_types", None) or ())
        unknown = set(types) - {"full_attention", "sliding_attention"}
        if unknown:
            raise ModelError(f"attention of type '{sorted(unknown)[0]}' is not supported.", setting="model.name")
        window = getattr(config, "sliding_window", None)
        self.mixed = len(set(types)) > 1
        uniform_sliding = (set(types) == {"sliding_attention"}) if types else window is not None
        self.window: int | None = window if self.mixed or uniform_sliding else None

    def build(self, query_positions: Tensor, key_positions: Tensor, groups: Tensor | None = None) -> Any:
        """Return additive masks ``[B, 1, Q, S]`` for queries at ``[B, Q]`` over keys at ``[B, S]``.

        ``groups`` ``[Q]`` puts the queries, which are the last Q keys, into alternative continuations: those of one
        group do not see those of another; group 0 is common to all. Where an architecture mixes layer types, a
        dictionary by layer type, as its forward expects.
        """
        distance = query_positions[:, None, :, None] - key_positions[:, None, None, :]
        # A padded query sees nothing; the finite minimum keeps its softmax defined and its result unread.
        visible = (distance >= 0) & (key_positions[:, None, None, :] >= 0)
        if groups is not None:
            visible[..., -len(groups) :] &= (groups[None, :] == 0) | (groups[None, :] == groups[:, None])
        if self.window is None:
            return self._additive(visible)
        near = self._additive(visible & (distance < self.window))
        return {"full_attention": self._additive(visible), "sliding_attention": near} if self.mixed else near

    def _additive(self, visible: Tensor) -> Tensor:
        mask = torch.zeros(visible.shape, dtype=self.dtype, device=visible.device)
        return mask.masked_fill_(~visible, self._hidden)

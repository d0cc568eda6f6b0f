"""The rates of this machine, measured in seconds: what ``greater_ray.prediction`` computes with.

Products, copies, attention and softmax are timed on tensors of no model in particular, larger together than the
processor's caches, as a model's weights are. What a layer and a pass cost whatever is computed is timed on a Llama so
narrow that it computes next to nothing. Times are processor time over the number of threads, so that other programs on
the machine count for little.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from greater_ray.models import footprint
from greater_ray.models._attention import shared_sdpa_attention, use_own_attention
from greater_ray.models._decode import Decoder, Parts, RowBatch
from greater_ray.models._device import numbers
from greater_ray.models._gradients import begin, row_gradients
from greater_ray.models._head import HALF
from greater_ray.models._kv import Common, Lanes, Masks
from greater_ray.models._memory import MicroBatch
from greater_ray.models._packed import can_pack, pack
from greater_ray.models._prefixes import Prefixes
from greater_ray.models.footprint import Footprint
from greater_ray.prediction import Hardware
from greater_ray.types import LossSpec

# Rows of the products: decoding has few, a gradient hundreds.
ROWS = (1, 8, 24, 48, 96, 384, 1024)
_WIDTH, _MATRICES = 1024, 24


def calibrate(
    name: str,
    dtype: str = "float32",
    *,
    width: int = _WIDTH,
    matrices: int = _MATRICES,
    repeats: int = 5,
    held: Footprint | None = None,
) -> Hardware:
    """Measure this machine's CPU with as many threads as torch has now; ``name`` is the machine's, for people.

    ``width``, ``matrices`` and ``repeats`` of a narrow model's passes are smaller in tests, where no rate has to be
    right. ``held`` is what a program takes, measured in one of its own where it is not given, and nothing where that
    cannot be told.
    """
    # Neither takes from the program's random numbers nor gives to them.
    with torch.random.fork_rng(devices=[]):
        return _measured(name, dtype, width, matrices, repeats, held or footprint.measure() or Footprint(0, 0, 1.0))


def _measured(name: str, dtype: str, width: int, matrices: int, repeats: int, held: Footprint) -> Hardware:
    kind = numbers(dtype, torch.device("cpu"))
    packed = _Products(kind, width, matrices)
    wide = _Products(torch.float32, width, matrices) if kind in HALF else packed
    (layer, each), (layer_backward, each_backward) = _overheads(kind, repeats)
    return Hardware(
        name=name,
        dtype=dtype,
        threads=torch.get_num_threads(),
        products=tuple((rows, packed.forward(rows)) for rows in ROWS),
        wide=tuple((rows, wide.forward(rows)) for rows in ROWS),
        backward=tuple((rows, packed.both_ways(rows)) for rows in ROWS),
        touched=_touched(kind),
        kept=_kept(kind),
        shared=_shared(kind),
        attention=_many_queries(kind, back=False),
        attention_backward=_many_queries(kind, back=True),
        softmax=_softmax(),
        layer=layer,
        each=each,
        layer_backward=layer_backward,
        each_backward=each_backward,
        process=held.process,
        entry=held.entry,
        slack=held.slack,
        packs=packed.packs,
    )


def _seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the median time of some calls, after one that is not timed."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    times = []
    for _ in range(repeats):
        begin = clock()
        work()
        times.append(clock() - begin)
    return statistics.median(times)


class _Products:
    """Square matrices, and what a product with each of them takes for every number of theirs."""

    def __init__(self, kind: torch.dtype, width: int, matrices: int) -> None:
        self.kind, self.width = kind, width
        model = nn.Sequential(*(nn.Linear(width, width, bias=False, dtype=kind) for _ in range(matrices)))
        model.requires_grad_(False)
        self.packs = can_pack(model)
        if self.packs:
            pack(model)
        self.layers = list(model)

    def forward(self, rows: int) -> float:
        """Return the seconds without a gradient."""
        given = torch.randn(rows, self.width, dtype=self.kind)
        with torch.no_grad():
            return self._each(lambda: [layer(given) for layer in self.layers])

    def both_ways(self, rows: int) -> float:
        """Return the seconds of a product and of the one with its transposed matrix, which is the way back."""
        given = torch.randn(rows, self.width, dtype=self.kind).requires_grad_()
        gradient = torch.randn(rows, self.width, dtype=self.kind)
        return self._each(lambda: [torch.autograd.grad(layer(given), given, gradient) for layer in self.layers])

    def _each(self, work: Callable[[], Any]) -> float:
        return _seconds(work) / (len(self.layers) * self.width**2)


def _touched(kind: torch.dtype) -> float:
    """Seconds for a byte that an elementwise operator reads or writes."""
    left, right = (torch.randn(96, 1536, dtype=kind) for _ in range(2))
    return _seconds(lambda: [left * right for _ in range(50)]) / (50 * 3 * left.nbytes)


def _softmax() -> float:
    """Seconds for a logit whose cross-entropy is taken, in pieces as the engine takes them."""
    logits, targets = torch.randn(16, 49152), torch.zeros(16, dtype=torch.long)
    work = nn.functional.cross_entropy
    return _seconds(lambda: work(logits, targets, reduction="none")) / logits.numel()


_SIZE = 64  # of a head
_KEPT, _FEW = 224, 32  # slots; what is measured is the difference


@torch.no_grad()
def _kept(kind: torch.dtype) -> float:
    """Seconds for a byte of keys and values that one query for each head reads."""

    def seconds(slots: int) -> float:
        layers = [torch.randn(2, 24, 8, slots, _SIZE, dtype=kind) for _ in range(4)]
        query, mask = torch.randn(24, 8, 1, _SIZE, dtype=kind), torch.zeros(24, 1, 1, slots, dtype=kind)
        return _seconds(lambda: [_attend(query, kv[0], kv[1], mask) for kv in layers])

    return (seconds(_KEPT) - seconds(_FEW)) / (4 * 2 * 24 * 8 * (_KEPT - _FEW) * _SIZE * kind.itemsize)


@torch.no_grad()
def _shared(kind: torch.dtype) -> float:
    """The same where three rows have a prefix of their question in common, with three queries to a head of keys."""
    lanes = Lanes(8, [row % 8 for row in range(24)], torch.device("cpu")).arrange(24)

    def seconds(slots: int) -> float:
        common = [torch.randn(2, 8, 4, slots, _SIZE, dtype=kind) for _ in range(4)]
        own = [torch.randn(2, 24, 4, slots, _SIZE, dtype=kind) for _ in range(4)]
        query, mask = torch.randn(24, 12, 1, _SIZE, dtype=kind), torch.zeros(24, 1, 1, 2 * slots, dtype=kind)

        def work() -> None:
            for prefix, kv in zip(common, own, strict=True):
                key = kv[0]
                key.common_prefix = Common(prefix[0], prefix[1], lanes)  # type: ignore[attr-defined]
                _attend(query, key, kv[1], mask)

        return _seconds(work)

    return (seconds(_KEPT) - seconds(_FEW)) / (4 * 2 * (8 + 24) * 4 * (_KEPT - _FEW) * _SIZE * kind.itemsize)


def _many_queries(kind: torch.dtype, *, back: bool) -> float:
    """Seconds for a product and sum of attention with many queries; ``back`` with the way back."""
    rows, heads, queries, slots = 8, 8, 96, 160
    query = torch.randn(rows, heads, queries, _SIZE, dtype=kind)
    key, value = (torch.randn(rows, heads, slots, _SIZE, dtype=kind) for _ in range(2))
    mask = torch.zeros(rows, 1, queries, slots, dtype=kind)
    given = [tensor.requires_grad_(back) for tensor in (query, key, value)]

    def work() -> None:
        mixed = _attend(given[0], given[1], given[2], mask)
        if back:
            torch.autograd.grad(mixed.sum(), given)

    return _seconds(work) / (2 * rows * heads * queries * slots * _SIZE)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    return shared_sdpa_attention(_Module, query, key, value, mask)[0]


class _Module:
    """What transformers' attention asks of the layer that it is called for."""

    num_key_value_groups = 1
    is_causal = True


# -- what is independent of sizes --------------------------------------------------------------------------------------

_ROWS, _MEMBERS, _PASSES = 24, 8, 8
_SHALLOW, _DEEP = 2, 10
_NARROW = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def _overheads(kind: torch.dtype, repeats: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds for a layer and for a pass, of decoding and of a gradient: from a shallow and a deep narrow model."""
    decoding, gradients = zip(*(_narrow_passes(layers, kind, repeats) for layers in (_SHALLOW, _DEEP)), strict=True)
    return _line(*decoding), _line(*gradients)


def decoder_of(model: Any, kind: torch.dtype) -> Decoder:
    """Return what decodes with a random model on the CPU: frozen, without stop tokens."""
    model.eval().requires_grad_(False)
    use_own_attention(model)
    return Decoder(
        model=model,
        masks=Masks(model.config, kind),
        num_layers=model.config.num_hidden_layers,
        device=torch.device("cpu"),
        stop_tokens=frozenset(),
        blank_tokens=frozenset(),
        pad=0,
        shares=True,
    )


def _line(shallow: float, deep: float) -> tuple[float, float]:
    layer = (deep - shallow) / (_DEEP - _SHALLOW)
    return layer, max(0.0, shallow - _SHALLOW * layer)


def _narrow_passes(layers: int, kind: torch.dtype, repeats: int) -> tuple[float, float]:
    """Seconds of a decode pass and of a gradient's passes."""
    model = LlamaForCausalLM(LlamaConfig(**_NARROW, num_hidden_layers=layers, num_key_value_heads=1)).to(kind)
    decoder = decoder_of(model, kind)
    if can_pack(model):
        pack(model)
    parts = [Parts((1, 2, 3, 4), (5, 6, 7), (), (8,)) for _ in range(_ROWS)]
    heads = tuple(part.head for part in parts[:_MEMBERS])
    prefix = Prefixes(2**20).of(heads, decoder, MicroBatch())

    def decode(passes: int) -> None:
        with torch.no_grad():
            batch = RowBatch(decoder, prefix, [row % _MEMBERS for row in range(_ROWS)], parts)
            batch.reason(batch.prefill(passes + 1), passes + 1)

    few = parts[:_MEMBERS]

    def gradient() -> None:
        begun = begin(decoder, prefix, range(_MEMBERS), few, 1)
        row_gradients(decoder, begun, few, [(9, 10, 11)] * _MEMBERS, (12,), LossSpec())

    def beginning() -> None:
        begin(decoder, prefix, range(_MEMBERS), few, 1)

    longer = _seconds(lambda: decode(2 * _PASSES), repeats)
    shorter = _seconds(lambda: decode(_PASSES), repeats)
    return (longer - shorter) / _PASSES, _seconds(gradient, repeats) - _seconds(beginning, repeats)

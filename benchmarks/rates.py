"""How near a decode pass and a gradient pass come to the matrix products that they cannot do without.

The products of all linear layers and of the head are timed alone, on packed weights, in turns with the whole pass: the
share of the pass that they would take is the share of this machine's own packed rate that the pass reaches.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from greater_ray.models._decode import RowBatch
from greater_ray.models._head import WideHead, largest_only
from greater_ray.models._packed import PackedLinear
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, TokenIds
from greater_ray.work import Gradients

_PASSES = 12  # decode passes that are timed together


class Rate(NamedTuple):
    """One kind of pass: seconds, GFLOP/s of its products alone, and the share of it that those take."""

    name: str
    rows: int
    seconds: float
    gflops: float
    share: float

    def __str__(self) -> str:
        return (
            f"{self.name:8} {self.rows:3d} rows: {1000 * self.seconds:7.1f} ms a pass, packed products alone "
            f"{self.gflops:4.0f} GFLOP/s, {100 * self.share:3.0f} % of their rate"
        )


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def layers_of(engine: Engine) -> tuple[list[nn.Linear], nn.Linear]:
    """Return the packed linear layers but for the head, and the head."""
    head = engine.model.get_output_embeddings()
    kinds = (PackedLinear, WideHead)
    return [m for m in engine.model.modules() if isinstance(m, kinds) and m is not head], head


@torch.no_grad()
def products(layers: Sequence[nn.Linear], tokens: int) -> float:
    """Seconds for one product of so many tokens with each layer."""
    given = {
        size: torch.randn(tokens, size, dtype=layers[0].weight.dtype)
        for size in {layer.in_features for layer in layers}
    }
    return timed(lambda: [layer(given[layer.in_features]) for layer in layers])


def flops(layers: Sequence[nn.Linear], tokens: int) -> int:
    return sum(2 * tokens * layer.weight.numel() for layer in layers)


@torch.no_grad()
def decode_pass(engine: Engine, layout: Layout, examples: Sequence[Example], prompts: Sequence[TokenIds]) -> float:
    """Seconds a pass while all rows are running, with arg-max and bookkeeping."""
    shard = tuple(examples)
    parts = [part for prompt in prompts for part in engine._parts(shard, prompt, layout, _PASSES)]
    _, prefix = engine._prefix(parts[: len(shard)], layout)
    members = [k % len(shard) for k in range(len(parts))]
    endless = replace(engine.decoder, stop_tokens=frozenset())
    batch = RowBatch.behind_beginning(endless, prefix, members, parts)
    logits = batch.prefill(_PASSES + 1)
    return timed(lambda: batch.reason(logits, _PASSES + 1)) / _PASSES


def measure(engine: Engine, layout: Layout, examples: Sequence[Example], prompts: Sequence[TokenIds]) -> list[Rate]:
    """Decoding at 8 rows (8 questions), 24 (8 questions, 3 prompts) and 72 (24, 3), and a gradient at 8 rows."""
    layers, head = layers_of(engine)
    rates = []
    for rows, questions, count in ((8, 8, 1), (24, 8, 3), (72, 24, 3)):
        alone, whole = [], []
        for _ in range(5):
            with largest_only(engine.model):  # as decoding asks for
                alone.append(products([*layers, head], rows))
            whole.append(decode_pass(engine, layout, examples[:questions], prompts[:count]))
        rates.append(_rate("decode", rows, flops([*layers, head], rows), alone, whole))
    prompt, shard = prompts[0], tuple(examples[:8])
    reasoning = [(prompt * layout.max_reasoning_tokens)[: layout.max_reasoning_tokens]] * len(shard)
    work = Gradients(shard, prompt, LossSpec(), reasoning=reasoning, position=0, depth=1, token_filter="none")
    usage = engine.gradients(work, layout)[1]
    kept = len(shard) * (len(prompt) + 2)
    alone, whole = [], []
    for _ in range(5):
        # Forward and backward are the same products but for their order.
        alone.append(2 * products(layers, usage.backward_tokens) + 2 * products([head], kept))
        whole.append(timed(lambda: engine.gradients(work, layout)))
    needed = 2 * flops(layers, usage.backward_tokens) + 2 * flops([head], kept)
    return [*rates, _rate("gradient", len(shard), needed, alone, whole)]


def _rate(name: str, rows: int, needed: int, alone: list[float], whole: list[float]) -> Rate:
    share = statistics.median(a / b for a, b in zip(alone, whole, strict=True))
    return Rate(name, rows, statistics.median(whole), needed / statistics.median(alone) / 1e9, share)

"""Numerical checks of an engine against plain computation: no cache, no batch, no masks of our own.

The reference runs every row alone through the model's own forward pass, so that whatever the engine shares, pads or
keeps must not show.
"""

import copy
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from greater_ray.models._gradients import mean_nll, sample_loss
from greater_ray.models._placement import turn_end
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, Shard, TokenIds
from greater_ray.work import Gradients, Rollouts

# Of the length of the embedding; the best one counts: large steps see curvature, small ones see rounding.
_STEPS = (3e-4, 1e-2)
# An error, relative to the gradient's length, below which no other step size is tried.
FINE = 1e-3


class GradientCheck(NamedTuple):
    """Slopes of the summed loss along unit directions, by the engine and by central differences.

    ``error`` is the largest difference, relative to the length of the engine's gradient.
    """

    analytic: tuple[float, ...]
    numeric: tuple[float, ...]
    length: float
    error: float
    dtype: str


class LossCheck(NamedTuple):
    """Largest differences between cached, batched losses and plain ones, and the largest plain loss."""

    label: float
    prompt: float
    scale: float


def check_gradient(
    engine: Engine,
    layout: Layout,
    shard: Shard,
    prompt: TokenIds,
    loss: LossSpec,
    *,
    precise: bool,
    directions: int = 2,
) -> GradientCheck:
    """Compare the gradient at the middle of the prompt with central differences, along itself and at random.

    With ``precise`` the differences are taken on a copy of the model in float64, which needs 8 bytes per parameter.
    """
    position = len(prompt) // 2
    reasoning = [r.reasoning for r in engine.rollouts(Rollouts(shard, [prompt], loss), layout)[0][0]]
    work = Gradients(shard, prompt, loss, reasoning=reasoning, position=position, depth=1, token_filter="none")
    result, _ = engine.gradients(work, layout)
    gradient = torch.tensor(result.gradient, dtype=torch.float64)
    length = float(gradient.norm())
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(gradient.shape, generator=random, dtype=torch.float64) for _ in range(directions)]
    units = [d / d.norm() for d in ([gradient] if length else []) + drawn]
    model = _double(engine.model) if precise else engine.model
    rows = [_row(engine, layout, e, prompt, r) for e, r in zip(shard, reasoning, strict=True)]

    def total(shift: Tensor) -> float:
        return sum(float(_loss(model, row, prompt, loss, position, shift)) for row in rows)

    with torch.no_grad():
        size = float(model.get_input_embeddings()(torch.tensor([prompt[position]], device=engine.device)).norm())
        analytic = [float(gradient @ u) for u in units]
        numeric, error = analytic, math.inf
        for step in _STEPS:
            slopes = [(total(u * step * size) - total(-u * step * size)) / (2 * step * size) for u in units]
            found = _largest(slopes, analytic) / (length or 1.0)
            if found < error:
                numeric, error = slopes, found
            if error <= FINE:
                break
    return GradientCheck(tuple(analytic), tuple(numeric), length, error, str(model.dtype).removeprefix("torch."))


@torch.no_grad()
def check_losses(engine: Engine, layout: Layout, shard: Shard, prompt: TokenIds) -> LossCheck:
    """Compare the losses of decoded rollouts with those of one plain forward pass per row."""
    loss = LossSpec(fluency="nll")
    rollouts = engine.rollouts(Rollouts(shard, [prompt], loss), layout)[0][0]
    worst_label = worst_prompt = scale = 0.0
    for example, rollout in zip(shard, rollouts, strict=True):
        row = _row(engine, layout, example, prompt, rollout.reasoning)
        logits = _forward(engine.model, row.ids, None, 0)
        nll = _mean_nll(logits, row.ids, row.prompt_at, len(prompt))
        ce = _mean_nll(logits, row.ids, row.label_at, len(row.label))
        worst_label = max(worst_label, abs(ce - rollout.label_loss(loss)))
        worst_prompt = max(worst_prompt, abs(nll - rollout.fluency(loss)))
        scale = max(scale, abs(ce), abs(nll))
    return LossCheck(worst_label, worst_prompt, scale)


def check_bos(engine: Engine, layout: Layout, example: Example) -> tuple[int, int]:
    """Return how many BOS tokens a sequence begins with, and how many it should."""
    tokenizer, spans = engine.tokenizer, engine.spans(layout)
    bos = tokenizer.bos_token_id
    ids = spans.head(example)
    leading = next((k for k, token in enumerate(ids) if token != bos), len(ids))
    if bos is None:
        return 0, 0
    own = tokenizer.chat_template and spans.opening_text.startswith(tokenizer.bos_token)
    return leading, int(bool(own) or bos in tokenizer("a").input_ids or not tokenizer.chat_template)


def check_stop(engine: Engine) -> tuple[str | None, bool]:
    """Return what the chat template writes at the end of a turn, and whether generation stops at it."""
    end = turn_end(engine.tokenizer)
    ids = engine.tokenizer(end, add_special_tokens=False).input_ids if end else []
    return end, not ids or ids[0] in engine.decoder.stop_tokens


def memory_estimate(
    engine: Engine, layout: Layout, examples: Sequence[Example], prompt: TokenIds, rows: int
) -> dict[str, int]:
    """Estimate bytes for parameters, for keys and values while ``rows`` rows are decoded, and for a backward pass.

    ``available`` is what is free now, with the parameters loaded.
    """
    config, spans = engine.config, engine.spans(layout)
    heads = {spans.head(e) for e in examples}
    width = max(len(spans.head(e)) + len(spans.suffix(e)) for e in examples) + len(prompt) + len(spans.extractor)
    width += layout.max_reasoning_tokens + layout.max_answer_tokens
    size = engine.model.dtype.itemsize
    num_heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    per_token = 2 * config.num_hidden_layers * kv_heads * head_dim * size
    decode_rows = min(rows, engine._decode_batch.limit or rows)
    backward_rows = min(len(examples), engine._gradient_batch.limit or len(examples))
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    activations = config.num_hidden_layers * (10 * config.hidden_size + 4 * inner) * size
    logits = (len(prompt) + layout.max_answer_tokens) * config.vocab_size * (size + 8)
    return {
        "parameters": sum(p.numel() * p.element_size() for p in engine.model.parameters()),
        "questions": sum(map(len, heads)) * per_token,
        "decoding": decode_rows * width * per_token,
        "backward": backward_rows * (width * (activations + per_token) + logits),
        "kv_bytes_per_token": per_token,
        "decode_rows": decode_rows,
        "backward_rows": backward_rows,
        "tokens_per_row": width,
        "available": available_memory(*engine.devices),
    }


def available_memory(*devices: torch.device) -> int:
    """Return the free bytes on a model's devices: of several, all have room for as much as the fullest one."""
    if devices[0].type == "cuda":
        return len(devices) * min(int(torch.cuda.mem_get_info(device)[0]) for device in devices)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: all that is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Row(NamedTuple):
    """A whole sequence as one run of ids, and where prompt and label begin."""

    ids: TokenIds
    prompt_at: int
    label_at: int
    label: TokenIds


def _row(engine: Engine, layout: Layout, example: Example, prompt: TokenIds, reasoning: TokenIds) -> _Row:
    spans = engine.spans(layout)
    head, label = spans.head(example), spans.label(example)
    before = (*head, *prompt, *spans.suffix(example), *reasoning, *spans.extractor)
    return _Row((*before, *label), len(head), len(before), label)


def packed_copies(model: Any) -> list[Tensor]:
    """Return the prepacked copies of a model's weights, which no copy of the model can have."""
    return [t for module in model.modules() for t in vars(module).values() if isinstance(t, Tensor) and t.is_mkldnn]


def _double(model: Any) -> Any:
    """Copy a model in float64, without its weights' prepacked copies: they cannot be copied, and are not used here."""
    double = copy.deepcopy(model, {id(tensor): None for tensor in packed_copies(model)}).double()
    if getattr(double.config, "_experts_implementation", None) is not None:
        # The grouped products of a mixture of experts exist up to float32 only.
        double.set_experts_implementation("eager")
    return double


def _forward(model: Any, ids: TokenIds, shift: Tensor | None, at: int) -> Tensor:
    """Logits ``[T, V]`` of one plain pass, with the input embedding at ``at`` moved by ``shift``.

    Under autograd, where no layer takes a short cut.
    """
    embed = model.get_input_embeddings()
    embeds = embed(torch.tensor([ids], device=embed.weight.device)).detach().clone()
    if shift is not None:
        embeds[0, at] += shift.to(embeds.device, embeds.dtype)
    with torch.enable_grad():
        logits: Tensor = model(inputs_embeds=embeds.requires_grad_(), use_cache=False).logits[0]
    return logits.detach()


def _loss(model: Any, row: _Row, prompt: TokenIds, loss: LossSpec, position: int, shift: Tensor) -> Tensor:
    logits = _forward(model, row.ids, shift, row.prompt_at + position)
    own = logits[row.prompt_at - 1 : row.prompt_at - 1 + len(prompt)]
    label = logits[row.label_at - 1 : row.label_at - 1 + len(row.label)]
    return sample_loss(mean_nll(own, prompt), mean_nll(label, row.label, loss.ce_temperature), loss)


def _mean_nll(logits: Tensor, ids: TokenIds, start: int, length: int) -> float:
    log_p = logits[start - 1 : start - 1 + length].double().log_softmax(dim=-1)
    targets = torch.tensor(ids[start : start + length], device=logits.device)
    return -float(log_p.gather(1, targets[:, None]).mean())


def _largest(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))

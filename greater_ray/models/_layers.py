"""Decoder layers of Llama's form in fewer operators, for passes without a gradient.

Llama, Mistral, Qwen, SmolLM and others share one form of layer: norm, attention with rotary embeddings, norm, gated
MLP, two sums. At one token a row, transformers' modules spend a third of a pass around the products: Python, small
operators, results that go to memory and back. Here queries and keys are rotated together, the operators behind a
product are part of it (oneDNN's post-operations), and nothing is dispatched twice.

Whether a layer has this form cannot be read from its class: some scale a sum, skip the rotation or norm otherwise. So
each layer is run both ways when a model is loaded, and those that differ stay as they are.

Shape suffixes: B rows, Q query tokens, H heads, D head size, E hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from greater_ray.models._packed import PackedLinear
from greater_ray.models.faults import is_fault, is_out_of_memory

_LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# Largest accepted difference of a layer's output, as a share of its largest entry.
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
_HALF_TOLERANCE = 0.05
_TOKENS = 5


class Rotation:
    """Cosines and signed sines of one pass, made for its first layer and used by all."""

    def __init__(self) -> None:
        self._made_of: Any = None
        self._tables: tuple[Tensor, Tensor] | None = None

    def tables(self, position_embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both as ``[B, Q, 1, D]``; the sines of the first half are negated."""
        if self._tables is None or self._made_of is not position_embeddings:
            cos, sin = position_embeddings
            half = sin.shape[-1] // 2
            signed = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
            self._made_of, self._tables = position_embeddings, (cos.unsqueeze(2), signed.unsqueeze(2))
        return self._tables


class Norm:
    """The root mean square norm of a module as one operator, if that is what the module computes."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.eps = getattr(module, "variance_epsilon", None)
        if self.eps is not None:
            given = _some(module.weight, 2, module.weight.shape[0])
            if not _equal(self(given), module(given)):
                self.eps = None

    def __call__(self, states: Tensor) -> Tensor:
        """Norm the last dimension."""
        if self.eps is None:
            normed: Tensor = self.module(states)
            return normed
        weight = self.module.weight
        return nn.functional.rms_norm(states, weight.shape, weight, self.eps)


class LeanLayer:
    """One decoder layer of Llama's form, over the modules of transformers' layer."""

    def __init__(self, layer: Any, rotation: Rotation) -> None:
        self.rotation, self.attention, self.mlp = rotation, layer.self_attn, layer.mlp
        self.norms = [Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)]
        gated = isinstance(self.mlp.up_proj, PackedLinear) and isinstance(self.mlp.gate_proj, PackedLinear)
        # Where the weights are not packed, what follows a product is an operator of its own.
        self.fused = gated and isinstance(self.mlp.act_fn, nn.SiLU | SiLUActivation)
        self.plain: Callable[..., Tensor] = layer.forward

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **options: Any,
    ) -> Tensor:
        """Take and return ``[B, Q, E]`` as the layer does; with a gradient to come, let the layer do it."""
        if position_embeddings is None or (torch.is_grad_enabled() and hidden_states.requires_grad):
            return self.plain(
                hidden_states,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                position_embeddings=position_embeddings,
                **options,
            )
        attention = self.attention
        normed = self.norms[0](hidden_states)
        rows, places, size = *normed.shape[:2], attention.head_dim
        queries, keys = self._rotated(normed, self.rotation.tables(position_embeddings))
        values = attention.v_proj(normed).view(rows, places, -1, size).transpose(1, 2)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, attention.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
        mixed = attend(attention, queries, keys, values, attention_mask, dropout=0.0, scaling=attention.scaling)[0]
        hidden_states = _added(attention.o_proj, mixed.reshape(rows, places, -1), hidden_states)
        return self._fed_forward(self.norms[1](hidden_states), hidden_states)

    def _rotated(self, normed: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return queries ``[B, Hq, Q, D]`` and keys ``[B, H, Q, D]`` at their positions."""
        attention, (cos, sin) = self.attention, tables
        rows, places, size = *normed.shape[:2], attention.head_dim
        queries = attention.q_proj(normed).view(rows, places, -1, size)
        keys = attention.k_proj(normed).view(rows, places, -1, size)
        if hasattr(attention, "q_norm"):
            queries, keys = attention.q_norm(queries), attention.k_norm(keys)
        heads, half = queries.shape[2], size // 2
        both = torch.cat((queries, keys), dim=2)
        turned = torch.cat((both[..., half:], both[..., :half]), dim=-1)
        both = torch.addcmul(both * cos, turned, sin).transpose(1, 2)
        return both[:, :heads], both[:, heads:]

    def _fed_forward(self, normed: Tensor, residual: Tensor) -> Tensor:
        mlp = self.mlp
        if self.fused:
            mixed = mlp.up_proj.times(normed, mlp.gate_proj.silu(normed))
        else:
            mixed = mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)
        return _added(mlp.down_proj, mixed, residual)


def _added(linear: nn.Linear, input: Tensor, residual: Tensor) -> Tensor:
    return linear.plus(input, residual) if isinstance(linear, PackedLinear) else residual + linear(input)


@torch.no_grad()
def make_lean(model: Any) -> int:
    """Let the layers of a frozen model that have Llama's form run in fewer operators; return how many do."""
    base = model.base_model
    layers, rotary = getattr(base, "layers", None), getattr(base, "rotary_emb", None)
    if not isinstance(layers, nn.ModuleList) or rotary is None:
        return 0
    rotation, changed = Rotation(), 0
    for layer in layers:
        # A hook of accelerate's moves what goes in; it would be gone round.
        if _has_form(layer) and not hasattr(layer, "_hf_hook"):
            lean = LeanLayer(layer, rotation)
            if _computes_the_same(lean, rotary):
                layer.forward = lean.forward
                changed += 1
    return changed


def _has_form(layer: nn.Module) -> bool:
    if {name for name, _ in layer.named_children()} != _LAYER:
        return False
    attention, mlp = ({name for name, _ in layer.get_submodule(part).named_children()} for part in ("self_attn", "mlp"))
    return attention - {"q_norm", "k_norm"} == _ATTENTION and mlp == _MLP


def _computes_the_same(lean: LeanLayer, rotary: Any) -> bool:
    """Run a layer both ways on two rows of some tokens, the last ones of which do not see the first."""
    weight = lean.attention.q_proj.weight
    hidden = _some(weight, 2, _TOKENS, lean.attention.config.hidden_size)
    positions = torch.arange(_TOKENS, device=hidden.device)[None].expand(2, -1)
    mask = hidden.new_zeros(2, 1, _TOKENS, _TOKENS)
    mask[:, :, -2:, 0] = torch.finfo(hidden.dtype).min
    try:
        embedded = rotary(hidden, positions)
        if not isinstance(embedded, tuple) or embedded[0].shape[-1] != lean.attention.head_dim:
            return False
        embedded = tuple(part.to(hidden.device) for part in embedded)  # of several devices it may lie on another
        found = [
            run(hidden, attention_mask=mask, position_ids=positions, position_embeddings=embedded)
            for run in (lean.plain, lean.forward)
        ]
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as problem:
        if is_out_of_memory(problem) or is_fault(problem):
            raise
        return False
    return _equal(*found)


def _some(like: Tensor, *shape: int) -> Tensor:
    dtype = like.dtype if like.dtype.is_floating_point else None
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device=like.device, dtype=dtype)


def _equal(first: Tensor, second: Tensor) -> bool:
    if not isinstance(second, Tensor) or first.shape != second.shape:
        return False
    error = (first.double() - second.double()).abs().max() / first.double().abs().max()
    return float(error) <= _TOLERANCE.get(first.dtype, _HALF_TOLERANCE)

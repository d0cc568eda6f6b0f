"""The sizes of a decoder, from its configuration: what formulas of time and memory are about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Bytes of a number.
_SIZES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# Kinds of decoders that are counted right, and whether their head is the embedding where their file does not say.
_TIED = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite"), False),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text", "smollm3"), True),
}
# Where their files do not say how large a head is, it is not what the others have.
_OWN_HEAD_SIZE = ("gemma", "gemma2", "gemma3", "gemma3_text", "qwen3")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder. ``inner`` is the width of its gated MLP; with ``tied`` its head is the embedding."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool = True
    dtype: str = "float32"

    @property
    def layer_entries(self) -> int:
        """Numbers of a layer's matrices."""
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.inner

    @property
    def head_entries(self) -> int:
        """Numbers of the projection to the vocabulary."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Numbers of all matrices, and two norms in a layer."""
        own = self.layers * (self.layer_entries + 2 * self.hidden) + self.hidden
        return own + self.head_entries * (1 if self.tied else 2)

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return _SIZES[self.dtype]

    @property
    def is_half(self) -> bool:
        """Whether its head is computed in float32 beside narrower layers."""
        return self.size == 2

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's keys and values in one layer."""
        return 2 * self.kv_heads * self.head_size * self.size


def shape_of(values: Mapping[str, Any], dtype: str = "float32") -> Shape | None:
    """Return the shape that a ``config.json`` describes; None where it is of a kind that is not counted here."""
    own = values.get("text_config")
    own = own if isinstance(own, Mapping) else values
    kind = own.get("model_type")
    if kind not in _TIED or dtype not in _SIZES:
        return None
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    sizes = [own.get(name) for name in names]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    layers, hidden, inner, heads, vocabulary = (int(str(size)) for size in sizes)
    head_size = own.get("head_dim") or (None if kind in _OWN_HEAD_SIZE else hidden // heads)
    if head_size is None:
        return None
    tied = values.get("tie_word_embeddings", own.get("tie_word_embeddings"))
    return Shape(
        layers=layers,
        hidden=hidden,
        inner=inner,
        heads=heads,
        kv_heads=int(own.get("num_key_value_heads") or heads),
        head_size=int(head_size),
        vocabulary=vocabulary,
        tied=_TIED[kind] if tied is None else bool(tied),
        dtype=dtype,
    )

"""What is changed in a loaded model before it computes: attention, head, products and layers of our own."""

from typing import Any

from greater_ray.models._attention import use_own_attention
from greater_ray.models._head import widen_head
from greater_ray.models._layers import make_lean
from greater_ray.models._memory import keep_freed_memory
from greater_ray.models._packed import can_pack, pack


def fit(model: Any) -> None:
    """Fit a frozen model to this processor, in place; what it computes stays the same up to rounding."""
    use_own_attention(model)
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
    widen_head(model)  # first, or its half would be packed for nothing
    if can_pack(model):
        pack(model)
    make_lean(model)  # last, as it looks at what is packed

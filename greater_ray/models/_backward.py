"""What a model on torch cannot do, above all gradients: kernels of some quantizations have a forward pass only.

Where such a layer stands beside a residual connection, the gradient of the whole model is there, and wrong: nothing
fails. So every layer is asked for its own gradient, in one pass over a few tokens.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from greater_ray.errors import UnsupportedError
from greater_ray.models.faults import device_faults, is_fault, is_out_of_memory
from greater_ray.types import Usage
from greater_ray.work import BaseEngine, Unit, Work
from greater_ray.work.kinds import BackwardWork

_TOKENS = 4
# What torch warns of where an operator knows nothing of autograd.
_NO_BACKWARD = "an autograd kernel was not registered"


class TorchEngine(BaseEngine):
    """What every engine on torch keeps to: no gradient where a layer has none, and a broken device is told."""

    _cut: str | None = None  # see ``layer_without_gradient``

    @property
    def kinds(self) -> frozenset[type[Work[Any]]]:
        """The kinds of work that this model can do: none with gradients where a layer has no backward pass."""
        kinds = self.all_kinds()
        return kinds if self._cut is None else frozenset(k for k in kinds if not issubclass(k, BackwardWork))

    @device_faults()
    def run(self, unit: Unit) -> tuple[Any, Usage]:
        """Compute one unit; see ``BaseEngine.run``.

        Raises:
            UnsupportedError: this model cannot do this kind of work.
            DeviceError: nothing more can be computed on this device by this process.
        """
        if self._cut is not None and isinstance(unit.work, BackwardWork):
            raise UnsupportedError(
                f"'{self.facts.get('name')}' cannot give {unit.work.title()}, as its layers of type {self._cut} have "
                "no backward pass; choose a method that goes by answers, for instance gepa, gpo or few-shot, or "
                "weights that are quantized otherwise or not at all.",
                setting="model.name",
            )
        return super().run(unit)


def layer_without_gradient(model: Any) -> str | None:
    """Return the class of the first layer with weights that cuts its output off from its input, or None.

    Only a missing backward is seen; whether one is right, the finite differences of ``doctor`` tell. Some layers change
    for good in their first pass without autograd (bitsandbytes' of 4 bits on a CPU), so one must have been before.
    """
    cut: list[str] = []

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        given = [t for t in args if isinstance(t, Tensor) and t.requires_grad]
        got = [t for t in _tensors(output) if t.is_floating_point()]
        if given and got and not cut and not _passes_on(given, got):
            cut.append(type(module).__name__)

    layers = [module for module in model.modules() if _has_weights(module)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    embed = model.get_input_embeddings()
    try:
        with torch.enable_grad():
            ids = torch.arange(_TOKENS, device=embed.weight.device)[None]
            embeds = embed(ids).detach().requires_grad_(True)
            logits = model(inputs_embeds=embeds, use_cache=False).logits
        # Attention and the like have no weights; the way through all of them is tried as one.
        return cut[0] if cut else None if _passes_on([embeds], [logits]) else type(model).__name__
    finally:
        for hook in hooks:
            hook.remove()


def _passes_on(given: Sequence[Tensor], got: Sequence[Tensor]) -> bool:
    """Tell whether a gradient of what a part of a model gave reaches what it was given.

    An operator without a backward pass says so in three ways: its output needs no gradient; the way back through it
    raises an error; or torch warns, goes on, and its gradient is missing, as with kernels in C++ that know nothing of
    autograd.
    """
    through = [tensor for tensor in got if tensor.requires_grad]
    if not through:
        return False
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with torch.enable_grad():
                found = torch.autograd.grad(
                    [tensor.float().sum() for tensor in through], given, retain_graph=True, allow_unused=True
                )
        except RuntimeError as error:
            if is_out_of_memory(error) or is_fault(error):
                raise
            return False
    if any(_NO_BACKWARD in str(warning.message) for warning in said):
        return False
    return any(gradient is not None for gradient in found)


def _has_weights(module: nn.Module) -> bool:
    """Tell layers from what only holds others, and from what gives constants such as the angles of positions."""
    held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not any(True for _ in module.children()) and any(tensor.dim() > 1 for tensor in held)


def _tensors(output: Any) -> list[Tensor]:
    found = output if isinstance(output, (tuple, list)) else [output]
    return [t for t in found if isinstance(t, Tensor)]

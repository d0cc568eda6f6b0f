"""A model over several GPUs: layers in equal parts, one part behind the other, and what moves from part to part.

transformers reads the weights to where a map of modules and devices says. What moves between devices is our own: hooks
of accelerate copy masks and angles of positions anew for every layer, and bring the logits of all tokens back to the
first device. Here they are copied once per device and pass, and logits stay where the head is.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from greater_ray.errors import WrongModelError

# Changed in place by its layers, each of which keeps keys and values where it lies itself.
_STAYS = ("past_key_values",)


def spread_map(model_config: Any, devices: Sequence[torch.device], name: str) -> dict[str, torch.device]:
    """Return a device for every part of a model: embedding and what has no weights on the first, head on the last.

    Layers are shared out so that all devices hold about equally many bytes; the one with the least room decides. A head
    that has the embedding's weights lies beside it.

    Raises:
        ModelError: the model has fewer layers than there are devices, or none that can be told from the rest.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(model_config))  # transformers notes its choices there
    layers = _layers(model)
    if layers is None or len(layers) < len(devices):
        found = "no layers that can be told from the rest" if layers is None else f"{len(layers)} layers"
        why = f"'{name}' has {found}, so it cannot be spread over {len(devices)} devices."
        raise WrongModelError(why, setting="model.device")
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embed.weight
    blocks = list(_blocks(model, layers))
    sizes = [sum(t.numel() for t in _tensors(block) if block is not head or not tied) for _, block in blocks]
    total, before, behind, places = sum(sizes), 0, False, {}
    for (path, block), size in zip(blocks, sizes, strict=True):
        if any(block is layer for layer in layers):
            behind = True
            # Where the middle of the layer lies on the way through all weights.
            places[path] = int((before + size / 2) / total * len(devices))
        else:
            weights = isinstance(block, Tensor) or any(True for _ in block.parameters())
            places[path] = len(devices) - 1 if behind and weights and not (block is head and tied) else 0
        before += size
    return {path: devices[place] for path, place in places.items()}


def connect(model: Any, places: Mapping[str, torch.device]) -> None:
    """Let every part of a model fetch what it is given to its own device, in place of accelerate's hooks."""
    from accelerate.hooks import remove_hook_from_submodules

    remove_hook_from_submodules(model)
    fetched = _Fetched()
    for path, device in places.items():
        module = model
        for part in path.split("."):
            module = getattr(module, part)
        if isinstance(module, nn.Module):
            module.register_forward_pre_hook(_Fetch(device, fetched), with_kwargs=True)
    model.register_forward_hook(fetched.forget, always_call=True)


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """Return the devices that hold weights, in the order of the model's parts."""
    return tuple(dict.fromkeys(parameter.device for parameter in model.parameters()))


class _Fetched(dict[tuple[int, torch.device], tuple[Any, Any]]):
    """What was copied in the running pass, beside the copies: held, so that nothing else gets its id."""

    def forget(self, *_: Any) -> None:
        """End a pass."""
        self.clear()


class _Fetch:
    """Copies what a module is given to its device, everything once in a pass; what is there already stays itself."""

    def __init__(self, device: torch.device, fetched: _Fetched) -> None:
        self.device, self.fetched = device, fetched

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return tuple(map(self._here, args)), {k: v if k in _STAYS else self._here(v) for k, v in kwargs.items()}

    def _here(self, value: Any) -> Any:
        key = (id(value), self.device)
        if key in self.fetched:
            return self.fetched[key][1]
        here = value
        if isinstance(value, Tensor):
            here = value.to(self.device)
        elif type(value) in (tuple, list):
            parts = [self._here(part) for part in value]
            here = type(value)(parts) if any(a is not b for a, b in zip(parts, value, strict=True)) else value
        elif type(value) is dict:
            named = {name: self._here(part) for name, part in value.items()}
            here = named if any(named[name] is not value[name] for name in value) else value
        if here is not value:
            self.fetched[key] = (value, here)
        return here


def _layers(model: Any) -> nn.ModuleList | None:
    """Return the layers of the part of a model that writes text, None where they are in no list of their own."""
    number = model.config.get_text_config().num_hidden_layers
    lists = (m for m in model.get_decoder().modules() if isinstance(m, nn.ModuleList))
    return next((found for found in lists if len(found) == number), None)


def _blocks(module: nn.Module, layers: nn.ModuleList, prefix: str = "") -> Iterator[tuple[str, nn.Module | Tensor]]:
    """Yield what lies on one device as a whole, in order: every layer, and all that holds none, as large as can be."""
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield prefix + name, tensor
    for name, child in module.named_children():
        path = prefix + name
        if child is layers:
            yield from ((f"{path}.{number}", layer) for number, layer in enumerate(layers))
        elif any(part is layers for part in child.modules()):
            yield from _blocks(child, layers, f"{path}.")
        else:
            yield path, child


def _tensors(block: nn.Module | Tensor) -> Iterator[Tensor]:
    return iter([block]) if isinstance(block, Tensor) else block.parameters()

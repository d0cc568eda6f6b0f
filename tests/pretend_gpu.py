"""A GPU that is none: its tensors say that they lie on a device and lie in the host's memory.

What a GPU makes fail or slow is seen without one. An operation on tensors of two devices raises, as CUDA would; kernel
launches, waits for a result and copies to the device are counted. There may be several cards: tensors of two of them do
not meet either, and a copy from one to the other is counted. Numbers are those of the CPU, and nothing is said of
time. Attention without a gradient counts as one launch, as fused kernels are; CPU kernels else stand for CUDA's one by
one, so launches are those of torch's own operators.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretend"
# Give another look at memory that is there, or memory that nothing is written to.
_NO_LAUNCH = {
    *("view", "_unsafe_view", "_reshape_alias", "as_strided", "expand", "slice", "select", "transpose", "permute", "t"),
    *("unsqueeze", "squeeze", "alias", "detach", "split", "split_with_sizes", "unbind", "chunk", "narrow", "unfold"),
    *("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "lift_fresh", "is_same_size"),
}


class MixedDevicesError(RuntimeError):
    """Tensors of two devices met."""


class Counts(Counter[str]):
    """Launches by operator, ``sync ...`` by what waited, ``upload`` for copies to the device and ``across`` cards."""

    @property
    def launches(self) -> int:
        return sum(number for name, number in self.items() if not name.startswith(("sync", "upload", "across")))

    @property
    def syncs(self) -> int:
        return sum(number for name, number in self.items() if name.startswith("sync"))


class OnDevice(Tensor):
    """A tensor of the pretended device; ``held`` is where its numbers are, ``card`` which one it lies on.

    For torch itself all cards are the first one: the way back of autograd knows no more of them.
    """

    held: Tensor
    card: int

    @staticmethod
    def __new__(cls, held: Tensor, card: int = 0) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device(),
        )
        made.held, made.card = held, card
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(NAME, self.card)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({tuple(self.shape)}, {self.dtype}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counts())


@cache
def device() -> torch.device:
    """Return the device, made known to torch by the first call.

    That must come before the first backward pass of the process, which starts a thread for every kind of device.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    return torch.device(NAME, 0)


@contextmanager
def gpu() -> Iterator[Counts]:
    """Have a pretended GPU, and count what happens on it."""
    device()
    counts = Counts()
    with _Calls(counts), _Operators(counts):
        yield counts


def move(model: nn.Module) -> None:
    """Put a model on the device; inside of ``gpu``."""
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in list(held.items()):
                if tensor is not None:
                    moved = OnDevice(tensor.detach())
                    held[name] = nn.Parameter(moved, requires_grad=False) if held is module._parameters else moved


class _Across(torch.autograd.Function):
    """A copy on another card, whose gradient goes back to the first."""

    @staticmethod
    def forward(ctx: Any, tensor: OnDevice, card: int) -> OnDevice:
        ctx.card = tensor.card
        return OnDevice(tensor.held.clone(), card)

    @staticmethod
    def backward(ctx: Any, *gradients: OnDevice) -> tuple[OnDevice, None]:
        return OnDevice(gradients[0].held.clone(), ctx.card), None


class _Operators(TorchDispatchMode):
    """Sees every operator, also those that make tensors from nothing."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts)


class _Calls(TorchFunctionMode):
    """Sees what never becomes an operator as such: numbers that go to Python or come from it, and fused attention."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.tolist and isinstance(args[0], OnDevice):
            self.counts["sync tolist"] += 1
            return args[0].held.tolist()
        if (
            func is Tensor.to
            and isinstance(args[0], OnDevice)
            and (card := _card_asked(*args[1:], **kwargs)) is not None
        ) and card != args[0].card:
            self.counts["across"] += 1
            dtype = torch._C._nn._parse_to(*args[1:], **kwargs)[1]  # type: ignore[attr-defined]
            moved = _Across.apply(args[0], card)  # type: ignore[no-untyped-call]
            return moved if dtype is None else moved.to(dtype)
        if func is torch.tensor and _is_device(kwargs.get("device")):
            # In torch, too, it is made on the host and copied.
            target = kwargs.pop("device")
            return torch.tensor(*args, **kwargs).to(target)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            # Lists of places become tensors on the host, and are copied as every index of the host is.
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(place, list) for place in places):
                tensors = tuple(torch.tensor(place) if isinstance(place, list) else place for place in places)
                args = (args[0], tensors, *args[2:])
        if func is torch.nn.functional.scaled_dot_product_attention and isinstance(args[0], OnDevice):
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        mask = options.pop("attn_mask", None)
        given = [query, key, value] + ([] if mask is None else [mask])
        if len({t.device for t in given}) > 1:
            raise MixedDevicesError(f"attention over {[str(t.device) for t in given]}")
        if torch.is_grad_enabled() and any(t.requires_grad for t in given):
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
            scale = options.get("scale")
            scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
            return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ value
        self.counts["fused attention"] += 1
        held = [t.held for t in given if isinstance(t, OnDevice)]
        card = query.device.index
        with torch._C.DisableTorchFunction():
            mixed = torch.nn.functional.scaled_dot_product_attention(
                held[0], held[1], held[2], attn_mask=held[3] if len(held) > 3 else None, **options
            )
        return OnDevice(mixed, card)


def _is_device(value: Any) -> bool:
    return value is not None and torch.device(value).type == NAME


def _card_asked(*args: Any, **kwargs: Any) -> int | None:
    """Return the card that the arguments of ``Tensor.to`` name, if any."""
    if args and isinstance(args[0], Tensor):
        return args[0].device.index if isinstance(args[0], OnDevice) else None
    device = torch._C._nn._parse_to(*args, **kwargs)[0]  # type: ignore[attr-defined]
    return (device.index or 0) if _is_device(device) else None


def _run(func: Any, args: Any, kwargs: dict[str, Any], counts: Counts) -> Any:
    """Apply an operator to what tensors hold, and count it where it runs on the device."""
    name = func._schema.name.split("::")[1]
    on_device: list[OnDevice] = []
    on_host: list[Tensor] = []

    def held(value: Any) -> Any:
        if isinstance(value, OnDevice):
            on_device.append(value)
            return value.held
        if isinstance(value, Tensor):
            on_host.append(value)
        return value

    own_args = [_each(value, held) for value in args]
    own_kwargs = {key: _each(value, held) for key, value in kwargs.items()}
    wanted = kwargs.get("device")
    here = bool(on_device) if wanted is None else _is_device(wanted)
    if name.startswith(("index", "_index_put")) and on_device:
        counts["upload"] += len(on_host)
        masks = [i for i in on_device + on_host if i.dtype == torch.bool and i is not args[0]]
        counts["sync mask"] += len(masks) if name == "index" else 0  # how many it chooses is not known
    elif name == "copy_":
        into, source = isinstance(args[0], OnDevice), isinstance(args[1], OnDevice)
        counts["upload"] += into and not source
        counts["sync copy"] += source and not into
        here = into
    elif name == "_to_copy":
        counts["upload"] += here and not on_device
        counts["sync copy"] += bool(on_device) and not here
    elif on_device and any(t.dim() for t in on_host):
        raise MixedDevicesError(f"{name} of tensors on {[str(t.device) for t in on_device + on_host]}")
    if name != "copy_" and len({t.card for t in on_device}) > 1:
        raise MixedDevicesError(f"{name} of tensors on {[str(t.device) for t in on_device]}")
    counts["sync item"] += name == "_local_scalar_dense" and bool(on_device)
    counts["sync nonzero"] += name == "nonzero" and bool(on_device)
    if here and name not in _NO_LAUNCH and name != "_local_scalar_dense":
        counts[name] += 1
    card = on_device[0].card if on_device else 0
    if here and "device" in own_kwargs:
        # Where torch asks for room beside a tensor, it means the tensor's card.
        card = (wanted.index or card) if wanted is not None else card
        own_kwargs["device"] = torch.device("cpu")
    result = func(*own_args, **own_kwargs)
    if name.endswith("_") and isinstance(args[0], OnDevice):
        return args[0]
    return _each(result, partial(_wrapped, card=card)) if here else result


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change what stands in a value and in its lists; torch's own function for it costs more than the operators."""
    return type(value)(_each(v, change) for v in value) if isinstance(value, (list, tuple)) else change(value)


def _wrapped(value: Any, card: int) -> Any:
    return OnDevice(value, card) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value

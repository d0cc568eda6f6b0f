"""Which device computes, in which numbers, and how exactly."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.errors import ConfigError, ModelError
from greater_ray.models.faults import is_fault, is_out_of_memory

if TYPE_CHECKING:
    import torch

# What the drivers of NVIDIA and AMD put there.
_GPUS = ("nvidia[0-9]*", "kfd")


def find(name: str) -> "torch.device":
    """Return the device to use; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: no such device here.
        ModelError: it has no memory left at all.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("a device without memory")
        # Only an allocation tells whether a known kind of device is really there.
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        if is_fault(error):
            raise
        if is_out_of_memory(error):
            # Not even one number has room. It may have on another card, so no setting is to blame.
            why = f"the memory of {device} is full; other programs hold it."
            raise ModelError(why, setting="model.device") from error
        here = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ConfigError(f"'{name}' is not available; here: {', '.join(here)}.", setting="model.device") from error
    return device


def find_all(names: str) -> "tuple[torch.device, ...]":
    """Return the devices of ``cuda:0,cuda:1``, over which a model is spread, or the one device of ``find``.

    Raises:
        ConfigError: one of them is not there or named twice, or they are of two kinds.
        ModelError: one of them has no memory left at all.
    """
    if "," not in names:
        return (find(names),)
    found = tuple(find(name.strip()) for name in names.split(","))
    if len(set(found)) < len(found) or any(device.index is None for device in found):
        why = f"'{names}' must name every GPU once, with its number, as in cuda:0,cuda:1."
        raise ConfigError(why, setting="model.device")
    return found


def hardware(devices: "Sequence[torch.device]") -> str | None:
    """Return the names of GPUs, with how many there are of each; None for a CPU."""
    import torch

    names = Counter(torch.cuda.get_device_name(device) for device in devices if device.type == "cuda")
    return ", ".join(f"{number} x {name}" if number > 1 else name for name, number in names.items()) or None


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Tell, without torch, whether a driver has put a GPU there that is not hidden."""
    return not _hidden() and bool(_gpus(devices))


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")


def _gpus(devices: Path) -> list[Path]:
    return sorted(file for pattern in _GPUS for file in devices.glob(pattern))


def gpu_left_out(name: str, device: "torch.device", devices: Path = Path("/dev")) -> str | None:
    """Say that ``auto`` has come to the CPU of a machine with a GPU, unless the GPU was hidden on purpose."""
    import torch

    found = _gpus(devices)
    if name != "auto" or device.type != "cpu" or _hidden() or not found:
        return None
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"warning: there is a GPU here ({found[0]}) that torch {torch.__version__}, built {built}, cannot use, so the "
        "CPU computes; install a driver or a torch that fit each other, or set model.device to cpu to be told no more"
    )


def round_once(device: "torch.device") -> None:
    """Let matrix products on a GPU round their result alone.

    Sums of products stay in float32: cuBLAS may else add partial sums in half precision, which depends on how a
    product is split and so on the number of rows. TF32, 10 bits for float32, is off by default; a default may change.
    """
    import torch

    if device.type == "cuda":
        products = torch.backends.cuda.matmul
        products.allow_bf16_reduced_precision_reduction = False
        products.allow_fp16_reduced_precision_reduction = False
        torch.set_float32_matmul_precision("highest")


def numbers(name: str, device: "torch.device") -> Any:
    """Return the dtype to load in: ``auto`` is float32 on a CPU: half precision is another model."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    return torch.float32 if device.type == "cpu" else "auto"

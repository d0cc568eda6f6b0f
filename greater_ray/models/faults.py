"""What an error of torch says about the device: memory ran out, or nothing on it can be computed any more.

CUDA keeps some errors: after an illegal access, a failed assertion in a kernel or a memory error of the card, every
further call of the process fails as well, and only another process can go on. torch has one class for what CUDA says
(``AcceleratorError``) and none for what cuBLAS, cuDNN and NCCL say, so texts are read. Torch itself is not imported
here, as whoever looks after replicas has none.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from greater_ray.errors import DeviceError

_MEMORY = re.compile(
    "can't allocate memory|not enough memory"  # the host's
    "|(?:CUDA|HIP|Cuda failure|Triton Error)[^\n]{0,40}out of memory"
    "|_STATUS_ALLOC_FAILED|_ALLOCATION_FAILED"
    # A handle takes the first memory of all, and this is how a full card says no.
    "|CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"
)
_DEVICE = re.compile(
    r"(?:CUDA|HIP)(?: driver)? error|Triton Error \[(?:CUDA|HIP)|(?:CUBLAS|HIPBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_"
    "|cuDNN error|NCCL error|ncclUnhandledCudaError|ncclSystemError|ncclInternalError"
)
# What only the call was to blame for: the next one may succeed.
_CALL = re.compile(
    "error: (?:invalid argument|invalid configuration argument|invalid device|no kernel image|too many resources)"
    "|_STATUS_(?:NOT_SUPPORTED|INVALID_VALUE|BAD_PARAM|ARCH_MISMATCH)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on a GPU or on the host."""
    return _is(error, "OutOfMemoryError") or _MEMORY.search(str(error)) is not None


def is_fault(error: BaseException) -> bool:
    """Tell whether an error leaves a device on which no further call of this process can succeed.

    Where a text leaves it open, it is taken for one: a process too many is started then, while one that is kept in
    such a state would fail all work that it is given.
    """
    text = str(error)
    told = _is(error, "AcceleratorError") or _DEVICE.search(text) is not None
    return told and not is_out_of_memory(error) and _CALL.search(text) is None


@contextmanager
def device_faults() -> Iterator[None]:
    """Let the faults of a device out as what they are; all other errors pass.

    Raises:
        DeviceError: see ``is_fault``.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_fault(error):
            raise
        what = str(error).strip().splitlines()[0].rstrip(".")
        why = f"this process can compute nothing more on its device: {what}; another process may."
        raise DeviceError(why) from error


def _is(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)

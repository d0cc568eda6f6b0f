"""Out of memory is not the end: what is only kept to save time goes, then the batch is halved.

The work goes on with the same result, up to rounding where a batch was halved.
"""

import ctypes
import platform
from collections.abc import Callable
from typing import TypeVar

import torch

from greater_ray.errors import ModelError

ResultT = TypeVar("ResultT")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of giving them back to the system after every tensor.

    Otherwise each large tensor faults its pages in anew: the gradient pass took 12 % longer on two CPU cores.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error of torch means that memory ran out, on a GPU or on the host."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "not enough memory" in text


class MicroBatch:
    """A row limit that halves whenever memory runs out and ``free`` frees nothing, and stays there.

    ``free`` gives up what is kept only to save time, and tells whether there was any.
    """

    def __init__(self, limit: int | None = None, free: Callable[[], bool] = lambda: False) -> None:
        self.limit, self._free = limit, free

    def map(self, work: Callable[[int, int], list[ResultT]], rows: int) -> list[ResultT]:
        """Apply ``work(start, stop)`` over all rows in order, in pieces that fit into memory.

        Raises:
            ModelError: not even one row fits.
        """
        results: list[ResultT] = []
        while len(results) < rows:
            start = len(results)
            stop = min(rows, start + (self.limit or rows))
            try:
                results.extend(work(start, stop))
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                freed = self._free()
                if stop - start == 1 and not freed:
                    raise ModelError(
                        "out of memory with a single row: use a smaller model, a shorter max_reasoning_tokens or "
                        "a smaller dtype."
                    ) from error
            # Outside the except block, so that the traceback no longer holds the tensors of the failed attempt.
            if not freed:
                self.limit = (stop - start) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results

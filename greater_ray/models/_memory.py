"""Out of memory is not the end: what is only kept to save time goes, then the batch is halved for a while.

The work goes on with the same result, up to rounding where a batch was halved.
"""

import ctypes
import gc
import platform
from collections.abc import Callable
from typing import TypeVar

import torch

from greater_ray.errors import ModelError
from greater_ray.models.faults import is_out_of_memory

ResultT = TypeVar("ResultT")

RECOVERY = 32  # full pieces without a failure, after which a halved row limit is doubled
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of giving them back to the system after every tensor.

    Otherwise each large tensor faults its pages in anew: the gradient pass took 12 % longer on two CPU cores.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class MicroBatch:
    """A row limit that halves whenever memory runs out and ``free`` frees nothing.

    It doubles again after ``RECOVERY`` full pieces in a row, since what took the memory may be gone; where that was in
    vain, only after twice as many as before. ``free`` gives up what is kept only to save time, and tells whether there
    was any.
    """

    def __init__(self, limit: int | None = None, free: Callable[[], bool] = lambda: False) -> None:
        self.limit, self._free = limit, free
        self._most = limit
        self._wait, self._full_pieces, self._raised = RECOVERY, 0, False

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
                self._went_well(stop - start)
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
            if not (_collect() or freed):
                self._halve(stop - start)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return results

    def _halve(self, rows: int) -> None:
        self._wait *= 2 if self._raised else 1
        self.limit, self._full_pieces, self._raised = rows // 2, 0, False

    def _went_well(self, rows: int) -> None:
        """Count full pieces; after enough of them the limit is doubled, up to where it began."""
        if self.limit == self._most or rows < (self.limit or 0):
            return
        self._full_pieces += 1
        if self._full_pieces >= self._wait and self.limit is not None:
            raised = 2 * self.limit
            self.limit = raised if self._most is None else min(raised, self._most)
            self._full_pieces, self._raised = 0, True


def _collect() -> bool:
    """Collect garbage, which may hold tensors in cycles; tell whether memory of a GPU came free."""
    if not torch.cuda.is_available():
        gc.collect()
        return False
    before = _allocated()
    gc.collect()
    return _allocated() < before


def _allocated() -> int:
    """Return the bytes that tensors hold on all GPUs."""
    return sum(torch.cuda.memory_allocated(number) for number in range(torch.cuda.device_count()))

"""A running grid in numbers: cells, replicas, speed and time left. The screen and ``status.json`` show the same."""

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from greater_ray.errors import Place, StoreError
from greater_ray.files import read_object, write_atomic
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import Progress
from greater_ray.grid.store import GridStore

STATUS_FILE = "status.json"
FRESH = 15.0  # seconds for which the status of another machine is believed
# Share of a cell's work that is its search; the rest is the final evaluation. Only for the time left.
_SEARCH = 0.7
_TOLD = {"time", "pid", "host", "phase", "cells", "running", "pools", "seconds_left"}  # what the file must hold
_WINDOW = 30.0  # seconds over which speed and busy share are taken


class PoolStatus:
    """One model's replicas over the last half minute: tokens are counted when a shard ends, not in between."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float, int]] = deque()
        self.busy = 0.0
        self.tokens_per_second = 0.0
        self.stats: dict[str, Any] = {}

    def add(self, stats: dict[str, Any], now: float) -> None:
        """Take in what the broker tells."""
        slots = stats["slots"]
        busy, tokens = sum(s["busy_seconds"] for s in slots), sum(s["tokens"] for s in slots)
        if self._looks and tokens < self._looks[-1][2]:
            self._looks.clear()  # another pool of the same model
        while len(self._looks) > 1 and now - self._looks[1][0] >= _WINDOW:
            self._looks.popleft()
        if self._looks and now > self._looks[0][0]:
            passed = now - self._looks[0][0]
            self.busy = min(1.0, (busy - self._looks[0][1]) / passed / len(slots))
            self.tokens_per_second = (tokens - self._looks[0][2]) / passed
        self._looks.append((now, busy, tokens))
        self.stats = stats

    def snapshot(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        slots = self.stats["slots"]
        return {
            "model": self.stats["model"],
            "replicas": len(slots),
            **({"gpus": gpus} if (gpus := self.stats.get("gpus", 0)) > 1 else {}),  # of each
            "loaded": sum(s["state"] in ("idle", "busy") for s in slots),
            "hosts": len({s["host"] for s in slots if s["host"] != "-"}),
            "busy": round(self.busy, 3),
            "queue": self.stats["queue"],
            "tokens_per_second": round(self.tokens_per_second, 1),
            "deaths": sum(s["deaths"] for s in slots),
            "still": sum(s["still"] for s in slots),
            "repeated": sum(s["repeated"] for s in slots),
        }


class GridStatus:
    """Collects what a grid's observer is told; with a folder, ``status.json`` there follows.

    The screen, the watch over the pools and the grid itself are three threads.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.phase = "starting"
        self.total = self.before = self.failed_before = self.open = 0
        self.running: dict[str, tuple[Cell, Progress | None]] = {}
        self.ended: dict[str, str] = {}
        self._pools: dict[str, PoolStatus] = {}
        self._begin = time.monotonic()
        self._written: float | None = None
        self._lock = threading.RLock()

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        """A phase begins."""
        with self._lock:
            self.phase = phase
            # Cells that share a trial are one piece of work.
            ended = {cell.trial_id for cell in cells} - {cell.trial_id for cell in open_cells}
            self.open = len(open_cells)
            self.total = self.open + len(ended)
            store = GridStore(self.folder) if self.folder is not None else None
            self.failed_before = sum(store.failure(trial) is not None for trial in ended) if store else 0
            self.before = len(ended) - self.failed_before
            self.running, self.ended = {}, {}
            self._begin = time.monotonic()
            self._write()

    def started(self, cell: Cell) -> None:
        """A cell runs."""
        with self._lock:
            self.running[cell.trial_id] = (cell, None)
            self._write()

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """A cell has come further."""
        with self._lock:
            self.running[cell.trial_id] = (cell, progress)
            self._write()

    def finished(self, cell: Cell, state: str) -> None:
        """A cell has ended."""
        with self._lock:
            self.running.pop(cell.trial_id, None)
            self.ended[cell.trial_id] = state
            self._write()

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """Look at the pools; those of an earlier wave are gone."""
        now = time.monotonic()
        with self._lock:
            for name in [name for name in self._pools if name not in {s["model"] for s in stats}]:
                del self._pools[name]
            for pool in stats:
                self._pools.setdefault(pool["model"], PoolStatus()).add(pool, now)
            self._write()

    def _write(self) -> None:
        now = time.monotonic()
        if self.folder is None or (self._written is not None and now - self._written < 2.0):
            return
        self._written = now
        # Those who write results complain of a full disk.
        with suppress(StoreError):
            value = {"pid": os.getpid(), "host": socket.gethostname(), **self.snapshot()}
            write_atomic(self.folder / STATUS_FILE, json.dumps(value) + "\n")

    def close(self) -> None:
        """The grid has ended: nothing runs here any more."""
        if self.folder is not None and self._written is not None:
            with suppress(OSError):
                (self.folder / STATUS_FILE).unlink()

    def count(self, state: str) -> int:
        """How many cells ended in a state during this run."""
        return sum(ended == state for ended in self.ended.values())

    @property
    def seconds_left(self) -> float | None:
        """Estimate by the share of the open work that is done; None before there is any."""
        share = sum(map(_share, self.running.values())) + len(self.ended)
        if share < 0.02 * max(1, self.open):
            return None
        return (time.monotonic() - self._begin) * (self.open - share) / share

    def snapshot(self) -> dict[str, Any]:
        """Return all numbers as JSON."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        left = self.seconds_left
        return {
            "time": time.time(),
            "phase": self.phase,
            "cells": {
                "total": self.total,
                "running": len(self.running),
                "done": self.before + self.count("done"),
                "failed": self.failed_before + self.count("failed"),
                "stopped": self.count("stopped"),
            },
            "running": [
                {"cell": cell.title, **(progress._asdict() if progress is not None else {})}
                for cell, progress in self.running.values()
            ],
            "pools": [pool.snapshot() for pool in self._pools.values()],
            "seconds_left": None if left is None else round(left, 1),
        }


def _share(entry: tuple[Cell, Progress | None]) -> float:
    """How much of a running cell is done, from 0 to 1."""
    progress = entry[1]
    if progress is None:
        return 0.0
    searched = _SEARCH * min(1.0, progress.step / progress.steps) if progress.steps else 0.0
    return searched if progress.phase == "search" else max(searched, _SEARCH)


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return the numbers of a grid that is running now, or None.

    Raises:
        StoreError: the file with the numbers cannot be read, or is none that a grid of this version writes.
    """
    path = folder / STATUS_FILE
    try:
        value = read_object(path)
    except StoreError:
        if not path.exists():
            return None
        raise
    told, pid = value.get("time"), value.get("pid")
    if not isinstance(told, (int, float)) or not isinstance(pid, int) or not value.keys() >= _TOLD:
        raise StoreError("not what a running grid writes.", place=Place(str(path)))
    # Also after a clock was set back: what comes from the future is as old as any.
    if abs(time.time() - told) <= FRESH:
        return value
    return value if value["host"] == socket.gethostname() and _alive(pid) else None


def _alive(pid: int) -> bool:
    """Tell whether a process of this machine is there: one step of a large model can be longer than ``FRESH``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

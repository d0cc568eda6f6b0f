"""The folder of a grid: one run folder per cell, found by content, and beside them what failed.

``cells/<name>-<trial_id>-<inputs>``: the trial's identity and that of its rows, weights and models' files stand in the
name, so a changed setting, row, weight or file never meets an old result, and an old one is never overwritten.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel

from greater_ray.config import fingerprint
from greater_ray.errors import DiskError, Place, StoreError, redacted
from greater_ray.files import (
    Lines,
    make_folder,
    read_object,
    refuse_edited,
    sealed,
    unfit,
    unwritable,
    write_atomic,
    writing,
)
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import AXES
from greater_ray.records import SCHEMA_VERSION, TrialRecord
from greater_ray.store import read_record

GRID_FILE = "grid.json"
_CELL = re.compile("-[0-9a-f]{16}-[0-9a-f]{8}$")  # how the name of a cell's folder ends
_SETTLED = 2.0  # seconds after which a folder's time tells every change


class CellState(NamedTuple):
    """What is known of a cell: ``done``, ``failed``, ``begun`` (it can go on) or ``open``."""

    state: Literal["done", "failed", "begun", "open"]
    folder: Path | None = None
    reason: str | None = None


class GridEntry(NamedTuple):
    """One cell as ``grid.json`` notes it; ``source`` is the trial whose prompt it measures in the transfer phase."""

    trial_id: str
    labels: dict[str, str]
    source: str | None


class _NotedCell(BaseModel):
    """What ``grid.json`` must say of a cell."""

    trial_id: str
    method: str
    task: str
    model: str
    seed: str | int
    source: str | None


class _NotedGrid(BaseModel):
    """What ``grid.json`` must hold."""

    name: str
    cells: list[_NotedCell]


class GridStore:
    """Reads and writes a grid's folder. Reading needs no lock; one driver at a time writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.cells = self.folder / "cells"
        self.failures = self.folder / "failures"
        self.events = Lines(self.folder / "events.jsonl")
        self._lock: FileLock | None = None
        self._listed_at, self._listed = -1.0, dict[str, list[Path]]()

    def claim(self) -> None:
        """Make the folder and hold it until this process ends.

        Raises:
            StoreError: another driver holds it, or it holds something that is no grid.
        """
        try:
            held = list(self.folder.iterdir()) if self.folder.exists() else []
            if not self.exists and any(not p.name.startswith(".") for p in held) and not self._lost_its_file():
                raise StoreError(
                    f"'{self.folder}' is not empty and holds no grid; choose a new folder.",
                    setting="out",
                    value=self.folder,
                )
            for folder in (self.cells, self.failures):
                make_folder(folder)
            self._lock = FileLock(self.folder / ".lock", timeout=0)
            self._lock.acquire()
            # A driver that was killed may have left half an event.
            self.events.drop_half_line()
        except Timeout:
            raise StoreError(f"another process is running a grid in '{self.folder}'.", setting="out") from None
        except OSError as error:
            raise unwritable(self.folder / GRID_FILE, error) from error

    def _lost_its_file(self) -> bool:
        """Tell a grid whose file was moved away, or whose driver was killed before it wrote one."""
        try:
            cells = [path.name for path in self.cells.iterdir()]
        except OSError:
            return False
        return self.failures.is_dir() and all(_CELL.search(name) for name in cells if not name.startswith("."))

    def require(self) -> None:
        """Make sure that the folder is still that of a grid, before anything is written below it.

        Raises:
            DiskError: it was removed, or its disk is gone.
        """
        if not self.exists:
            why = f"'{self.folder}' holds no grid any more ({GRID_FILE} is gone); bring it back and run again."
            raise DiskError(why, setting="out")

    def close(self) -> None:
        """Let another driver use the folder."""
        if self._lock is not None:
            self._lock.release()

    # -- what the grid is --------------------------------------------------------------------------------------------

    def write_grid(self, name: str, cells: list[Cell], *, whole: bool) -> None:
        """Note the cells of a phase, so that ``status`` needs no configuration.

        Those of earlier grids stay as well; where these are the ``whole`` phase, only if they are done, since nothing
        would finish the others.
        """
        entries = self.read_grid()["cells"] if self.exists else []
        states = self.states(dict.fromkeys(entry["trial_id"] for entry in entries)) if whole else {}
        phases = {cell.source is not None for cell in cells}
        known = {
            (entry["trial_id"], entry["source"]): entry
            for entry in entries
            if not whole or (entry["source"] is not None) not in phases or states[entry["trial_id"]].state == "done"
        }
        new = {
            (cell.trial_id, cell.source): {
                "trial_id": cell.trial_id,
                **cell.labels,
                "source": cell.source,
                "slug": cell.slug,
                "steps": cell.config.budget.steps,
            }
            for cell in cells
        }
        value = {"schema_version": SCHEMA_VERSION, "name": name, "cells": [*{**known, **new}.values()]}
        write_atomic(self.folder / GRID_FILE, json.dumps(sealed(value), indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether a grid was begun here."""
        return (self.folder / GRID_FILE).exists()

    def read_grid(self) -> dict[str, Any]:
        """Return the noted name and cells.

        Raises:
            StoreError: there is no grid here, or its file cannot be read.
        """
        path = self.folder / GRID_FILE
        if not path.exists():
            why = f"'{self.folder}' holds no grid ({GRID_FILE} is missing)."
            raise StoreError(why, setting="folder", value=self.folder)
        value = read_object(path)
        try:
            _NotedGrid.model_validate(value)
            refuse_edited(value)
        except ValueError as error:
            why = f"not what a grid writes ({unfit(error)}); move it away and run the grid again, its cells stay."
            raise StoreError(why, place=Place(str(path))) from error
        return value

    def entries(self) -> list[GridEntry]:
        """Return the noted cells of both phases.

        Raises:
            StoreError: there is no grid here, or its file cannot be read.
        """
        return [
            GridEntry(entry["trial_id"], {axis: str(entry[axis]) for axis in AXES}, entry["source"])
            for entry in self.read_grid()["cells"]
        ]

    # -- cells ---------------------------------------------------------------------------------------------------------

    def cell_folder(self, cell: Cell, inputs: Mapping[str, str]) -> Path:
        """Return the run folder of a cell for these hashes of rows, weights and files: a new one, or one to go on in.

        All that ``state`` compares must be among them: what it calls open would otherwise meet the old folder again.
        """
        known = self.state(cell.trial_id, inputs).folder
        # One that was begun where less was known, as before a hub model was cached, has another name. Where what it
        # notes cannot be read, whoever goes on there says so.
        if known is not None and _noted_inputs(known) != {}:
            return known
        return self.cells / f"{cell.slug}-{cell.trial_id}-{fingerprint(dict(inputs))[:8]}"

    def state(self, trial_id: str, inputs: Mapping[str, str] | None = None) -> CellState:
        """Tell how far a cell is; only folders whose noted inputs agree with ``inputs`` count.

        Inputs are noted before the first step, so every record has them. A folder without a note was claimed and no
        more: it is begun, whatever the inputs.

        Raises:
            StoreError: the folder of the cells cannot be read.
        """
        return self._state(trial_id, inputs, self._folders_of(trial_id))

    def states(self, inputs: Mapping[str, Mapping[str, str] | None]) -> dict[str, CellState]:
        """Tell how far many cells are, by trial, as ``state`` does for one; the folder is listed once."""
        folders = self._folders()
        return {trial_id: self._state(trial_id, own, folders.get(trial_id, [])) for trial_id, own in inputs.items()}

    def _state(self, trial_id: str, inputs: Mapping[str, str] | None, folders: list[Path]) -> CellState:
        begun = None
        for folder in folders:
            noted = _noted_inputs(folder) if inputs else {}
            if _others(noted or {}, inputs):
                continue
            if noted is not None and (folder / "record.json").exists():
                return CellState("done", folder)
            begun = folder
        reason = self.failure(trial_id, inputs)
        if reason is not None:
            return CellState("failed", begun, reason)
        return CellState("begun", begun) if begun is not None else CellState("open")

    def _folders(self) -> dict[str, list[Path]]:
        """Return the run folders by trial, each trial's by name; they are listed again when that may have changed."""
        with self._listing():
            changed = self.cells.stat().st_mtime
            if not self._is_listed(changed):
                with os.scandir(self.cells) as listing:
                    names = sorted(entry.name for entry in listing if entry.is_dir())
                self._listed_at, self._listed = changed, {}
                for parts in (name.rsplit("-", 2) for name in names):
                    if len(parts) == 3:
                        self._listed.setdefault(parts[1], []).append(self.cells / "-".join(parts))
            return self._listed
        return {}

    def _folders_of(self, trial_id: str) -> list[Path]:
        """Return the run folders of one trial by name, as ``_folders`` does.

        Every cell of a running grid asks when others have just made theirs, so what this does per folder counts.
        """
        with self._listing():
            if self._is_listed(self.cells.stat().st_mtime):
                return self._listed.get(trial_id, [])
            names = sorted(name for name in os.listdir(self.cells) if trial_id in name)
            paths = [self.cells / name for name in names if name.rsplit("-", 2)[1:-1] == [trial_id]]
            return [path for path in paths if path.is_dir()]
        return []

    def _is_listed(self, changed: float) -> bool:
        """Tell whether the last listing is that of a folder which was changed at this time."""
        # A folder's time is coarse: one that has just changed may change again under the same time.
        return changed == self._listed_at and time.time() - changed >= _SETTLED

    @contextmanager
    def _listing(self) -> Iterator[None]:
        """Pass over a folder that is not there.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot be listed ({error.strerror}).", place=Place(str(self.cells))) from error

    def record(self, folder: Path) -> TrialRecord:
        """Read a finished cell's record.

        Raises:
            StoreError: it is not a record of this version.
        """
        return read_record(folder / "record.json")

    # -- failures and events -------------------------------------------------------------------------------------------

    def failure(self, trial_id: str, inputs: Mapping[str, str] | None = None) -> str | None:
        """Return why a cell failed, if it did, and with no other rows or files than ``inputs``.

        Where that cannot be read, the reason says so: the cell has failed all the same, and may be tried again.
        """
        path = self.failures / f"{trial_id}.json"
        if not path.exists():
            return None
        try:
            value = read_object(path)
            noted = value.get("inputs", {})
            if not isinstance(value.get("reason"), str) or not isinstance(noted, dict):
                raise StoreError("not what a grid writes of a failed cell.", place=Place(str(path)))
        except StoreError as error:
            return f"the reason is lost: {error}"
        return None if _others(noted, inputs) else str(value["reason"])

    def write_failure(self, cell: Cell, inputs: Mapping[str, str], reason: str, trace: str = "") -> None:
        """Record a failed cell: named, with its reason, and never taken for a result."""
        value = {
            "schema_version": SCHEMA_VERSION,
            "trial_id": cell.trial_id,
            **cell.labels,
            "source": cell.source,
            "inputs": dict(inputs),
            "reason": reason,
            "trace": trace,
            "config": cell.config.model_dump(mode="json"),
        }
        with writing(self.failures):
            self.failures.mkdir(exist_ok=True)
        write_atomic(self.failures / f"{cell.trial_id}.json", json.dumps(value, indent=1) + "\n")

    def forget_failure(self, trial_id: str) -> None:
        """Let a failed cell run again."""
        path = self.failures / f"{trial_id}.json"
        with writing(path):
            path.unlink(missing_ok=True)

    def note(self, kind: str, **facts: Any) -> None:
        """Append one event: replicas that died, shards set aside, phases."""
        told = {name: redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        self.events.append([{"time": time.time(), "event": kind, **told}])


def _others(noted: Mapping[str, str], inputs: Mapping[str, str] | None) -> bool:
    """Tell whether what was noted is of other rows or files than these."""
    return any(noted.get(name, value) != value for name, value in (inputs or {}).items())


def _noted_inputs(folder: Path) -> dict[str, str] | None:
    """Return the hashes that a run folder notes; None where its note cannot be read."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    with suppress(StoreError):
        noted = read_object(path).get("inputs")
        return noted if isinstance(noted, dict) else {}
    return None

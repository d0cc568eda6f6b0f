"""The folder of a grid: one run folder per cell, found by content, and beside them what failed.

``cells/<name>-<trial_id>-<inputs>``: the trial's identity and that of its rows, weights and models' files stand in the
name, so a changed setting, row, weight or file never meets an old result, and an old one is never overwritten.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import ValidationError

from greater_ray.config import fingerprint
from greater_ray.errors import StoreError
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import AXES
from greater_ray.records import SCHEMA_VERSION, TrialRecord
from greater_ray.store import Lines, write_atomic

GRID_FILE = "grid.json"
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
            names = [p.name for p in self.folder.iterdir()] if self.folder.exists() else []
            if GRID_FILE not in names and any(not name.startswith(".") for name in names):
                raise StoreError(f"'{self.folder}' is not empty and holds no grid; choose a new folder.", setting="out")
            for folder in (self.cells, self.failures):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise StoreError(f"another process is running a grid in '{self.folder}'.", setting="out") from None
        except OSError as error:
            raise StoreError(f"'{self.folder}' cannot be written ({error.strerror}).", setting="out") from error

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
        phases = {cell.source is not None for cell in cells}
        known = {
            (entry["trial_id"], entry["source"]): entry
            for entry in entries
            if not whole or (entry["source"] is not None) not in phases or self.state(entry["trial_id"]).state == "done"
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
        write_atomic(self.folder / GRID_FILE, json.dumps(value, indent=1) + "\n")

    @property
    def exists(self) -> bool:
        """Whether a grid was begun here."""
        return (self.folder / GRID_FILE).exists()

    def read_grid(self) -> dict[str, Any]:
        """Return the noted name and cells.

        Raises:
            StoreError: there is no grid here, or it cannot be read.
        """
        try:
            value: dict[str, Any] = json.loads((self.folder / GRID_FILE).read_text(encoding="utf-8"))
            return value
        except (OSError, ValueError) as error:
            raise StoreError(f"'{self.folder}' holds no grid ({GRID_FILE} is missing or broken).") from error

    def entries(self) -> list[GridEntry]:
        """Return the noted cells of both phases.

        Raises:
            StoreError: there is no grid here, or its file cannot be read.
        """
        try:
            return [
                GridEntry(entry["trial_id"], {axis: str(entry[axis]) for axis in AXES}, entry["source"])
                for entry in self.read_grid()["cells"]
            ]
        except (KeyError, TypeError) as error:
            raise StoreError(f"'{self.folder / GRID_FILE}' is not what a grid writes: {error!r} is missing.") from error

    # -- cells ---------------------------------------------------------------------------------------------------------

    def cell_folder(self, cell: Cell, inputs: Mapping[str, str]) -> Path:
        """Return the run folder of a cell for these hashes of rows, weights and files: a new one, or one to go on in.

        All that ``state`` compares must be among them: what it calls open would otherwise meet the old folder again.
        """
        known = self.state(cell.trial_id, inputs).folder
        # One that was begun where less was known, as before a hub model was cached, has another name.
        if known is not None and _noted_inputs(known):
            return known
        return self.cells / f"{cell.slug}-{cell.trial_id}-{fingerprint(dict(inputs))[:8]}"

    def state(self, trial_id: str, inputs: Mapping[str, str] | None = None) -> CellState:
        """Tell how far a cell is; only folders whose noted inputs agree with ``inputs`` count.

        Inputs are noted before the first step, so every record has them. A folder without a note was claimed and no
        more: it is begun, whatever the inputs.
        """
        begun = None
        for folder in self._folders(trial_id):
            noted = _noted_inputs(folder)
            if _others(noted, inputs):
                continue
            if (folder / "record.json").exists():
                return CellState("done", folder)
            begun = folder
        reason = self.failure(trial_id, inputs)
        if reason is not None:
            return CellState("failed", begun, reason)
        return CellState("begun", begun) if begun is not None else CellState("open")

    def _folders(self, trial_id: str) -> list[Path]:
        """Return the run folders of a trial, by name; the listing is read again when it may have changed."""
        try:
            changed = self.cells.stat().st_mtime
        except OSError:
            return []
        # A folder's time is coarse: one that has just changed may change again under the same time.
        if changed != self._listed_at or time.time() - changed < _SETTLED:
            self._listed_at, self._listed = changed, {}
            for folder in sorted(self.cells.iterdir()):
                parts = folder.name.rsplit("-", 2)
                if len(parts) == 3:
                    self._listed.setdefault(parts[1], []).append(folder)
        return self._listed.get(trial_id, [])

    def record(self, folder: Path) -> TrialRecord:
        """Read a finished cell's record.

        Raises:
            StoreError: it is not a record of this version.
        """
        try:
            return TrialRecord.model_validate_json((folder / "record.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise StoreError(f"'{folder / 'record.json'}' is not a record of this version.") from error

    # -- failures and events -------------------------------------------------------------------------------------------

    def failure(self, trial_id: str, inputs: Mapping[str, str] | None = None) -> str | None:
        """Return why a cell failed, if it did, and with no other rows or files than ``inputs``."""
        path = self.failures / f"{trial_id}.json"
        if not path.exists():
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
        return None if _others(value.get("inputs", {}), inputs) else str(value["reason"])

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
        self.failures.mkdir(parents=True, exist_ok=True)
        write_atomic(self.failures / f"{cell.trial_id}.json", json.dumps(value, indent=1) + "\n")

    def forget_failure(self, trial_id: str) -> None:
        """Let a failed cell run again."""
        (self.failures / f"{trial_id}.json").unlink(missing_ok=True)

    def note(self, kind: str, **facts: Any) -> None:
        """Append one event: replicas that died, shards set aside, phases."""
        self.events.append([{"time": time.time(), "event": kind, **facts}])


def _others(noted: Mapping[str, str], inputs: Mapping[str, str] | None) -> bool:
    """Tell whether what was noted is of other rows or files than these."""
    return any(noted.get(name, value) != value for name, value in (inputs or {}).items())


def _noted_inputs(folder: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, KeyError):
        inputs: dict[str, str] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["inputs"]
        return inputs
    return {}

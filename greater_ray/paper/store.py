"""The one folder of all tables: a grid's folder, with its scale and version, what was asked of it, and seals.

``paper.json`` names the scale and the package's version, so that numbers of two never meet; the views under which each
table was run, so that ``show`` needs no options; and for every finished cell its folder with the hash of its record as
it was when it was first seen, so that an edited record is refused.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from greater_ray.config import Config
from greater_ray.errors import ConfigError, DataError, Place, StoreError
from greater_ray.files import read_object, unfit, write_atomic
from greater_ray.grid.store import CellState, GridStore
from greater_ray.paper.plan import View
from greater_ray.provenance import package_version
from greater_ray.records import SCHEMA_VERSION, EvaluationRecord, TrialRecord

PAPER_FILE = "paper.json"


class Seal(BaseModel):
    """A finished cell: the name of its folder, and the hash of its record."""

    folder: str
    sha256: str


class _Noted(BaseModel):
    scale: str
    version: str
    views: dict[str, dict[str, Any]] = {}
    seals: dict[str, Seal] = {}


class PaperStore:
    """Reads and writes the folder of all tables; cells are those of ``grid``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grid = GridStore(folder)
        self._path = folder / PAPER_FILE
        self._noted = self._read()

    @property
    def exists(self) -> bool:
        """Whether a table was run here."""
        return self._noted is not None

    def _read(self) -> _Noted | None:
        if not self._path.exists():
            return None
        try:
            return _Noted.model_validate(read_object(self._path))
        except StoreError as error:
            raise DataError(error.why, place=error.place) from error
        except ValidationError as error:
            raise DataError(f"not what `paper run` writes ({unfit(error)}).", place=Place(str(self._path))) from error

    def check(self, scale: str | None = None) -> str:
        """Return the scale of this folder.

        Raises:
            ConfigError: it holds no tables, or those of another scale or of another version of this package.
        """
        if self._noted is None:
            if self.grid.exists and self.grid.entries():
                why = f"'{self.folder}' holds a grid, and no tables ({PAPER_FILE} is missing); choose a new folder."
                raise ConfigError(why, setting="out", value=self.folder)
            if scale is None:
                raise ConfigError(
                    f"'{self.folder}' holds no tables ({PAPER_FILE} is missing).", setting="out", value=self.folder
                )
            return scale
        if self._noted.version != package_version():
            why = (
                f"'{self.folder}' holds numbers of version {self._noted.version}, and this is {package_version()}; "
                "choose a new folder."
            )
            raise ConfigError(why, setting="out", value=self.folder)
        if scale is not None and scale != self._noted.scale:
            why = f"'{self.folder}' holds numbers of scale '{self._noted.scale}', not '{scale}'; choose a new folder."
            raise ConfigError(why, setting="out", value=self.folder)
        return self._noted.scale

    def begin(self, views: dict[str, View]) -> None:
        """Note the views under which tables are run.

        Raises:
            ConfigError: as ``check``.
            StoreError: the folder is in use, or holds something else.
        """
        scale = self.check(next(iter(views.values())).scale)
        # The grid first: whatever else lies in the folder, or runs there, is refused by it.
        self.grid.claim()
        try:
            if not self.grid.exists:
                self.grid.write_grid("paper", [], whole=False)
            noted = self._noted or _Noted(scale=scale, version=package_version())
            noted.views |= {name: view.model_dump(mode="json") for name, view in views.items()}
            # What was removed is run again, and sealed anew.
            there = {k: seal for k, seal in noted.seals.items() if (self.grid.cells / seal.folder).exists()}
            self._noted = noted.model_copy(update={"seals": there})
            self._write(self._noted)
        finally:
            self.grid.close()

    def view(self, table: str) -> View | None:
        """Return the view under which a table was run last; None where it was not."""
        value = self._noted.views.get(table) if self._noted else None
        return None if value is None else View(**value)

    def _write(self, noted: _Noted) -> None:
        value = {"schema_version": SCHEMA_VERSION, **noted.model_dump(mode="json")}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, json.dumps(value, indent=1) + "\n")

    # -- records -------------------------------------------------------------------------------------------------------

    def seal(self, cells: Iterable[tuple[str, CellState]]) -> None:
        """Note the folders and hashes of finished cells; one of other rows or weights than before takes its place.

        Raises:
            DataError: a record that was noted before has been edited.
        """
        if self._noted is None:
            return
        for trial_id, state in cells:
            if state.state != "done" or state.folder is None:
                continue
            known = self._noted.seals.get(trial_id)
            digest = _digest(state.folder / "record.json")
            if known is not None and known.folder == state.folder.name and known.sha256 != digest:
                raise _edited(state.folder / "record.json")
            self._noted.seals[trial_id] = Seal(folder=state.folder.name, sha256=digest)
        self._write(self._noted)

    def states(self, trial_ids: Iterable[str]) -> dict[str, CellState]:
        """Tell how far cells are; a sealed one is done, with the folder that was noted."""
        states = self.grid.states(dict.fromkeys(trial_ids))
        for trial_id in states:
            seal = self._noted.seals.get(trial_id) if self._noted else None
            folder = self.grid.cells / seal.folder if seal else None
            if folder is not None and (folder / "record.json").exists():
                states[trial_id] = CellState("done", folder)
        return states

    def record(self, trial_id: str, folder: Path) -> TrialRecord:
        """Read a record and make sure that it is what was written.

        Raises:
            DataError: it was edited, or cannot be read.
        """
        path = folder / "record.json"
        seal = self._noted.seals.get(trial_id) if self._noted else None
        try:
            if seal is not None and seal.folder == folder.name and seal.sha256 != _digest(path):
                raise _edited(path)
            record = self.grid.record(folder)
        except StoreError as error:
            raise DataError(error.why, place=error.place) from error
        same = record.trial_id == trial_id == record.config.trial_id()
        if not same or not all(_adds_up(evaluation) for evaluation in record.evaluations):
            raise _edited(path)
        return record


class Fingerprint(Config):
    """What numbers of one column must share. ``rows`` is the hash of a task's rows, by task.

    Of a model behind an endpoint nobody tells the weights: its name and what the server calls it stand for them.
    """

    version: str
    weights: str
    dtype: str
    rows: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, record: TrialRecord) -> "Fingerprint":
        """Return that of a record."""
        return cls(
            version=str(record.environment.get("versions", {}).get("greater-ray")),
            weights=str(record.model.get("weights") or _served(record.model)),
            dtype=str(record.model.get("dtype")),
            rows={record.config.task.name: str(record.task.get("rows_sha256"))},
        )

    def differences(self, other: "Fingerprint") -> list[str]:
        """Say in what two fingerprints differ; rows only where both have a task."""
        told = [
            f"{name} {getattr(other, name)} in place of {getattr(self, name)}"
            for name in ("version", "weights", "dtype")
            if getattr(self, name) != getattr(other, name)
        ]
        both = self.rows.keys() & other.rows.keys()
        return told + [f"other rows of {task}" for task in sorted(both) if self.rows[task] != other.rows[task]]


def _served(model: Mapping[str, Any]) -> str:
    return " as ".join([str(model.get("name")), *model.get("served_models", ())])


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", place=Place(str(path))) from error


def _edited(path: Path) -> DataError:
    return DataError("this record is not what was written when its cell was finished.", place=Place(str(path)))


def _adds_up(evaluation: EvaluationRecord) -> bool:
    scores = [example.score for example in evaluation.examples]
    found = sum(scores) / len(scores) if scores else 0.0
    return len(scores) == evaluation.num_examples and abs(found - evaluation.accuracy) < 1e-9

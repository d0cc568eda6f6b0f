"""A run folder: every file name in one place, atomic writes, append-only lines, and going on after a crash."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from greater_ray.config import TrialConfig
from greater_ray.errors import StoreError
from greater_ray.records import SCHEMA_VERSION, RunConfigFile, TrialRecord
from greater_ray.work.memory import KEPT


@contextmanager
def _io(path: Path) -> Iterator[None]:
    """Name the folder and the reason when writing fails; what was written before stays."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                f"no space left on the disk of '{path.parent}'; free some and run again.", setting="out"
            ) from error
        raise StoreError(f"'{path}' cannot be written ({error.strerror}).", setting="out") from error


def write_atomic(path: Path, text: str) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it.

    Raises:
        StoreError: the file cannot be written; an earlier version is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _io(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


class Lines:
    """An append-only JSONL file. Where a checkpoint notes its length, anything behind that is cut off on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, values: list[dict[str, Any]]) -> None:
        """Append one line per value and flush them to the disk."""
        if not values:
            return
        with _io(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            file.flush()
            os.fsync(file.fileno())

    def cut(self, length: int) -> None:
        """Drop what was written after a checkpoint."""
        if self.length > length:
            with _io(self.path):
                os.truncate(self.path, length)

    def read(self) -> list[dict[str, Any]]:
        """Return all complete lines; a half-written last one (after a crash) is left out."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", errors="replace") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def drop_half_line(self) -> None:
        """Cut a half-written last line off, so that the next one begins on its own."""
        if self.path.exists():
            data = self.path.read_bytes()
            self.cut(data.rfind(b"\n") + 1)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something, but no run.

    Raises:
        StoreError: it does, or it cannot be read.
    """
    with _io(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if "config.json" not in names and any(not name.startswith(".") for name in names):
        raise StoreError(f"'{folder}' is not empty and holds no run; choose a new folder.", setting="out")


class RunStore:
    """The folder of one run; one process at a time.

    Raises:
        StoreError: the folder holds a different run, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, config: TrialConfig) -> None:
        self.folder = folder
        refuse_foreign(folder)
        self.steps = Lines(folder / "steps.jsonl")
        self.evaluations = Lines(folder / "evaluations.jsonl")
        self._state, self._record = folder / "state.json", folder / "record.json"
        with _io(folder / "config.json"):
            folder.mkdir(parents=True, exist_ok=True)
            # Held until this process ends, however it ends.
            self._lock = FileLock(folder / ".lock", timeout=0)
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(
                    f"another process is running in '{folder}'; wait for it to end.", setting="out"
                ) from None
        self._claim(config)

    @property
    def _vouched(self) -> dict[str, Lines]:
        """Files that a checkpoint vouches for, by the name under which it notes their lengths."""
        return {"steps_bytes": self.steps} | {f"{kept.name}_bytes": self.lines(kept.name) for kept in KEPT}

    def lines(self, name: str) -> Lines:
        """Return the file of one kind of results that are kept, for instance ``rollouts``."""
        return Lines(self.folder / f"{name}.jsonl")

    def _claim(self, config: TrialConfig) -> None:
        path = self.folder / "config.json"
        trial_id = config.trial_id()
        if path.exists():
            known = _read_json(path)
            if known.get("schema_version") != SCHEMA_VERSION or known.get("trial_id") != trial_id:
                changed = ", ".join(_differences(known.get("config", {}), config.model_dump(mode="json"))) or "version"
                raise StoreError(
                    f"'{self.folder}' holds a different run (differs in: {changed}); "
                    "choose another folder, or repeat that run's settings to continue it.",
                    setting="out",
                )
            return
        file = RunConfigFile(trial_id=trial_id, config=config)
        write_atomic(path, file.model_dump_json(indent=2) + "\n")

    def match_inputs(self, inputs: dict[str, str]) -> None:
        """Note hashes of what a config only names (rows, weights), or compare them with those noted before.

        Raises:
            StoreError: the run was begun with other ones.
        """
        path = self.folder / "config.json"
        file = RunConfigFile.model_validate(_read_json(path))
        for name, value in inputs.items():
            if file.inputs.get(name, value) != value:
                raise StoreError(
                    f"'{self.folder}' was begun with other {name}, which have changed since; choose another folder.",
                    setting="out",
                )
        if not inputs.keys() <= file.inputs.keys():
            noted = file.model_copy(update={"inputs": {**file.inputs, **inputs}})
            write_atomic(path, noted.model_dump_json(indent=2) + "\n")

    @property
    def what_is_saved(self) -> str:
        """Say what of an interrupted run is kept."""
        return f"everything finished is saved in '{self.folder}', the same command continues."

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load_state(self) -> dict[str, Any] | None:
        """Return the last checkpoint, with lines written after it cut off; None for a new run."""
        if not self._state.exists():
            for lines in (*self._vouched.values(), self.evaluations):
                lines.cut(0)
            return None
        state = _read_json(self._state)
        for name, lines in self._vouched.items():
            # A folder of an earlier version knows fewer files.
            lines.cut(state.get(name, 0))
        self.evaluations.drop_half_line()
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Write a checkpoint that vouches for all lines written so far."""
        vouched = {name: lines.length for name, lines in self._vouched.items()}
        write_atomic(self._state, json.dumps({"schema_version": SCHEMA_VERSION, **state, **vouched}))

    def load_record(self) -> TrialRecord | None:
        """Return the record of a finished run."""
        if not self._record.exists():
            return None
        try:
            return TrialRecord.model_validate(_read_json(self._record))
        except ValidationError as error:
            raise StoreError(f"'{self._record}' is not a record of this version.", setting="out") from error

    def save_record(self, record: TrialRecord) -> None:
        """Write the record and, beside it, the bare prompt; the record comes last and marks the run as finished."""
        write_atomic(self.folder / "prompt.txt", record.best.full_text + "\n")
        write_atomic(self._record, record.model_dump_json(indent=1) + "\n")


class NoLines(Lines):
    """Stands for a file that is not kept."""

    def __init__(self) -> None:
        super().__init__(Path())

    def append(self, values: list[dict[str, Any]]) -> None:
        """Keep nothing."""

    def read(self) -> list[dict[str, Any]]:
        """Return nothing."""
        return []


class Unsaved(RunStore):
    """Stands for the folder of a run that is not kept."""

    what_is_saved = "without a run folder nothing is saved."

    def __init__(self) -> None:
        self.steps = self.evaluations = NoLines()

    def lines(self, name: str) -> Lines:
        """Return a file that keeps nothing."""
        return NoLines()

    def load_state(self) -> None:
        """Return None: every run is a new one."""

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def load_record(self) -> None:
        """Return None: no run is finished."""

    def save_record(self, record: TrialRecord) -> None:
        """Keep nothing."""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"'{path}' is not readable JSON; choose another folder.", setting="out") from error
    if not isinstance(value, dict):
        raise StoreError(f"'{path}' does not hold what a run writes; choose another folder.", setting="out")
    return value


def _differences(known: Any, wanted: Any, path: str = "") -> list[str]:
    """Name the settings in which two configs differ."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        keys = sorted({*known, *wanted})
        return [d for k in keys for d in _differences(known.get(k), wanted.get(k), f"{path}.{k}" if path else k)]
    return [] if known == wanted else [path]

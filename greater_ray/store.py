"""A run folder: every file name in one place, atomic writes, append-only lines, and going on after a crash."""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, DataError, Place, StoreError
from greater_ray.records import SCHEMA_VERSION, RunConfigFile, TrialRecord
from greater_ray.work.memory import KEPT

ValueT = TypeVar("ValueT")
# What a value that was read may raise where it is used: something is missing in it, or of another kind.
UNFIT = (KeyError, TypeError, ValueError, AttributeError)
_ANEW = "move its folder away to begin anew."


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


def read_object(path: Path, setting: str | None = None) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        StoreError: the file is missing or cannot be read, or holds something else; with file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror}).", setting=setting, place=Place(str(path))) from error
    return _object(data, path, 1, setting)


def read_record(path: Path, setting: str | None = None) -> TrialRecord:
    """Return the record that a file holds.

    Raises:
        StoreError: it cannot be read, or is no record of this version; with file and line.
    """
    try:
        return TrialRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror}).", setting=setting, place=Place(str(path))) from error
    except ValidationError as error:
        reason = unfit(error)
        line = re.search(r"^Invalid JSON.* at line (\d+)", reason)
        raise StoreError(
            f"not a record of this version ({reason}); move it away to run again.",
            setting=setting,
            place=Place(str(path), int(line[1]) if line else None),
        ) from error


def unfit(error: Exception) -> str:
    """Say in a few words what is wrong with a value that was read."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"]
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


def _object(data: bytes, path: Path, line: int, setting: str | None = None) -> dict[str, Any]:
    """Return the JSON object that stands in a file from a line on."""
    try:
        # A text that ends too early is blamed on its last line, not on the one after it.
        value = json.loads(data.rstrip(b"\n").decode())
    except UnicodeDecodeError as error:
        at, reason = line + data.count(b"\n", 0, error.start), "no UTF-8 text"
    except json.JSONDecodeError as error:
        at, reason = line + error.lineno - 1, error.msg
    except RecursionError:
        at, reason = line, "nested too deeply"
    else:
        if isinstance(value, dict):
            return value
        at, reason = line, "no object"
    raise StoreError(f"not readable JSON ({reason}).", setting=setting, place=Place(str(path), at))


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
        """Return all complete lines; a half-written last one (after a crash) is left out.

        Raises:
            StoreError: a complete line is no JSON object; with file and line.
        """
        return self.read_as(lambda value: value)

    def read_as(
        self, parse: Callable[[dict[str, Any]], ValueT], wanted: Callable[[bytes], bool] | None = None
    ) -> list[ValueT]:
        """Return what ``parse`` makes of every complete line; of those alone that are ``wanted``, where that is given.

        Raises:
            StoreError: a complete line is no JSON object, or ``parse`` finds it unfit; with file and line.
        """
        found: list[ValueT] = []
        try:
            # Only b"\n" ends a line: text in JSON may hold other characters at which ``str.splitlines`` would cut.
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break
                    if wanted is not None and not wanted(line):
                        continue
                    value = _object(line, self.path, number)
                    try:
                        found.append(parse(value))
                    except UNFIT as error:
                        why = f"not a line of this version ({unfit(error)})."
                        raise StoreError(why, place=Place(str(self.path), number)) from error
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot be read ({error.strerror}).", place=Place(str(self.path))) from error
        return found

    def drop_half_line(self) -> None:
        """Cut a half-written last line off, so that the next one begins on its own."""
        if self.path.exists():
            with _io(self.path):
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
        self._new = False
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
            known = read_object(path, "out")
            if known.get("schema_version") != SCHEMA_VERSION or known.get("trial_id") != trial_id:
                changed = ", ".join(_differences(known.get("config", {}), config.model_dump(mode="json"))) or "version"
                raise StoreError(
                    f"'{self.folder}' holds a different run (differs in: {changed}); "
                    "choose another folder, or repeat that run's settings to continue it.",
                    setting="out",
                )
            return
        file = RunConfigFile(trial_id=trial_id, config=config)
        self._new = True
        write_atomic(path, file.model_dump_json(indent=2) + "\n")

    def match_inputs(self, inputs: dict[str, str]) -> None:
        """Note hashes of what a config only names (rows, weights), or compare them with those noted before.

        Raises:
            StoreError: the run was begun with other ones.
        """
        path = self.folder / "config.json"
        try:
            file = RunConfigFile.model_validate(read_object(path, "out"))
        except ValidationError as error:
            why = f"not what this version writes ({unfit(error)}); choose another folder."
            raise StoreError(why, setting="out", place=Place(str(path))) from error
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

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._new and isinstance(error, ConfigError | DataError) and not self._state.exists():
            # Settings or rows that are wrong: the folder is free again for the right ones.
            for path in (self.folder / "config.json", *self.folder.glob("*.jsonl")):
                path.unlink(missing_ok=True)
        self.close()

    def load_state(self) -> dict[str, Any] | None:
        """Return the last checkpoint, with lines written after it cut off; None for a new run.

        Raises:
            StoreError: it is broken, or lines that it vouches for are gone.
        """
        if not self._state.exists():
            for lines in (*self._vouched.values(), self.evaluations):
                lines.cut(0)
            return None
        state = read_object(self._state, "out")
        if state.get("schema_version") != SCHEMA_VERSION or "steps_bytes" not in state:
            raise self.unfit_state("'schema_version' or 'steps_bytes' is missing or another")
        # A folder of an earlier version knows fewer files.
        lengths = {name: state.get(name, 0) for name in self._vouched}
        if not all(isinstance(length, int) and length >= 0 for length in lengths.values()):
            raise self.unfit_state(f"lengths {lengths}")
        for name, lines in self._vouched.items():
            if lines.length < lengths[name]:
                why = f"shorter than its checkpoint says ({lines.length} of {lengths[name]} bytes); {_ANEW}"
                raise StoreError(why, setting="out", place=Place(str(lines.path)))
        for name, lines in self._vouched.items():
            lines.cut(lengths[name])
        self.evaluations.drop_half_line()
        return state

    def unfit_state(self, why: str) -> StoreError:
        """Return the error for a checkpoint that cannot be gone on from."""
        why = f"not a checkpoint of this version ({why}); {_ANEW}"
        return StoreError(why, setting="out", place=Place(str(self._state)))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write a checkpoint that vouches for all lines written so far."""
        vouched = {name: lines.length for name, lines in self._vouched.items()}
        write_atomic(self._state, json.dumps({"schema_version": SCHEMA_VERSION, **state, **vouched}))

    def load_record(self) -> TrialRecord | None:
        """Return the record of a finished run."""
        return read_record(self._record, "out") if self._record.exists() else None

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

    def read_as(
        self, parse: Callable[[dict[str, Any]], ValueT], wanted: Callable[[bytes], bool] | None = None
    ) -> list[ValueT]:
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


def _differences(known: Any, wanted: Any, path: str = "") -> list[str]:
    """Name the settings in which two configs differ."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        keys = sorted({*known, *wanted})
        return [d for k in keys for d in _differences(known.get(k), wanted.get(k), f"{path}.{k}" if path else k)]
    return [] if known == wanted else [path]

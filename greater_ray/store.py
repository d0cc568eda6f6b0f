"""A run folder: every file name in one place, what a checkpoint and a record vouch for, and going on after a crash."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, DataError, DiskError, Place, StoreError
from greater_ray.files import (
    EDITED,
    Lines,
    ValueT,
    make_folder,
    read_object,
    refuse_edited,
    sealed,
    unfit,
    write_atomic,
    writing,
)
from greater_ray.records import SCHEMA_VERSION, RunConfigFile, StepRecord, TrialRecord
from greater_ray.work.memory import KEPT

_ANEW = "move its folder away to begin anew."
_DIGESTS = "vouched_sha256"  # the key of a checkpoint that holds the digests of the lines before it, by file


def read_record(path: Path, setting: str | None = None) -> TrialRecord:
    """Return the record that a file holds.

    Raises:
        StoreError: it cannot be read, is no record of this version, or is not the one that was written.
    """
    place = Place(str(path))
    try:
        data = path.read_bytes()
        record = TrialRecord.model_validate_json(data)
        noted = _digest_file(path)
        # An earlier version noted none.
        digest = noted.read_bytes()[:64].decode(errors="replace") if noted.exists() else None
    except OSError as error:
        raise StoreError(f"cannot be read ({error.strerror}).", setting=setting, place=place) from error
    except ValidationError as error:
        reason = unfit(error)
        line = re.search(r"^Invalid JSON.* at line (\d+)", reason)
        raise StoreError(
            f"not a record of this version ({reason}); move it away to run again.",
            setting=setting,
            place=Place(str(path), int(line[1]) if line else None),
        ) from error
    if digest not in (None, hashlib.sha256(data).hexdigest()):
        why = f"{EDITED}; move it away to run again, or remove '{noted.name}' beside it where the change is your own."
        raise StoreError(why, setting=setting, place=place)
    return record


def read_steps(folder: Path) -> list[StepRecord]:
    """Return the steps of a run, finished or not.

    Raises:
        StoreError: a line cannot be read, or is not the one that the last checkpoint vouches for.
    """
    # The checkpoint first: a run that goes on only appends to what it vouches for.
    state = read_object(folder / "state.json") if (folder / "state.json").exists() else {}
    lines = VouchedLines(folder / "steps.jsonl")
    steps = lines.read_as(StepRecord.model_validate)
    digest, length = state.get(_DIGESTS, {}).get("steps"), state.get("steps_bytes", 0)
    if digest is not None and lines.begin(length) != digest:
        raise StoreError(f"{EDITED}.", place=Place(str(lines.path)))
    return steps


def _digest_file(record: Path) -> Path:
    """Return the file that holds the digest of a record, in the form of ``sha256sum``."""
    return record.with_suffix(".sha256")


class VouchedLines(Lines):
    """Lines that checkpoints vouch for, written by this process alone: it knows where they end, and their digest."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._end: int | None = None
        self._sha256 = hashlib.sha256()

    def begin(self, length: int) -> str:
        """Go on behind so many bytes and return their digest; what is there already has to be cut off."""
        self._sha256 = hashlib.sha256()
        with writing(self.path):
            if self.path.exists():
                with self.path.open("rb") as file:
                    self._sha256.update(file.read(length))
        self._end = length
        return self._sha256.hexdigest()

    def vouch(self) -> tuple[int, str]:
        """Return the length and the digest of all that was written.

        Raises:
            DiskError: somebody else has written there, or removed it.
        """
        with writing(self.path):
            length = self.length
        if self._end is None:
            self.begin(length)
        self._check(length)
        return length, self._sha256.hexdigest()

    def _check(self, begin: int) -> None:
        if self._end not in (None, begin):
            why = (
                f"changed by somebody else while it was written ({begin} bytes in place of {self._end}): where the "
                "disk's locks fail, two processes may run in one folder; end the other one and run again."
            )
            raise DiskError(why, setting="out", place=Place(str(self.path)))

    def _written(self, data: bytes, end: int) -> None:
        if self._end is None:
            self.begin(end)
        else:
            self._sha256.update(data)
        self._end = end


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something, but no run.

    Raises:
        StoreError: it does, or it cannot be read.
    """
    with writing(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if "config.json" not in names and any(not name.startswith(".") for name in names):
        raise StoreError(f"'{folder}' is not empty and holds no run; choose a new folder.", setting="out", value=folder)


class RunStore:
    """The folder of one run; one process at a time.

    Raises:
        StoreError: the folder holds a different run, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, config: TrialConfig) -> None:
        self.folder = folder
        refuse_foreign(folder)
        self._vouched = {"steps": VouchedLines(folder / "steps.jsonl")}
        self._vouched |= {kept.name: VouchedLines(folder / f"{kept.name}.jsonl") for kept in KEPT}
        self.steps: Lines = self._vouched["steps"]
        self.evaluations = Lines(folder / "evaluations.jsonl")
        self._state, self._record = folder / "state.json", folder / "record.json"
        with writing(folder / "config.json"):
            make_folder(folder)
            # Held until this process ends, however it ends.
            self._lock = FileLock(folder / ".lock", timeout=0)
            try:
                self._lock.acquire()
            except Timeout:
                raise StoreError(
                    f"another process is running in '{folder}'; wait for it to end.", setting="out"
                ) from None
        self._new = False
        try:
            self._claim(config)
        except BaseException:
            self.close()  # whoever looks at the error keeps this object, and would keep the lock
            raise

    def lines(self, name: str) -> Lines:
        """Return the file of one kind of results that are kept, for instance ``rollouts``."""
        return self._vouched[name]

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
                    value=self.folder,
                )
            self._noted_config()
            return
        file = RunConfigFile(trial_id=trial_id, config=config)
        self._new = True
        write_atomic(path, file.model_dump_json(indent=2) + "\n")

    def match_inputs(self, inputs: dict[str, str]) -> None:
        """Note hashes of what a config only names (rows, weights), or compare them with those noted before.

        Raises:
            StoreError: the run was begun with other ones.
        """
        file = self._noted_config()
        for name, value in inputs.items():
            if file.inputs.get(name, value) != value:
                raise StoreError(
                    f"'{self.folder}' was begun with other {name}, which have changed since; choose another folder.",
                    setting="out",
                    value=self.folder,
                )
        if not inputs.keys() <= file.inputs.keys():
            noted = file.model_copy(update={"inputs": {**file.inputs, **inputs}})
            write_atomic(self.folder / "config.json", noted.model_dump_json(indent=2) + "\n")

    def _noted_config(self) -> RunConfigFile:
        path = self.folder / "config.json"
        try:
            file = RunConfigFile.model_validate(read_object(path, "out"))
        except ValidationError as error:
            why = f"not what this version writes ({unfit(error)}); choose another folder."
            raise StoreError(why, setting="out", place=Place(str(path))) from error
        if file.config.trial_id() != file.trial_id:
            raise StoreError(f"{EDITED}; {_ANEW}", setting="out", place=Place(str(path)))
        return file

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
            self._refuse_lost_state()
            for lines in self._vouched.values():
                lines.cut(0)
                lines.begin(0)
            return None
        state = read_object(self._state, "out")
        if state.get("schema_version") != SCHEMA_VERSION or "steps_bytes" not in state:
            raise self.unfit_state("'schema_version' or 'steps_bytes' is missing or another")
        # A folder of an earlier version knows fewer files.
        lengths = {name: state.get(f"{name}_bytes", 0) for name in self._vouched}
        if not all(isinstance(length, int) and length >= 0 for length in lengths.values()):
            raise self.unfit_state(f"lengths {lengths}")
        try:
            refuse_edited(state)
        except ValueError as error:
            raise StoreError(f"{error}; {_ANEW}", setting="out", place=Place(str(self._state))) from error
        for name, lines in self._vouched.items():
            self._refuse_changed(lines, lengths[name], state.get(_DIGESTS, {}).get(name))
        for name, lines in self._vouched.items():
            lines.cut(lengths[name])
        self.evaluations.drop_half_line()
        return state

    def _refuse_lost_state(self) -> None:
        """Refuse to begin anew where there was a checkpoint: the first one follows the first step.

        Raises:
            StoreError: there are more lines than a run can leave that was killed before that.
        """
        steps, evaluated = len(self.steps.read()), len(self.evaluations.read())
        if steps > 1 or evaluated:
            told = f"{steps} steps and {evaluated} evaluated shards"
            why = f"gone, though {told} stand beside it; bring it back, or {_ANEW}"
            raise StoreError(why, setting="out", place=Place(str(self._state)))

    def _refuse_changed(self, lines: VouchedLines, length: int, digest: str | None) -> None:
        """Refuse lines that are not those which a checkpoint vouches for; an earlier version noted no digests.

        Raises:
            StoreError: they are fewer, or others.
        """
        why = None
        if lines.length < length:
            why = f"shorter than its checkpoint says ({lines.length} of {length} bytes)"
        elif lines.begin(length) != digest and digest is not None:
            lines.read()  # names the line where it can be told
            why = EDITED
        if why is not None:
            raise StoreError(f"{why}; {_ANEW}", setting="out", place=Place(str(lines.path)))

    def unfit_state(self, why: str) -> StoreError:
        """Return the error for a checkpoint that cannot be gone on from."""
        why = f"not a checkpoint of this version ({why}); {_ANEW}"
        return StoreError(why, setting="out", place=Place(str(self._state)))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write a checkpoint that vouches for all lines written so far."""
        vouched = {name: lines.vouch() for name, lines in self._vouched.items()}
        lengths = {f"{name}_bytes": length for name, (length, _) in vouched.items()}
        digests = {_DIGESTS: {name: digest for name, (_, digest) in vouched.items()}}
        write_atomic(self._state, json.dumps(sealed({"schema_version": SCHEMA_VERSION, **state, **lengths, **digests})))

    def load_record(self) -> TrialRecord | None:
        """Return the record of a finished run."""
        return read_record(self._record, "out") if self._record.exists() else None

    def save_record(self, record: TrialRecord) -> None:
        """Write the record and, beside it, prompt and digest; the record comes last and marks the run as finished."""
        text = record.model_dump_json(indent=1) + "\n"
        write_atomic(self.folder / "prompt.txt", record.best.full_text + "\n")
        digest = hashlib.sha256(text.encode()).hexdigest()
        write_atomic(_digest_file(self._record), f"{digest}  {self._record.name}\n")
        write_atomic(self._record, text)


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

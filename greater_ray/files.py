"""What is written reaches the disk, or one sentence says why not; what is read is whole, or is named.

A file is written under a temporary name, synced and renamed, and then its folder is synced: without the latter a
machine that loses power may forget the name. Lines are only ever appended, whole, and synced.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from greater_ray.config import fingerprint
from greater_ray.errors import DiskError, Place, StoreError

ValueT = TypeVar("ValueT")
# What a value that was read may raise where it is used: something is missing in it, or of another kind.
UNFIT = (KeyError, TypeError, ValueError, AttributeError)
SEAL = "sha256"  # the key under which a JSON object holds the fingerprint of all its other keys
EDITED = "not what was written: it was edited, or damaged on the disk"

# -- writing -----------------------------------------------------------------------------------------------------------

# What a disk answers that takes no more, by what the user can do about it; ``{}`` is the folder.
_REASONS = {
    errno.ENOSPC: "no space left on the disk of '{}'; free some and run again.",
    errno.EDQUOT: "your quota on the disk of '{}' is used up; free some and run again.",
    errno.EROFS: "the disk of '{}' can only be read now; make it writable and run again.",
    errno.ESTALE: "the network disk has lost '{}' (stale file handle); mount it again and run again.",
    errno.ENOLCK: "the disk of '{}' gives no locks (that of a network file system may have failed); "
    "mend that, or choose a folder on another disk, and run again.",
    errno.EIO: "the disk of '{}' fails (input/output error); make it good and run again.",
}
# What file systems answer that have no sync of folders.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the folder and the reason when writing a file fails; what was written before stays.

    Raises:
        DiskError: the disk takes no more for now, or the folder is gone.
        StoreError: the file cannot be written there at all.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error for a file that could not be written."""
    code, folder = error.errno or 0, path.parent
    if code in _REASONS:
        return DiskError(_REASONS[code].format(folder), setting="out")
    if code == errno.ENOENT:
        why = f"'{folder}' is gone, or its disk is; bring it back and run again."
        return DiskError(why, setting="out")
    return StoreError(f"'{path}' cannot be written ({error.strerror}).", setting="out", value=path)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk; file systems that cannot sync folders are left alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, with their names on the disk.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Write a file under a temporary name, have it on the disk, rename it, and have its name on the disk.

    Raises:
        DiskError, StoreError: the file cannot be written; an earlier version is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync(path.parent)


# -- reading -----------------------------------------------------------------------------------------------------------


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a fingerprint of itself, by which an edited one can be told (``refuse_edited``)."""
    plain = json.loads(json.dumps(value))
    return {**plain, SEAL: fingerprint(plain)}


def refuse_edited(value: dict[str, Any]) -> None:
    """Make sure that an object is what was sealed; one of an earlier version has no seal.

    Raises:
        ValueError: it is not.
    """
    if SEAL in value and value[SEAL] != fingerprint({key: part for key, part in value.items() if key != SEAL}):
        raise ValueError(EDITED)


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


# -- lines -------------------------------------------------------------------------------------------------------------


class Lines:
    """An append-only JSONL file. Where a checkpoint notes its length, anything behind that is cut off on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, values: list[dict[str, Any]]) -> None:
        """Append one line per value and have them on the disk; where they do not fit, none of them is left there.

        Raises:
            DiskError, StoreError: they cannot be written.
        """
        if not values:
            return
        data = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()
        with writing(self.path):
            new = not self.path.exists()
            with self.path.open("ab", buffering=0) as file:
                begin = file.seek(0, os.SEEK_END)
                self._check(begin)
                written = 0
                try:
                    while written < len(data):
                        written += file.write(data[written:])
                    os.fsync(file.fileno())
                except OSError:
                    # Half a line would stand in front of the next one. Another process may have written meanwhile.
                    with suppress(OSError):
                        if file.seek(0, os.SEEK_END) == begin + written:
                            file.truncate(begin)
                    raise
            if new:
                sync(self.path.parent)
        self._written(data, begin + len(data))

    def _check(self, begin: int) -> None:
        """Look at where the next line will begin."""

    def _written(self, data: bytes, end: int) -> None:
        """Take note of what was written."""

    def cut(self, length: int) -> None:
        """Drop what was written after a checkpoint."""
        with writing(self.path):
            if self.length > length:
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
            with writing(self.path):
                data = self.path.read_bytes()
            self.cut(data.rfind(b"\n") + 1)

"""Files are on the disk when that is said; a disk that takes no more is one sentence, and no half line stays."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greater_ray.errors import DiskError, StoreError
from greater_ray.files import Lines, make_folder, refuse_edited, sealed, write_atomic
from greater_ray.store import VouchedLines

CODES = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "your quota on the disk",
    errno.EROFS: "can only be read now",
    errno.ESTALE: "the network disk has lost",
    errno.ENOLCK: "gives no locks",
    errno.EIO: "fails (input/output error)",
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_what_a_disk_answers_is_one_sentence_and_the_old_file_stays(
    code: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, lines = tmp_path / "state.json", Lines(tmp_path / "x.jsonl")
    write_atomic(path, "old")
    lines.append([{"a": 1}])

    def failing(*args: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        # The system's own calls: no disk here fails on demand.
        broken.setattr(os, "fsync", failing) if call == "fsync" else broken.setattr(Path, "open", failing)
        for write in (lambda: write_atomic(path, "new"), lambda: lines.append([{"a": 2}])):
            with pytest.raises(DiskError) as error:
                write()
            assert CODES[code] in str(error.value)
            assert str(tmp_path) in str(error.value)
            assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert lines.read() == [{"a": 1}]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.json", "x.jsonl"]


def test_what_did_not_fit_on_a_full_disk_leaves_no_half_line(disk: Path):
    lines = Lines(disk / "x.jsonl")
    lines.append([{"a": 1}])
    with pytest.raises(DiskError, match="no space left on the disk"):
        lines.append([{"a": 2}, {"text": "x" * 100_000}])
    lines.append([{"a": 3}])
    assert lines.read() == [{"a": 1}, {"a": 3}]


def test_a_disk_that_becomes_read_only_is_told_and_goes_on(disk: Path):
    lines = Lines(disk / "x.jsonl")
    lines.append([{"a": 1}])
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for write in (lambda: lines.append([{"a": 2}]), lambda: write_atomic(disk / "y.json", "{}")):
        with pytest.raises(DiskError, match=f"the disk of '{disk}' can only be read now"):
            write()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    lines.append([{"a": 2}])
    assert lines.read() == [{"a": 1}, {"a": 2}]


def test_a_folder_that_was_removed_is_told_and_not_made_again(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = Lines(folder / "x.jsonl")
    lines.append([{"a": 1}])
    shutil.rmtree(folder)
    for write in (lambda: lines.append([{"a": 2}]), lambda: write_atomic(folder / "y.json", "{}")):
        with pytest.raises(DiskError, match=f"'{folder}' is gone"):
            write()
    assert not folder.exists()


def test_names_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("what a descriptor is of is told on Linux alone")
    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    synced.clear()
    write_atomic(folder / "x.json", "{}")
    assert synced == [str(folder / ".x.json.tmp"), str(folder)], "the file before its name"
    synced.clear()
    lines = Lines(folder / "x.jsonl")
    lines.append([{}])
    lines.append([{}])
    assert synced == [str(folder / "x.jsonl"), str(folder), str(folder / "x.jsonl")]


def test_a_disk_without_sync_of_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.fsync

    def some(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", some)
    write_atomic(tmp_path / "x.json", "{}")
    assert (tmp_path / "x.json").read_text() == "{}"


# -- locks that were lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["a line of another", "removed", "cut"])
def test_lines_that_somebody_else_has_changed_are_not_vouched_for(what: str, tmp_path: Path):
    lines = VouchedLines(tmp_path / "steps.jsonl")
    lines.begin(0)
    lines.append([{"step": 1}])
    length, _ = lines.vouch()
    if what == "a line of another":
        Lines(lines.path).append([{"step": 1}])
    elif what == "removed":
        lines.path.unlink()
    else:
        os.truncate(lines.path, length - 1)
    for use in (lambda: lines.append([{"step": 2}]), lines.vouch):
        with pytest.raises(DiskError, match=r"steps\.jsonl': changed by somebody else while it was written"):
            use()


def test_lines_of_many_writers_stay_whole(tmp_path: Path):
    lines = [Lines(tmp_path / "events.jsonl") for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: [own.append([{"text": "x" * 500}]) for _ in range(20)]) for own in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines[0].read()) == 80


# -- seals -------------------------------------------------------------------------------------------------------------


def test_a_sealed_object_tells_every_change_and_one_without_a_seal_is_taken():
    value = sealed({"a": (1, 2.5), "b": {"c": None, 3: "ü"}})
    refuse_edited(value)
    refuse_edited({"a": 1})
    for changed in (value | {"a": [1, 2.25]}, value | {"new": 0}, value | {"sha256": "0" * 16}):
        with pytest.raises(ValueError, match="not what was written"):
            refuse_edited(changed)


def test_where_nothing_can_ever_be_written_the_disk_is_not_blamed(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be written \(Not a directory\)") as error:
        write_atomic(tmp_path / "file" / "x.json", "{}")
    assert not isinstance(error.value, DiskError)

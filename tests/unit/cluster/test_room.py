"""A disk on which Ray has no room for its temporary files any more."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greater_ray.cluster import room as limits
from greater_ray.cluster.room import Room
from greater_ray.cluster.watch import Watch
from greater_ray.grid.store import GridStore
from tests.grids import Told
from tests.small_disk import small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "session", "2m") as folder:
        yield folder


def test_a_full_disk_is_told_once_and_is_over_when_it_stays_full(disk: Path):
    room = Room(disk)
    assert room.look(0.0) == (None, False)
    (disk / "filler").write_bytes(bytes(3 << 19))
    told, over = room.look(10.0)
    assert str(told).startswith(f"no space left on the disk of '{disk}', where Ray has its temporary files; free some")
    assert not over
    assert room.look(69.0) == (None, False)
    told, over = room.look(70.0)
    assert told is not None
    assert over


def test_a_disk_that_was_full_for_moments_is_forgotten(disk: Path):
    room, filler = Room(disk), disk / "filler"
    filler.write_bytes(bytes(3 << 19))
    room.look(0.0)
    filler.unlink()
    assert room.look(50.0) == (None, False)
    filler.write_bytes(bytes(3 << 19))
    told, over = room.look(100.0)
    assert told is not None
    assert not over


def test_a_folder_that_cannot_be_asked_is_no_full_disk(tmp_path: Path):
    assert Room(tmp_path / "gone").look(0.0) == (None, False)


class Nothing:
    """A wave without cells."""

    def needed(self):
        return set()

    def running(self):
        return {}

    def starting(self):
        return []


def test_a_wave_is_told_to_end_where_ray_has_had_no_room_for_long(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "FULL_FOR", 1.0)
    (disk / "filler").write_bytes(bytes(3 << 19))
    told = Told()
    watch = Watch([], GridStore(tmp_path / "out"), told, Nothing(), 300.0, Room(disk))
    end = time.monotonic() + 20
    while watch.error is None and time.monotonic() < end:
        time.sleep(0.05)
    watch.stop()
    assert os.fspath(disk) in str(watch.error)
    assert [text.split(":")[0] for text in told.texts] == ["WARNING", "stopping"]

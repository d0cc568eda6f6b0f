"""The numbers of a running grid, and the file that tells them to others."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from greater_ray.errors import StoreError
from greater_ray.grid.cells import Cell, expand_grid
from greater_ray.grid.run import Progress
from greater_ray.grid.status import FRESH, STATUS_FILE, GridStatus, PoolStatus, read_status
from greater_ray.grid.store import GridStore
from greater_ray.progress.grid import pool_line
from tests.grids import loaded


@pytest.fixture
def cells() -> list[Cell]:
    return expand_grid(loaded("m", seeds=[0, 1, 2]))


def slot(**changes: Any) -> dict[str, Any]:
    calm = {"deaths": 0, "repeated": 0, "still": False}
    return {"state": "idle", "host": "a", "busy_seconds": 0.0, "tokens": 0, "calls": 0, **calm, **changes}


def pool(*slots: dict[str, Any], model: str = "m", queue: int = 0) -> dict[str, Any]:
    return {"model": model, "slots": list(slots), "queue": queue}


def search(step: int, steps: int = 4) -> Progress:
    return Progress(step, steps, "search", 2.0, 1.5, 100)


def test_a_pool_between_two_looks():
    figures = PoolStatus()
    figures.add(pool(slot(), slot(state="starting", host="-")), 10.0)
    assert (figures.busy, figures.tokens_per_second) == (0.0, 0.0)
    slots = (slot(busy_seconds=3.0, tokens=800, deaths=1), slot(busy_seconds=1.0, tokens=200, host="b", state="busy"))
    figures.add(pool(*slots, queue=5), 14.0)
    assert figures.snapshot() == {
        "model": "m", "replicas": 2, "loaded": 2, "hosts": 2, "busy": 0.5, "queue": 5, "tokens_per_second": 250.0,
        "deaths": 1,
        "still": 0,
        "repeated": 0,
    }  # fmt: skip


def test_a_pool_whose_replicas_have_several_gpus_says_how_many():
    for gpus, line in ((1.0, "m: 2 of 2 replicas, "), (4.0, "m: 2 of 2 replicas on 4 GPUs each, ")):
        figures = PoolStatus()
        figures.add(pool(slot(), slot()) | {"gpus": gpus}, 10.0)
        assert pool_line(figures.snapshot()).startswith(line)


def test_a_new_pool_of_the_same_model_begins_from_nothing():
    figures = PoolStatus()
    figures.add(pool(slot(tokens=900, busy_seconds=9.0)), 10.0)
    figures.add(pool(slot(tokens=0, busy_seconds=0.0)), 11.0)
    assert min(figures.busy, figures.tokens_per_second) >= 0
    figures.add(pool(slot(tokens=50, busy_seconds=0.5)), 12.0)
    assert (figures.busy, figures.tokens_per_second) == (0.5, 50)


def test_cells_are_counted_once_and_time_left_follows_the_share_that_is_done(cells: list[Cell]):
    figures = GridStatus()
    figures.planned("optimize", [*cells, cells[0]], cells[1:])
    assert figures.snapshot()["cells"] == {"total": 4, "running": 0, "done": 1, "failed": 0, "stopped": 0}
    assert figures.seconds_left is None
    figures._begin -= 100
    figures.started(cells[1])
    assert figures.seconds_left is None
    figures.progressed(cells[1], search(2))
    assert figures.seconds_left == pytest.approx(100 * (3 - 0.35) / 0.35, rel=0.01)
    figures.progressed(cells[1], search(2)._replace(phase="test, after: 1 of 2"))
    assert figures.seconds_left == pytest.approx(100 * (3 - 0.7) / 0.7, rel=0.01)
    for cell, state in zip(cells[1:], ("done", "failed", "stopped"), strict=True):
        figures.finished(cell, state)
    assert figures.seconds_left == 0
    assert figures.snapshot()["cells"] == {"total": 4, "running": 0, "done": 2, "failed": 1, "stopped": 1}
    figures.planned("transfer", cells[:2], cells[:2])
    assert figures.snapshot()["cells"]["done"] == 0


def test_a_cell_that_failed_earlier_is_not_counted_as_done(cells: list[Cell], tmp_path: Path):
    store = GridStore(tmp_path)
    store.claim()
    store.write_failure(cells[0], {}, "too dark")
    figures = GridStatus(tmp_path)
    figures.planned("optimize", cells, cells[2:])
    assert figures.snapshot()["cells"] == {"total": 4, "running": 0, "done": 1, "failed": 1, "stopped": 0}
    assert figures.before == 1
    figures.planned("optimize", cells, cells)
    assert figures.snapshot()["cells"]["failed"] == 0, "it is tried again"


def test_a_cell_without_a_limit_of_steps_has_no_share(cells: list[Cell]):
    figures = GridStatus()
    figures.planned("optimize", cells, cells)
    figures.progressed(cells[0], Progress(3, None, "search", 1.0, 1.0, 5))
    assert figures.seconds_left is None


def test_pools_of_an_earlier_wave_disappear():
    figures = GridStatus()
    figures.pools([pool(slot(), model="a"), pool(slot(), model="b")])
    figures.pools([pool(slot(), model="b")])
    assert [p["model"] for p in figures.snapshot()["pools"]] == ["b"]


def test_three_threads_may_look_and_tell_at_once(cells: list[Cell], tmp_path: Path):
    figures, errors, ended = GridStatus(tmp_path), [], threading.Event()

    def look() -> None:
        try:
            while not ended.is_set():
                figures.pools([pool(slot())])
                json.dumps(figures.snapshot())
        except Exception as error:  # noqa: BLE001 - the claim is that there is none
            errors.append(error)

    # A larger switch rate makes a race likely that would otherwise be rare.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=look) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(150):
            figures.planned("optimize", cells, cells)
            for cell in cells:
                figures.started(cell)
                figures.progressed(cell, search(1))
            for cell in cells:
                figures.finished(cell, "done")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert errors == []


# -- status.json -------------------------------------------------------------------------------------------------------


def test_the_status_follows_and_ends_with_the_grid(cells: list[Cell], tmp_path: Path):
    assert read_status(tmp_path) is None
    figures = GridStatus(tmp_path)
    figures.planned("optimize", cells, cells)
    figures._written = 0
    figures.progressed(cells[0], search(3))
    status = read_status(tmp_path)
    assert status is not None
    assert status["running"][0]["step"] == 3
    assert status["cells"]["total"] == 4
    figures.close()
    assert read_status(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_grid_that_never_began_leaves_anothers_status_alone(tmp_path: Path):
    (tmp_path / STATUS_FILE).write_text("{}")
    GridStatus(tmp_path).close()
    assert (tmp_path / STATUS_FILE).exists()


def test_a_status_is_believed_while_its_process_lives_or_its_machine_has_just_written(
    cells: list[Cell], tmp_path: Path
):
    figures = GridStatus(tmp_path)
    figures.planned("optimize", cells, cells)
    path = tmp_path / STATUS_FILE
    value = json.loads(path.read_text())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def told(**changes: Any) -> bool:
        path.write_text(json.dumps(value | changes))
        return read_status(tmp_path) is not None

    old = time.time() - FRESH - 5
    assert value["pid"] == os.getpid()
    assert told(time=old), "a long step"
    assert told(pid=dead.pid), "written a moment ago"
    assert not told(time=old, pid=dead.pid), "killed"
    assert not told(time=old, host="another"), "nothing is heard of it"
    assert not told(time=time.time() + 3600, pid=dead.pid), "killed, and then the clock was set back"
    assert told(host="another")
    path.write_text("{half")
    with pytest.raises(StoreError, match=r"status\.json', line 1: not readable JSON"):
        read_status(tmp_path)


def test_a_folder_that_cannot_be_written_does_not_end_the_grid(cells: list[Cell], tmp_path: Path):
    figures = GridStatus(tmp_path / "gone")
    figures.planned("optimize", cells, cells)
    figures.pools([pool(slot())])
    figures.close()
    assert not (tmp_path / "gone").exists()

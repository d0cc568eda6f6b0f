"""Many cells in one process: what dies with it goes on elsewhere, and no cell is in the way of another."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.grid_records import records_in
from benchmarks.processes import roles
from greater_ray.cluster.grid import RayBackend
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import LocalBackend, run_grid
from tests.grids import Told

pytestmark = pytest.mark.usefixtures("local_ray")
QUICK = "benchmarks.simulated:quick"
DEADLY = "tests.cluster.methods:PLUGIN"


def coordinators() -> list[int]:
    return [pid for pid, role in roles().items() if role == "coordinators"]


class Killing(Told):
    """Kills every coordinator that there is as soon as a cell has made its second step, once."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def progressed(self, cell, progress):
        super().progressed(cell, progress)
        if progress.step == 2 and not self.killed:
            self.killed = coordinators()
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


def test_the_cells_of_a_coordinator_that_is_killed_go_on_in_others_with_equal_records(
    small_grid: Callable, tmp_path: Path
):
    grid = small_grid(models=[QUICK], methods=["greater"], seeds=list(range(6)), settings={"budget": {"steps": 8}})
    assert run_grid(grid, tmp_path / "calm", LocalBackend()).complete
    told, backend = Killing(), RayBackend(default=ReplicaConfig(count=2), concurrency=6)
    assert run_grid(grid, tmp_path / "out", backend, observer=told).complete
    assert len(told.killed) == 1, "six cells need one process"
    assert records_in(tmp_path / "out") == records_in(tmp_path / "calm")
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    (died,) = [event for event in events if event["event"] == "coordinator died"]
    assert {title for title in told.begun if told.begun.count(title) == 2} == set(died["cells"]), "they began again"
    assert len(set(told.begun)) == 6
    end = time.monotonic() + 20
    while coordinators() and time.monotonic() < end:
        time.sleep(0.1)
    assert coordinators() == []


def test_a_cell_that_kills_its_process_every_time_is_stopped_and_its_neighbours_are_done(
    small_grid: Callable, tmp_path: Path
):
    method = {"name": DEADLY, "label": "deadly", "method_config": {"always": True}}
    grid = small_grid(
        models=[QUICK], methods=[method, "greater"], seeds=[0, 1], exclude=[{"method": "deadly", "seed": 1}]
    )
    told, backend = Told(), RayBackend(default=ReplicaConfig(count=1), concurrency=3)
    result = run_grid(grid, tmp_path / "out", backend, observer=told)
    assert {(cell.method, state.state) for cell, state in result.cells} == {("deadly", "begun"), ("greater", "done")}
    assert [end[2] for end in told.ends if end[1] == "stopped"] == ["its coordinator died three times"]


def test_a_coordinator_that_died_with_its_folder_begins_its_cell_anew(small_grid: Callable, tmp_path: Path):
    order = tmp_path / "order"
    method = {"name": DEADLY, "method_config": {"order": str(order)}}
    grid = small_grid(models=[QUICK], methods=[method], seeds=[0], settings={"budget": {"steps": 3}})
    assert run_grid(grid, tmp_path / "calm", LocalBackend()).complete
    order.write_text(str(tmp_path / "out" / "cells"))
    assert run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=1))).complete
    assert not order.exists(), "it did die"
    assert records_in(tmp_path / "out") == records_in(tmp_path / "calm")
    (steps,) = (tmp_path / "out").glob("cells/*/steps.jsonl")
    assert [json.loads(line)["step"] for line in steps.read_text().splitlines()] == [1, 2, 3]

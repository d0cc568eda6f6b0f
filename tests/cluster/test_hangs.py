"""Processes that stay but do nothing any more, as after ``kill -STOP``: they are told, ended and replaced."""

import json
import os
import signal
import subprocess
import sys
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


class Stopping(Told):
    """Stops the only replica and the only coordinator as soon as a step is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped: dict[int, str] = {}

    def progressed(self, cell, progress):
        super().progressed(cell, progress)
        if progress.step and not self.stopped:
            self.stopped = {pid: role for pid, role in roles().items() if role in ("replicas", "coordinators")}
            for pid in self.stopped:
                os.kill(pid, signal.SIGSTOP)


def test_a_stopped_replica_and_a_stopped_coordinator_cost_time_and_change_no_record(
    small_grid: Callable, tmp_path: Path
):
    grid = small_grid(methods=["greater"], seeds=[0], models=[QUICK], settings={"budget": {"steps": 8}})
    assert run_grid(grid, tmp_path / "calm", LocalBackend()).complete
    backend, out = RayBackend(default=ReplicaConfig(count=1, patience=0.5)), tmp_path / "out"
    told = Stopping()
    result = run_grid(grid, out, backend, observer=told)
    assert result.complete, [state.reason for _, state in result.cells] + told.texts
    assert records_in(out) == records_in(tmp_path / "calm")
    assert {"replicas", "coordinators"} == set(told.stopped.values())
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    for kind in ("stands still", "ended", "replica died", "coordinator stands still", "coordinator ended"):
        assert kind in kinds, (kind, told.texts)
        assert any(f": {kind}: " in text for text in told.texts)
    whys = [event["why"] for event in events if event["event"] == "stands still"]
    assert any(why.startswith("replica 0 on ") and " has been computing '" in why for why in whys)
    # None of those that were stopped is left; Ray waits five seconds before it kills what does not answer.
    end = time.monotonic() + 30
    while (left := told.stopped.keys() & roles().keys()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left


def test_a_stopped_broker_is_told_and_ended_and_its_cells_stop_with_the_reason(small_grid: Callable, tmp_path: Path):
    class StoppingBrokers(Told):
        def progressed(self, cell, progress):
            if progress.step == 1:
                for pid, role in roles().items():
                    if role == "broker":
                        os.kill(pid, signal.SIGSTOP)

    told = StoppingBrokers()
    # Long enough to be in the middle when it happens.
    grid = small_grid(models=[QUICK], settings={"budget": {"steps": 25}})
    backend = RayBackend(default=ReplicaConfig(count=1, patience=0.3))
    assert not run_grid(grid, tmp_path, backend, observer=told).complete
    assert {state for _, state, _ in told.ends} == {"stopped"}
    assert any("broker of a pool has died; the same command continues" in str(reason) for *_, reason in told.ends)
    assert any(": broker ended: no answer for" in text for text in told.texts)


LEAVING = """
import sys
import ray
from greater_ray.cluster import connect
connect._LEAVING = 2.0
with connect.connected(sys.argv[1], tell=lambda text: print(text, flush=True)):
    print("joined", flush=True)
    sys.stdin.readline()
sys.exit(3)
"""


def test_a_driver_leaves_a_ray_that_does_not_answer_and_keeps_its_exit_code():
    import ray

    driver = subprocess.Popen(
        [sys.executable, "-c", LEAVING, ray.get_runtime_context().gcs_address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    while "joined" not in driver.stdout.readline():
        assert driver.poll() is None
    raylets = [pid for pid in roles() if "raylet/raylet" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]]
    for pid in raylets:
        os.kill(pid, signal.SIGSTOP)
    try:
        text, _ = driver.communicate("\n", timeout=60)
    finally:
        for pid in raylets:
            os.kill(pid, signal.SIGCONT)
    assert raylets
    assert "Ray has not ended within 2 s; it is left as it is" in text
    assert driver.returncode == 3


LEFT = """
import os, signal, sys, time
from benchmarks.processes import roles
from greater_ray.cluster import connect
connect._LEAVING = 1.0
with connect.connected(num_cpus=1, tell=lambda text: print(text, flush=True)):
    below = {pid: open(f"/proc/{pid}/cmdline").read().replace(chr(0), " ") for pid in roles() if pid != os.getpid()}
    print(*below, flush=True)
    for pid, command in below.items():
        if "raylet/raylet" in command.split(" ")[0]:
            os.kill(pid, signal.SIGSTOP)
"""


def test_of_a_ray_of_its_own_that_does_not_answer_a_driver_leaves_no_process(short_temp: Path):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(short_temp)}
    command = [sys.executable, "-c", LEFT]
    driver = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    started, *told = driver.stdout.splitlines()
    assert told == ["Ray has not ended within 1 s; its processes are killed"]
    left = {int(pid) for pid in started.split()}
    assert len(left) > 2, "agents, too"
    end = time.monotonic() + 5
    while (left := {pid for pid in left if Path(f"/proc/{pid}").exists()}) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left
    assert not [*short_temp.iterdir()]

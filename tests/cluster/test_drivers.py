"""Drivers as processes of their own: killed, interrupted, side by side; nothing is lost and nothing stays behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.grid_records import records_in
from greater_ray.grid.run import LocalBackend, run_grid

KILLS = 5


def grid_file(grid, folder: Path) -> Path:
    """Write a grid as a user would."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid.model_dump(mode="json", exclude_defaults=True)))
    return path


def drive(config: Path, out: Path, *options: str, temp: Path | None = None) -> subprocess.Popen:
    """Start ``greater-ray grid`` as a process; with ``temp`` its own Ray keeps its files there."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    if temp is not None:
        environment["RAY_TMPDIR"] = str(temp)
    return subprocess.Popen(
        [sys.executable, "-m", "greater_ray.cli.app", "grid", str(config), "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )


def until_started(process: subprocess.Popen) -> None:
    """Wait until the first cell runs."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("started:"):
            return
    raise AssertionError("".join(seen))


# What a grid starts on a Ray, as the names of processes. Ray's own agents end a minute after a killed driver.
OURS = ("ray::Replica", "ray::AsyncBroker", "ray::Coordinator")
RAY = ("ray::", "gcs_server", "raylet")
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def living(names: tuple[str, ...], *, marker: str = "", below: int | None = None) -> list[str]:
    """Return live processes with such names, whose environment or command holds a marker, or below a process."""
    parents: dict[int, int] = {}
    found: list[tuple[int, str]] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        parents[int(entry.name)] = int(parent)
        named = any(name in command.split(" ")[0] for name in names) and not command.startswith(AGENTS)
        if named and state != "Z" and (marker in command or marker in environment):
            found.append((int(entry.name), command))

    def inside(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == below:
                return True
        return False

    return [f"{pid} {command[:120]}" for pid, command in found if below is None or inside(pid)]


def gone(names: tuple[str, ...], within: float = 30.0, **where: Any) -> list[str]:
    """Wait until no such process is left; return those that still are."""
    end = time.monotonic() + within
    while (left := living(names, **where)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


@pytest.fixture(scope="module")
def long_grid(small_grid: Callable) -> Any:
    """A grid that takes some seconds wherever it runs, because its engine waits."""
    return small_grid(models=["benchmarks.simulated:quick"], settings={"budget": {"steps": 40}})


def steps_in(out: Path) -> int:
    """Return how many steps all cells of a grid have saved."""
    return sum(len(file.read_text().splitlines()) for file in out.glob("cells/*/steps.jsonl"))


def test_a_driver_killed_and_interrupted_again_and_again_ends_with_the_records_of_an_undisturbed_one(
    long_grid: Any, local_ray: None, tmp_path: Path
):
    import ray

    assert run_grid(long_grid, tmp_path / "calm", LocalBackend()).complete
    config, out = grid_file(long_grid, tmp_path), tmp_path / "out"
    options = ("--replicas", "1", "--address", ray.get_runtime_context().gcs_address)
    rng = random.Random(20)
    # Ctrl-C and what the Jobs API sends end a grid politely, with a code of their own.
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
    signals = [*[signal.SIGKILL] * KILLS, signal.SIGTERM, signal.SIGINT]
    rng.shuffle(signals)
    steps: list[int] = []
    for turn, number in enumerate(signals):
        process = drive(config, out, *options)
        if turn % 2 and number == signal.SIGKILL:
            # Also while it connects, starts its actors or ends what it found.
            time.sleep(rng.uniform(0.5, 6.0))
        else:
            until_started(process)
            # On a busy machine the first step may take longer than any fixed time; at the end there is none left.
            end = time.monotonic() + 10
            while number == signal.SIGKILL and steps_in(out) == (steps or [0])[-1] and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(rng.uniform(0.0, 1.0))
        assert process.poll() is None, "the grid was too quick for this test"
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == codes[number], text
        if number != signal.SIGKILL:
            assert "the same command continues" in text
        assert gone(OURS, below=os.getpid()) == [], "a process outlived its driver"
        steps.append(steps_in(out))
    process = drive(config, out, *options)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert records_in(out) == records_in(tmp_path / "calm")
    assert any(0 < done < 80 for done in steps), "some were hit in the middle"
    assert gone(OURS, below=os.getpid()) == []
    # The public list of actors needs a dashboard.
    assert [a for a in ray._private.state.actors().values() if a["State"] != "DEAD"] == []


def test_two_users_of_one_machine_do_not_meet_and_leave_nothing_behind(
    long_grid: Any, tmp_path: Path, short_temp: Path
):
    config = grid_file(long_grid, tmp_path)
    # Each has the other's Ray in sight: without an address, Ray itself would join the newest one.
    outs = [tmp_path / "a", tmp_path / "b"]
    drivers = [drive(config, out, "--replicas", "1", temp=short_temp) for out in outs]
    for driver in drivers:
        until_started(driver)
    sessions = list(short_temp.glob("gr-*/r/session_2*"))
    assert len(sessions) == 2, "each has a Ray of its own"
    # One is killed, the other does not notice.
    drivers[0].kill()
    drivers[0].communicate()
    text, _ = drivers[1].communicate(timeout=120)
    assert drivers[1].returncode == 0, text
    assert len(records_in(outs[1])) == 3
    assert gone(RAY, marker=str(short_temp)) == []

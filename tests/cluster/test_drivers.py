"""Drivers as processes of their own: killed, interrupted, side by side; nothing is lost and nothing stays behind."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import records_in

KILLS = 5


def grid_file(grid, folder: Path) -> Path:
    """Write a grid as a user would."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid.model_dump(mode="json", exclude_defaults=True)))
    return path


def drive(config: Path, out: Path, *options: str, temp: Path | None = None) -> subprocess.Popen:
    """Start ``greater-ray grid`` as a process, with a Ray of its own."""
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


# After a killed driver, Ray's two agents of a node notice the death of their raylet only after a minute.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def ray_processes(marker: str) -> list[str]:
    """Return the command lines of live processes that name a folder: those of one Ray and of its workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        ours = marker in command or f"RAY_TMPDIR={marker}" in environment
        if ours and state != "Z" and int(entry.name) != os.getpid() and not command.startswith(AGENTS):
            found.append(f"{entry.name} {command[:150]}")
    return found


def gone(marker: str, within: float = 30.0) -> list[str]:
    """Wait until no process names the folder; return those that still do."""
    end = time.monotonic() + within
    while (left := ray_processes(marker)) and time.monotonic() < end:
        time.sleep(0.3)
    return left


@pytest.fixture
def short_temp(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a short name: sockets in it must not be longer than 107 characters."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="gr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_driver_killed_and_interrupted_again_and_again_ends_with_the_records_of_an_undisturbed_one(
    small_grid: Callable, in_process: dict[str, str], tmp_path: Path, short_temp: Path
):
    config, out = grid_file(small_grid(), tmp_path), tmp_path / "out"
    rng = random.Random(20)
    # Ctrl-C and what the Jobs API sends end a grid politely, with a code of their own.
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}
    signals = [*[signal.SIGKILL] * KILLS, signal.SIGTERM, signal.SIGINT]
    rng.shuffle(signals)
    for number in signals:
        process = drive(config, out, "--replicas", "2", temp=short_temp)
        assert process.stdout is not None
        # At a random moment after the first cell began; politely only then, too: before, the first signal aborts.
        for line in process.stdout:
            if line.startswith("started:"):
                break
        time.sleep(rng.uniform(0.0, 1.0))
        assert process.poll() is None, "the grid was too quick for this test"
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == codes[number], text
        if number != signal.SIGKILL:
            assert "the same command continues" in text
        assert gone(str(short_temp)) == [], "a process outlived its driver"
    process = drive(config, out, "--replicas", "2", temp=short_temp)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert records_in(out) == in_process
    assert gone(str(short_temp)) == []


def test_two_users_of_one_machine_do_not_meet_and_leave_nothing_behind(
    small_grid: Callable, in_process: dict[str, str], tmp_path: Path, short_temp: Path
):
    config = grid_file(small_grid(methods=["zero-shot-cot"]), tmp_path)
    # Each has the other's Ray in sight: without an address, Ray itself would join the newest one.
    outs = [tmp_path / "a", tmp_path / "b"]
    drivers = [drive(config, out, "--replicas", "1", temp=short_temp) for out in outs]
    texts = [driver.communicate(timeout=180)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], texts
    sessions = {path.name for path in (short_temp / "ray").glob("session_2*")}
    assert len(sessions) == 2, "each had a Ray of its own"
    zero_shot = {name: record for name, record in in_process.items() if re.search("zero_shot", name)}
    assert records_in(outs[0]) == records_in(outs[1]) == zero_shot
    assert gone(str(short_temp)) == []

"""A small grid under random faults, again and again: the same command continues it, and no record may differ.

    python -m benchmarks.faults --rounds 20 --work runs/faults --report benchmarks/results/faults_DATE.md

A round is one new grid folder and one fault, of a random kind at a random moment; then the command runs until the grid
is complete. ``--rounds`` counts per kind. Every round is noted in ``rounds.jsonl`` of the work folder, and the same
command goes on behind the last one. Records are compared byte by byte, without times, with those of the grid run in
one process without Ray. It ends with 1 if one differs, a grid does not end, or a process stays behind. ``--only``
does the rounds of some kinds.

The model is simulated (``benchmarks.simulated:quick``). All rounds share one Ray, which this process starts, as jobs
of a cluster do; every driver is a process of its own. Those of the last kinds, where a driver and its Ray are suspended
and go on, start a Ray of their own.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.grid_records import records_in
from benchmarks.processes import load, roles

GRID: dict[str, Any] = {
    "name": "faults",
    "methods": [{"name": "greater", "budget": {"steps": 40}}, "zero-shot-cot"],
    "tasks": ["bbh/boolean_expressions"],
    "models": ["benchmarks.simulated:quick"],
    "seeds": [0, 1],
    # Fast, but not so fast that a busy machine looks like one that stands still.
    "replicas": {"patience": 2.0},
    "settings": {
        "task": {"data": "synthetic", "train_size": 6, "dev_size": 2, "test_size": 4},
        "decoding": {"max_reasoning_tokens": 6, "max_answer_tokens": 3},
        "shard_size": 2,
    },
}
# Of each kind: whom it hits (a role of ``benchmarks.processes``, or the driver) and with what.
KINDS = {
    "driver killed": ("driver", signal.SIGKILL),
    "driver, SIGTERM": ("driver", signal.SIGTERM),
    "driver, Ctrl-C": ("driver", signal.SIGINT),
    "replica killed": ("replicas", signal.SIGKILL),
    "replica stopped": ("replicas", signal.SIGSTOP),
    "broker killed": ("broker", signal.SIGKILL),
    "broker stopped": ("broker", signal.SIGSTOP),
    "coordinator killed": ("coordinators", signal.SIGKILL),
    "coordinator stopped": ("coordinators", signal.SIGSTOP),
    "everything suspended": ("everything", signal.SIGSTOP),
    "Ctrl-Z and fg": ("terminal", signal.SIGTSTP),
    "driver suspended": ("driver alone", signal.SIGSTOP),
}
# These go on after a time, in seconds, and have a Ray of their own.
_SUSPENDED = ("everything", "terminal", "driver alone")
_PAUSES = (20.0, 60.0, 120.0)
NONE = "none"
_GRID_ROLES = ("replicas", "broker", "coordinators")
_CALM = 3  # undisturbed rounds, for the time that a fault costs
_TRIES = 6  # commands until a grid has to be complete
_LIMIT = 240.0  # seconds that one command may take, unless told otherwise
_GONE = 60.0  # seconds until everything that a driver started has to be gone
_CPUS = 6  # logical ones: a grid here waits more than it computes


class Round(NamedTuple):
    """How one round ended; ``codes`` are the exit codes of its commands, ``at`` seconds from start to fault."""

    kind: str
    hit: bool
    equal: bool
    seconds: float
    codes: list[int]
    at: float
    left: list[str]
    texts: list[str]


def start(config: Path, out: Path, address: str, log: Path, temporary: Path) -> subprocess.Popen[bytes]:
    """Start the grid's driver as a job of a shell; what it says is added to ``log``."""
    command = [sys.executable, "-m", "greater_ray", "grid", str(config), "--out", str(out), "--replicas", "2"]
    environment = {**os.environ, "RAY_TMPDIR": str(temporary)}
    with log.open("ab") as stream:
        return subprocess.Popen(
            [*command, "--address", address], stdout=stream, stderr=subprocess.STDOUT, env=environment, process_group=0
        )


def targets(role: str, driver: subprocess.Popen[bytes]) -> list[int]:
    """Return the live processes of a role."""
    if role in ("driver", "driver alone"):
        return [driver.pid]
    if role in _SUSPENDED:
        below = [*roles(driver.pid)]
        return below if role == "everything" else [pid for pid in below if _group(pid) == driver.pid]
    return sorted(pid for pid, found in roles().items() if found == role)


def _group(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def strike(kind: str, driver: subprocess.Popen[bytes], log: Path, rng: random.Random, calm: float) -> int | None:
    """Wait for a random moment and do the fault; gives the process that was hit, None where the grid had ended."""
    role, number = KINDS[kind]
    if rng.random() < 0.75 or role not in ("driver", *_SUSPENDED):
        # Where it matters: while cells run. Else also while it connects and starts.
        while b"\nstarted:" not in log.read_bytes():
            if driver.poll() is not None:
                return None
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.6 * calm))
    else:
        time.sleep(rng.uniform(0.3, calm))
    while driver.poll() is None:
        found = targets(role, driver)
        if found and role in _SUSPENDED:
            _signal(found, number)
            time.sleep(rng.choice(_PAUSES))
            _signal(found, signal.SIGCONT)
            return driver.pid
        if found:
            pid = rng.choice(found)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                return pid
        time.sleep(0.02)
    return None


def ended(driver: subprocess.Popen[bytes], limit: float) -> int | None:
    """Wait for a driver; None: it took too long and was killed."""
    try:
        return driver.wait(limit)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        return None


def left_behind(within: float, temporary: Path) -> list[str]:
    """Wait until the processes of a grid are gone, and those and the files of a Ray of its own; gives what is not.

    The processes are ended.
    """
    end = time.monotonic() + within
    while True:
        left = {pid: role for pid, role in roles().items() if role in _GRID_ROLES} | _of(temporary)
        files = [path.name for path in temporary.iterdir()]
        if not left and not files:
            return []
        if time.monotonic() > end:
            _signal([*left], signal.SIGKILL)
            return sorted([*left.values(), *files])
        time.sleep(0.1)


def _of(temporary: Path) -> dict[int, str]:
    """Return the processes of a Ray whose files are in a folder."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if bytes(temporary) in command + (folder / "environ").read_bytes():
                    found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:60]
    return found


def one_round(
    kind: str, work: Path, address: str, calm: dict[str, str], seconds: float, rng: random.Random, limit: float
) -> Round | None:
    """Do one round; None where the grid ended before the fault."""
    out, log = work / "out", work / "log.txt"
    shutil.rmtree(out, ignore_errors=True)
    log.write_bytes(b"")
    config = work / "grid.yaml"
    config.write_text(yaml.safe_dump(GRID, sort_keys=False))
    begun = time.monotonic()
    if KINDS.get(kind, NONE)[0] in _SUSPENDED:
        address = "local"
    temporary = Path(tempfile.mkdtemp(prefix="gf", dir="/tmp"))  # short, for the paths of Ray's sockets
    driver = start(config, out, address, log, temporary)
    at, codes = 0.0, []
    if kind != NONE:
        if strike(kind, driver, log, rng, seconds) is None:
            driver.wait()
            shutil.rmtree(temporary)
            return None
        at = time.monotonic() - begun
    left: list[str] = []
    while (code := ended(driver, limit)) is not None:
        codes.append(code)
        left += left_behind(_GONE, temporary)
        if code == 0 or len(codes) == _TRIES:
            break
        driver = start(config, out, address, log, temporary)
    took = time.monotonic() - begun
    shutil.rmtree(temporary, ignore_errors=True)
    equal = codes[-1:] == [0] and records_in(out) == calm
    texts = [] if equal and not left else log.read_text(errors="replace").splitlines()[-40:]
    return Round(kind, True, equal, took, codes, at, left, texts)


def rounds(
    work: Path, address: str, number: int, calm: dict[str, str], seed: int, kinds: Sequence[str], limit: float
) -> Iterator[Round]:
    """Do what is missing of these kinds, in random order; gives those done before first."""
    notes = work / "rounds.jsonl"
    known = [Round(**json.loads(line)) for line in notes.read_text().splitlines()] if notes.exists() else []
    yield from known
    done = [r.kind for r in known]
    undisturbed = [r.seconds for r in known if r.kind == NONE]
    turn = len(known)
    while missing := [NONE] * (_CALM - done.count(NONE)) or [
        kind for kind in kinds for _ in range(number - done.count(kind))
    ]:
        rng = random.Random(f"{seed} {turn}")
        turn += 1
        kind = rng.choice(missing)
        found = one_round(kind, work, address, calm, statistics.median(undisturbed or [10.0]), rng, limit)
        if found is None:
            continue  # the grid was done before the fault: another moment
        with notes.open("a") as stream:
            stream.write(json.dumps(found._asdict()) + "\n")
        done.append(kind)
        if kind == NONE:
            undisturbed.append(found.seconds)
        yield found


def table(found: list[Round]) -> str:
    """Return the figures by kind as Markdown."""
    calm = statistics.median(r.seconds for r in found if r.kind == NONE)
    lines = [
        f"An undisturbed grid takes {calm:.1f} s (median, starting and ending a driver included).",
        "",
        "| fault | rounds | equal records | commands until complete | time lost, median | most | left behind |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        of_kind = [r for r in found if r.kind == kind]
        if of_kind:
            lost = [r.seconds - calm for r in of_kind]
            lines.append(
                f"| {kind} | {len(of_kind)} | {sum(r.equal for r in of_kind)} "
                f"| {min(len(r.codes) for r in of_kind)} to {max(len(r.codes) for r in of_kind)} "
                f"| {statistics.median(lost):.0f} s | {max(lost):.0f} s | {sum(bool(r.left) for r in of_kind)} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Do the rounds and print the table; 1 if a record differs or something stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each kind")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND", help="these kinds alone")
    parser.add_argument("--limit", type=float, default=_LIMIT, help="seconds that one command may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="the same folder continues")
    parser.add_argument("--report", type=Path, help="write the table there, as Markdown")
    options = parser.parse_args()
    import ray

    from greater_ray.cluster.connect import connected
    from greater_ray.grid.config import load_grid
    from greater_ray.grid.run import LocalBackend, run_grid

    options.work.mkdir(parents=True, exist_ok=True)
    os.environ.pop("RAY_ADDRESS", None)
    run_grid(load_grid(GRID), options.work / "calm", LocalBackend())
    calm, found = records_in(options.work / "calm"), []
    with connected(num_cpus=_CPUS):
        address = ray.get_runtime_context().gcs_address
        for one in rounds(options.work, address, options.rounds, calm, options.seed, options.only, options.limit):
            found.append(one)
            how = "equal" if one.equal else "DIFFERENT"
            behind = f", left behind: {', '.join(one.left)}" if one.left else ""
            print(
                f"{len(found)}. {one.kind} after {one.at:.1f} s: {how}, {one.seconds:.1f} s, {one.codes}{behind}",
                flush=True,
            )
            if one.texts:
                print("    " + "\n    ".join(one.texts), flush=True)
    print(table(found))
    if options.report is not None:
        where = f"Python {platform.python_version()}, Ray {ray.__version__}, {load()}"
        command = f"python -m benchmarks.faults --rounds {options.rounds}"
        title = f"# A grid under faults, {date.today()}\n\n`{command}`, {where}."
        options.report.write_text(f"{title}\n\n{table(found)}\n")
    return 0 if all(one.equal and not one.left for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())

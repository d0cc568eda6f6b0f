"""Disks that fill up, become read-only or go away at random moments of a grid: one sentence, and then the same records.

    python -m benchmarks.full_disk --rounds 20 --ray-rounds 3 --out benchmarks/results/NAME.md

Needs root, for small disks of their own: tmpfs, and ext4 in a file for what tmpfs cannot do. Every round runs the
command ``greater-ray grid``, breaks the disk at a random moment, mends it, and runs the same command again.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.bench_cluster import machine
from benchmarks.grid_records import records_in
from greater_ray.cli.app import run
from greater_ray.errors import ModelError

GRID = {
    "name": "disk",
    "methods": [{"name": "greater", "budget": {"steps": 12}, "method_config": {"num_evaluated": 2}}, "zero-shot-cot"],
    "tasks": ["bbh/navigate"],
    "models": ["benchmarks.simulated:instant"],
    "seeds": [0, 1],
    "settings": {
        "task": {"data": "synthetic", "train_size": 8, "dev_size": 4, "test_size": 8},
        "evaluation": {"splits": ["test"]},
        "shard_size": 2,
    },
}
_IMAGE = 16  # MiB of an ext4 disk
_ENOUGH = 64  # MiB of a tmpfs that has room
_FILLED = 12.0  # seconds from the start within which Ray's disk is full
_RAY_LIMIT = 400  # seconds that a command on Ray may take
_TELLS = (
    "no space left",
    "can only be read now",
    "fails (input/output error)",
    "is gone",
    "changed by somebody else",
    "holds no grid any more",
    "too little space",
)


@dataclass
class Tally:
    """What came of the rounds of one kind."""

    kind: str
    rounds: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def row(self) -> str:
        told = ", ".join(f"{number} {what}" for what, number in sorted(self.ended.items()))
        return f"| {self.kind} | {self.rounds} | {told} | {len(self.wrong)} |"


# -- disks -------------------------------------------------------------------------------------------------------------


def _call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small disk in memory."""
    folder.mkdir(exist_ok=True)
    _call("mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield folder
    finally:
        _call("umount", "-l", folder)
        shutil.rmtree(folder)


def mount_image(image: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    _call("mount", "-o", "loop,errors=remount-ro", image, folder)


@contextmanager
def ext4(folder: Path) -> Iterator[Path]:
    """Mount a disk that is in a file."""
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(_IMAGE << 20)
    _call("mkfs.ext4", "-q", "-F", image)
    mount_image(image, folder)
    try:
        yield folder
    finally:
        _call("umount", "-l", folder)
        # A grid that began while the disk was away ran below the mount point: the next round would meet its files.
        shutil.rmtree(folder)
        image.unlink()


# -- faults: each breaks a disk and returns how it is mended -----------------------------------------------------------


def fill(disk: Path) -> Callable[[], None]:
    """Take all room of a disk at once."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    return filler.unlink


def abort(disk: Path) -> Callable[[], None]:
    """Let the file system stop as after an error of the device: whoever has a file open there cannot write any more."""
    _call("mount", "-o", "remount,abort", disk)

    def mend() -> None:
        _call("umount", disk)
        mount_image(disk.with_suffix(".img"), disk)

    return mend


def unmount(disk: Path) -> Callable[[], None]:
    """Take a disk away under whoever uses it."""
    _call("umount", "-l", disk)
    return lambda: mount_image(disk.with_suffix(".img"), disk)


def remove(disk: Path) -> Callable[[], None]:
    """Take the folder of the grid away, as ``rm -r`` would, and keep it for later."""
    kept = disk / "kept"
    with contextlib.suppress(FileNotFoundError):
        (disk / "out").rename(kept)

    def mend() -> None:
        if kept.exists():
            # What was made anew meanwhile holds nothing but a lock.
            shutil.rmtree(disk / "out", ignore_errors=True)
            kept.rename(disk / "out")

    return mend


# -- rounds ------------------------------------------------------------------------------------------------------------


def command(grid: Path, out: Path) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it says of errors."""
    said, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        code = run(["grid", str(grid), "--out", str(out), "--replicas", "0"])
    return code, said.getvalue()


def judged(code: int, said: str) -> str | None:
    """Return what is wrong with the end of a command whose disk was broken; None where nothing is."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code == 0:
        return None
    if code != 1 or len(errors) != 1 or "Traceback" in said or not any(told in said for told in _TELLS):
        return f"exit {code}: {said.strip()[-300:]}"
    return None


def one(work: Path, grid: Path, kind: str, expected: dict[str, str], delay: float, tally: Tally) -> None:
    """Break the disk after a time, mend it, run again, and compare."""
    fault, kept = FAULTS[kind]
    disk = work / "disk"
    with kept(disk):
        mended: list[Callable[[], None]] = []
        timer = threading.Timer(delay, lambda: mended.append(fault(disk)))
        timer.start()
        code, said = command(grid, disk / "out")
        timer.join()
        wrong = judged(code, said)
        mended[0]()
        again, _ = command(grid, disk / "out")
        if wrong is None and (again != 0 or records_in(disk / "out") != expected):
            wrong = f"after mending: exit {again}, or other records"
    tally.rounds += bool(code)
    tally.ended["told" if code else "ended before the fault (not counted)"] += 1
    if wrong:
        tally.wrong.append(f"{kind} after {delay:.3f} s: {wrong}")


def in_memory(folder: Path) -> contextlib.AbstractContextManager[Path]:
    return tmpfs(folder, f"{_ENOUGH}m")


FAULTS: dict[str, tuple[Callable[[Path], Callable[[], None]], Callable]] = {
    "output folder: disk full": (fill, in_memory),
    "output folder: read-only": (abort, ext4),
    "output folder: disk gone": (unmount, ext4),
    "output folder: removed": (remove, in_memory),
}


def growing(work: Path, grid: Path, rounds: int, expected: dict[str, str], draw: random.Random) -> Tally:
    """Run on a disk of a random size until it is full, enlarge it by a little, and so on to the end."""
    tally = Tally("output folder: disk full, again and again")
    for _ in range(rounds):
        tally.rounds += 1
        size, ends = draw.randint(4, 120), 0
        with tmpfs(work / "disk", f"{size}k") as disk:
            while True:
                code, said = command(grid, disk / "out")
                if wrong := judged(code, said):
                    tally.wrong.append(f"{size} kB: {wrong}")
                if code == 0 or wrong:
                    break
                ends, size = ends + 1, size + draw.randint(4, 120)
                _call("mount", "-o", f"remount,size={size}k", disk)
            if code == 0 and records_in(disk / "out") != expected:
                tally.wrong.append(f"{size} kB: other records")
        tally.ended["ended with the same records"] += code == 0
        tally.ended["told"] += ends
    return tally


def cached(work: Path, gguf: Path, rounds: int, draw: random.Random) -> Tally:
    """Convert a model into a cache on a disk of a random size, then on the same disk with room."""
    from greater_ray.models import _gguf_cache as cache

    tally, sha256 = Tally("model cache: disk full"), cache.file_sha256(gguf)
    for _ in range(rounds):
        tally.rounds += 1
        kilobytes = draw.randint(4, cache.float32_bytes(gguf) * 3 // 2048)
        with tmpfs(work / "cache", f"{kilobytes}k") as disk:
            os.environ["GREATER_RAY_CACHE"] = str(disk)
            try:
                cache.from_gguf(gguf, sha256, lambda text: None)
                tally.ended["had room"] += 1
            except ModelError as error:
                tally.ended["told"] += 1
                if not any(told in str(error) for told in _TELLS):
                    tally.wrong.append(f"{kilobytes} kB: {error}")
            except Exception as error:  # noqa: BLE001 - what this looks for
                tally.wrong.append(f"{kilobytes} kB: {type(error).__name__}: {error}")
            _call("mount", "-o", f"remount,size={_ENOUGH * 16}m", disk)
            if cache.problem(cache.from_gguf(gguf, sha256, lambda text: None), sha256, full=True):
                tally.wrong.append(f"{kilobytes} kB: a broken model")
    return tally


class Note(NamedTuple):
    """How one round on Ray ended: the exit code of the first command, its seconds, and what was wrong.

    ``met``: the disk was full while that command ran.
    """

    place: str
    kilobytes: int
    code: int
    seconds: float
    said: str
    wrong: str | None
    met: bool = True


def one_with_ray(work: Path, grid: Path, place: str, expected: dict[str, str], draw: random.Random) -> Note:
    """Break a disk under a grid on Ray: that of the output, or that of Ray's temporary files."""
    small_out = place == "output folder"
    size = draw.randint(4, 150) if small_out else 16 << 10
    with tmpfs(work / "small", f"{size}k") as small, tempfile.TemporaryDirectory(dir="/tmp") as roomy:
        out = (small if small_out else Path(roomy)) / "out"
        temporary = Path(roomy) if small_out else small
        asked = [sys.executable, "-m", "greater_ray", "grid", grid, "--out", out, "--replicas", "1"]
        environment = {**os.environ, "RAY_TMPDIR": str(temporary)}
        filled = threading.Timer(draw.uniform(0, _FILLED), fill, [small])
        if not small_out:
            filled.start()
        begin = time.monotonic()
        first = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=_RAY_LIMIT)
        took = time.monotonic() - begin
        filled.cancel()
        met = small_out or (small / "filler").exists()
        (small / "filler").unlink(missing_ok=True)
        _call("mount", "-o", f"remount,size={_ENOUGH * 8}m", small)
        second = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=_RAY_LIMIT)
        left = [path.name for path in temporary.iterdir() if path.name != "out"]
        said, wrong = first.stdout + first.stderr, None
        # Ray's own complaints tell of the disk, too.
        ours = [line for line in said.splitlines() if line.startswith(("error: ", "stopped: "))]
        if (first.returncode, "Traceback" in said or "internal error" in said) not in ((0, False), (1, False)):
            wrong = f"exit {first.returncode} after {took:.0f} s: {said[-600:]}"
        elif first.returncode and not any(told in line for told in _TELLS for line in ours):
            wrong = f"the disk is not named: {said[-600:]}"
        elif second.returncode or records_in(out) != expected:
            wrong = f"after mending: exit {second.returncode}: {second.stderr[-300:]}"
        elif left:
            wrong = f"left behind: {left}"
    return Note(place, size, first.returncode, took, said[-1000:], wrong, met)


def with_ray(
    work: Path, grid: Path, place: str, rounds: int, expected: dict[str, str], seed: int, notes: Path | None
) -> Tally:
    """Do the rounds on Ray of a place that ``notes``, a file of them, does not have yet."""
    known = [Note(**json.loads(line)) for line in notes.read_text().splitlines()] if notes and notes.exists() else []
    found = [note for note in known if note.place == place]
    while sum(note.met for note in found) < rounds:
        turn = len(found)
        found.append(one_with_ray(work, grid, place, expected, random.Random(f"{seed} {place} {turn}")))
        how = f"{found[-1].kilobytes} kB, exit {found[-1].code} after {found[-1].seconds:.0f} s"
        print(f"{place}: {how}: {found[-1].wrong or 'as it should'}", file=sys.stderr, flush=True)
        if notes:
            with notes.open("a") as stream:
                stream.write(json.dumps(found[-1]._asdict()) + "\n")
    tally = Tally(f"Ray, {place}: disk full", rounds=sum(note.met for note in found))
    early = "ended before the fault (not counted)"
    tally.ended.update("told" if n.code else "ended all the same" if n.met else early for n in found)
    tally.wrong += [f"{place}, {note.kilobytes} kB: {note.wrong}" for note in found if note.wrong]
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ray-rounds", type=int, default=0)
    places = ("output folder", "temporary folder")
    parser.add_argument("--ray-places", nargs="+", choices=places, default=places, help="Which disk is broken on Ray.")
    parser.add_argument("--ray-notes", type=Path, help="A file of rounds on Ray: those that it has are not done again.")
    parser.add_argument("--gguf", type=Path, help="A small GGUF file, for the rounds with the model cache.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    draw, tallies = random.Random(asked.seed), []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        work = Path(folder)
        grid = work / "grid.yaml"
        grid.write_text(yaml.safe_dump(GRID))
        command(grid, work / "warm")
        started = time.monotonic()
        assert command(grid, work / "straight")[0] == 0
        took, expected = time.monotonic() - started, records_in(work / "straight")
        for kind in FAULTS:
            tally = Tally(kind)
            while tally.rounds < asked.rounds:
                one(work, grid, kind, expected, draw.uniform(0, took), tally)
            tallies.append(tally)
        tallies.append(growing(work, grid, asked.rounds, expected, draw))
        if asked.gguf:
            tallies.append(cached(work, asked.gguf, asked.rounds, draw))
        for place in asked.ray_places if asked.ray_rounds else ():
            tallies.append(with_ray(work, grid, place, asked.ray_rounds, expected, asked.seed, asked.ray_notes))
    text = report(tallies, took, time.monotonic() - begin)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(any(tally.wrong for tally in tallies))


def report(tallies: list[Tally], took: float, seconds: float) -> str:
    """Return the table."""
    rows = [tally.row() for tally in tallies]
    wrong = [f"- {text}" for tally in tallies for text in tally.wrong]
    return "\n".join(
        [
            "# Disks that fill up, become read-only or go away",
            "",
            f"{time.strftime('%Y-%m-%d')}, {machine()}.",
            f"A grid of 3 cells, {took:.1f} s undisturbed; all rounds: {seconds:.0f} s.",
            "",
            "| what, at a random moment | rounds | how the command ended | wrong |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "Told: one sentence, exit 1. Wrong: anything else, or other records once the disk was mended and the same",
            "command was run again.",
            *(["", *wrong] if wrong else []),
            "",
        ]
    )


if __name__ == "__main__":
    main()

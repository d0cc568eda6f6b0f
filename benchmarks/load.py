"""What large grids, long runs and large files take: time and memory of single commands, at two sizes each.

    python -m benchmarks.load --report benchmarks/results/load_DATE.md

Every command is a process of its own, without Ray, on the simulated model, or on a tiny one where its vocabulary is
what grows; the second size is four times the first, so a ratio of processor time much above four is growth faster than
linear. The time that passes is that of the disk and of whoever else uses the machine, too. Memory is the peak of the
process.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.big_vocabulary import make_model
from benchmarks.processes import load

SIMULATED = "benchmarks.simulated:instant"
SIZES = (1, 4)
_CELLS, _STEPS, _ROWS, _ROW_BYTES, _TOKENS = 500, 2_500, 50_000, 250_000, 64_000
# Runs a command and tells its peak memory and processor time: a child's are told to its parent alone.
_MEASURE = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(used.ru_maxrss, used.ru_utime + used.ru_stime, code)"
)


class Cost(NamedTuple):
    """What a command took: seconds that passed, seconds of processor time, and its peak memory in MiB."""

    seconds: float
    processor: float
    memory: float


def measured(*args: str) -> Cost:
    """Run a command."""
    begun = time.monotonic()
    command = [sys.executable, "-c", _MEASURE, sys.executable, "-m", "greater_ray", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, used, code = map(float, done.stdout.split())
    if code:
        raise RuntimeError(f"{' '.join(args)} ended with {code:g}: {done.stderr[-500:]}")
    return Cost(time.monotonic() - begun, used, peak / 1024)


def grid_of(folder: Path, cells: int) -> dict[str, Cost]:
    """Measure a grid of so many cells."""
    values: dict[str, Any] = {
        "methods": [{"name": "greater", "budget": {"steps": 1}}], "tasks": ["bbh/navigate"], "models": [SIMULATED],
        "seeds": [*range(cells)],
        "settings": {"task": {"data": "synthetic", "train_size": 2, "dev_size": 0, "test_size": 2}, "shard_size": 2},
    }  # fmt: skip
    file, out = folder / f"{cells}.yaml", str(folder / f"grid{cells}")
    file.write_text(json.dumps(values))
    run = ["grid", str(file), "--out", out, "--replicas", "0"]
    plan = measured(*run, "--plan", "--no-probe")
    whole = measured(*run)
    return {
        "plan": plan, "run": whole, "status": measured("status", out), "the same command, all done": measured(*run),
        "plan, all done": measured(*run, "--plan", "--no-probe"), "report": measured("report", out),
        "the same command, half of it done": halved(out, run),
    }  # fmt: skip


def halved(out: str, run: list[str]) -> Cost:
    """Take every second cell of a grid that is done away, and measure the command that does them again."""
    for folder in sorted((Path(out) / "cells").iterdir())[::2]:
        shutil.rmtree(folder)
    return measured(*run)


def run_of(folder: Path, steps: int) -> dict[str, Cost]:
    """Measure a run of so many steps, the only cell of a grid."""
    out, file = folder / f"run{steps}", folder / f"run{steps}.yaml"
    task = {"data": "synthetic", "train_size": 2, "dev_size": 0, "test_size": 2}
    values = {
        "models": [SIMULATED], "tasks": ["bbh/navigate"], "methods": ["greater"], "seeds": [0],
        "settings": {"budget": {"steps": steps}, "task": task},
    }  # fmt: skip
    file.write_text(json.dumps(values))
    run = ["grid", str(file), "--out", str(out), "--replicas", "0"]
    costs = {"run": measured(*run), "the same command, done": measured(*run), "status": measured("status", str(out))}
    (cell,) = (out / "cells").iterdir()
    costs |= {"export": measured("export", str(cell)), "report": measured("report", str(out))}
    for name in ("record.json", "record.sha256", "evaluations.jsonl"):
        (cell / name).unlink()
    return costs | {"the same command, all steps done": measured(*run)}


def rows_of(folder: Path, rows: int, size: int) -> dict[str, Cost]:
    """Measure own rows: so many, each with a question of so many characters."""
    file = folder / f"{rows}-{size}.jsonl"
    with file.open("w") as stream:
        for number in range(rows):
            text = f"{number} {'word ' * (size // 5)}"
            stream.write(json.dumps({"question": text, "answer": str(number % 7)}) + "\n")
    ask = ["--rows", str(file), "--answer-type", "number", "--train-size", "2", "--dev-size", "2", "--test-size", "2"]
    return {"evaluate": measured("evaluate", "--model", SIMULATED, "--prompt", "Think.", *ask)}


def vocabulary_of(folder: Path, tokens: int) -> dict[str, Cost]:
    """Measure a tiny random model with a vocabulary of so many tokens: its checks, and runs of one and three steps."""
    model = ["--model", str(make_model(folder / f"vocabulary{tokens}", tokens))]
    model += ["--task", "bbh/navigate", "--data", "synthetic"]
    rows = ["--train-size", "8", "--dev-size", "2", "--test-size", "2"]
    rows += ["--set", "decoding.max_reasoning_tokens=16", "--set", "decoding.max_answer_tokens=4"]

    def run(steps: str) -> Cost:
        return measured("optimize", *model, *rows, "--steps", steps, "--out", str(folder / f"{tokens}-{steps}"))

    return {"doctor": measured("doctor", *model), "run of 1 step": run("1"), "run of 3 steps": run("3")}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="write the table there, as Markdown")
    parser.add_argument("--kinds", nargs="+", help="of what is measured, by the first word; all unless given")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes, for a look at the script itself")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    lines = ["| what | size | command | processor time | and at a quarter | time | memory |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(Path(__file__).parents[1]):
        folder = Path(name)
        kinds = {
            "cells": (_CELLS, lambda n: grid_of(folder, n)), "steps": (_STEPS, lambda n: run_of(folder, n)),
            "rows": (_ROWS, lambda n: rows_of(folder, n, 100)),
            "characters in each of 8 rows": (_ROW_BYTES, lambda n: rows_of(folder, 8, n)),
            "tokens of a vocabulary": (_TOKENS, lambda n: vocabulary_of(folder, n)),
        }  # fmt: skip
        for what, (size, measure) in kinds.items():
            if options.kinds and what.split()[0] not in options.kinds:
                continue
            sizes = [max(2, int(size * options.scale * factor)) for factor in SIZES]
            small, large = (measure(n) for n in sizes)
            for command, cost in large.items():
                took = f"{cost.processor:.1f} s | {small[command].processor:.1f} s | {cost.seconds:.1f} s"
                lines.append(f"| {what} | {sizes[1]:,} | {command} | {took} | {cost.memory:.0f} MiB |")
                print(lines[-1], flush=True)
    if options.report is not None:
        where = f"Python {platform.python_version()}, {load()}"
        table = "\n".join(lines)
        options.report.write_text(f"# Load, {date.today()}\n\n`python -m benchmarks.load`, {where}.\n\n{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A large finished grid, made from one real run, and what it costs to read it.

python -m benchmarks.make_cells runs/made --cells 2000        # makes the folder, then measures in a process of its own

Every cell is a copy of the run under another seed, every second one a transfer of the one before it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from greater_ray.config import fingerprint
from greater_ray.grid.cells import Cell
from greater_ray.grid.store import GridStore
from greater_ray.records import RunConfigFile
from greater_ray.settings import merged

RUN = Path(__file__).parents[1] / "tests" / "recorded" / "0.1.0" / "greater-finished"
FAR = "far"  # the model to which every first cell is transferred


def make_cells(folder: Path, count: int, run: Path = RUN) -> list[Cell]:
    """Write a grid of ``count`` finished cells, copies of a finished run, into a new folder."""
    file = RunConfigFile.model_validate_json((run / "config.json").read_bytes())
    record = json.loads((run / "record.json").read_bytes())
    steps = (run / "steps.jsonl").read_bytes()
    store = GridStore(folder)
    store.claim()
    cells: list[Cell] = []
    for k in range(count):
        source = cells[-1].trial_id if k % 2 else None
        model = file.config.model.model_copy(update={"name": FAR if source else file.config.model.name})
        config = file.config.model_copy(update={"seed": k // 2, "model": model})
        cell = Cell(config, config.method, config.task.name, model.name, str(config.seed), source)
        own = store.cells / f"{cell.slug}-{cell.trial_id}-{fingerprint(file.inputs)[:8]}"
        own.mkdir()
        noted = file.model_copy(update={"trial_id": cell.trial_id, "config": config})
        (own / "config.json").write_text(noted.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (own / "steps.jsonl").write_bytes(steps)
        of_cell = {"trial_id": cell.trial_id, "config": config.model_dump(mode="json")}
        text = json.dumps(merged(record, of_cell), indent=1, ensure_ascii=False)
        (own / "record.json").write_text(text + "\n", encoding="utf-8")
        cells.append(cell)
    store.write_grid("made", cells, whole=False)
    store.close()
    return cells


def _resident() -> float:
    """Return the memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def measure(folder: Path) -> None:
    """Print the processor time of each way of reading in this process, and what it keeps in memory.

    The folder of the cells gets a time at which its listing is never old enough to be relied on, as while cells begin.
    """
    import pandas as pd  # noqa: F401 - not part of what is measured

    from greater_ray import load
    from greater_ray.cli._grid_summary import status_of

    os.utime(folder / "cells", (time.time() + 3600,) * 2)
    before = _resident()

    def timed(name: str, begin: float) -> None:
        print(f"{name:<24} {time.process_time() - begin:7.2f} s  {_resident() - before:6.0f} MiB more", flush=True)

    start = time.process_time()
    status_of(folder)
    timed("status --json", start)
    start = time.process_time()
    results = load(folder)
    timed("load", start)
    start = time.process_time()
    for cell in results.finished:
        _ = cell.scores, cell.costs
    timed("scores and costs", start)
    start = time.process_time()
    results.cell_frame()
    timed("cell_frame", start)
    start = time.process_time()
    results.to_json()
    timed("to_json", start)
    start = time.process_time()
    results.step_frame()
    timed("step_frame", start)
    start = time.process_time()
    results.answer_frame()
    timed("answer_frame", start)


def main() -> None:
    """Make the folder unless it is there, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--run", type=Path, default=RUN, help="finished run that is copied")
    parser.add_argument("--measure", action="store_true", help="only measure, in this process")
    args = parser.parse_args()
    if args.measure:
        measure(args.folder)
        return
    if not args.folder.exists():
        make_cells(args.folder, args.cells, args.run)
    subprocess.run([sys.executable, "-m", "benchmarks.make_cells", args.folder, "--measure"], check=True)


if __name__ == "__main__":
    main()

"""What a large file of one's own rows costs to load: seconds, those of the processor, and the most memory held.

python -m benchmarks.load_rows --rows 200000        # every case in a process of its own

Rows have a title and a text of about 300 characters and one of five labels.
"""

import argparse
import csv
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = (
    "the",
    "a",
    "parcel",
    "invoice",
    "was",
    "sent",
    "back",
    "and",
    "nobody",
    "knows",
    "why",
    "it",
    "took",
    "so",
    "long",
)
LABELS = ("billing", "shipping", "returns", "account access", "technical")
FORMATS = ("jsonl", "csv", "parquet")
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "template": {"question_template": "{title}\n{text}"},
    "jinja2": {"question_template": "{{ title }}\n{{ text | upper }}"},
    "text answers": {"answer_column": "title"},
    "several answers": {"answer_column": "both", "metric": "f1"},
    "given splits": {"split_column": "split", "id_column": "id"},
}


def made_rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield rows of words drawn from a seed."""
    rng = random.Random(0)
    for k in range(count):
        title = " ".join(rng.choices(WORDS, k=5)) + f" {k}"
        text = " ".join(rng.choices(WORDS, k=60))
        split = ("train", "validation", "test")[k % 3]
        yield {"id": f"r{k}", "title": title, "text": f"{title}: {text}", "label": LABELS[k % 5], "split": split}


def write(path: Path, count: int) -> None:
    """Write rows in the format that the name of the file says."""
    rows = made_rows(count)
    if path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps({**row, "both": [row["title"], row["label"]]}) + "\n" for row in rows)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as lines:
            first = next(rows)
            writer = csv.DictWriter(lines, list(first))
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)
    else:
        import pyarrow
        from pyarrow.parquet import write_table

        table = pyarrow.Table.from_pylist([{**row, "both": [row["title"], row["label"]]} for row in rows])
        write_table(table, path, row_group_size=10_000)


def measure(path: Path, case: str) -> None:
    """Load a file as a run does it, and print what it cost as JSON."""
    import greater_ray.tasks._metrics
    import greater_ray.tasks.rows  # noqa: F401  what importing costs is not the file's
    from greater_ray.config import TaskConfig
    from greater_ray.tasks import load_task

    if path.suffix == ".parquet":
        import pyarrow.parquet  # noqa: F401
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, busy = time.perf_counter(), time.process_time()
    columns = {"question_column": "text", "answer_column": "label"}
    task = load_task(TaskConfig(name="rows", rows=str(path), **{**columns, **CASES[case]}))
    task.train(), task.dev()
    counts = task.provenance["counts"]
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": round(seconds, 2), "processor": round(busy, 2), "MiB": round(peak), "MiB before": round(base)}
    print(json.dumps({**found, **counts}))


def main() -> None:
    """Measure every format and case, or the one that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            path = Path(folder) / f"rows.{kind}"
            # In a process of its own: a child begins with the peak of its parent.
            writing = multiprocessing.get_context("spawn").Process(target=write, args=(path, options.rows))
            writing.start()
            writing.join()
            for case in CASES:
                if kind == "csv" and case == "several answers":
                    continue  # a cell of a CSV file holds no list
                command = [sys.executable, "-m", "benchmarks.load_rows", "--measure", str(path), case]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                size = f"{path.stat().st_size / 2**20:.0f} MiB"
                print(f"{kind:8} {size:>8}  {case:16} {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()

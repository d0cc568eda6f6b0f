"""Hundreds of wrong inputs, as users give them: each has to end as one sentence with the right exit code.

    python -m benchmarks.fuzz                       # all of benchmarks/fuzz_cases.py, and a table by kind
    python -m benchmarks.fuzz --seed 7 --only rows  # other typos; one kind

Wrong are: a traceback, an internal error, an exit code that does not fit, silence, more than one sentence, a run that
goes on as if nothing were wrong, a folder that is left behind, and what takes too long. Commands run in this process,
a few as processes of their own. Nothing here needs a network: names are refused before a hub is asked, or it is off.
"""

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.fuzz_cases import cases
from benchmarks.fuzz_shop import Case, Workshop

LIMIT = 60  # seconds that a case may take; most take a hundredth of one
_LONGEST = 900  # characters of a sentence that somebody still reads
# No hub in this process, whatever the machine has: a wrong name must not become a download.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


class TookTooLongError(BaseException):
    """Raised by the alarm: no ``except Exception`` of ours swallows it."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """End what takes longer."""

    def ring(*_: Any) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Set variables for a while."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def called(case: Case) -> tuple[int | None, str, str]:
    """Run a case in this process; gives exit code (None: it took too long), standard output and standard error."""
    from greater_ray.cli.app import run

    out, err = io.StringIO(), io.StringIO()
    code: int | None
    with environment(case.environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with limited(LIMIT):
                code = run(case.args)
        except TookTooLongError:
            code = None
    return code, out.getvalue(), err.getvalue()


def started(case: Case) -> tuple[int | None, str, str]:
    """Run a case as a process of its own."""
    command = [sys.executable, "-m", "greater_ray", *case.args]
    try:
        done = subprocess.run(
            command, env=os.environ | case.environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout, done.stderr


def fault(case: Case, code: int | None, out: str, err: str) -> str | None:
    """Say what is wrong with how a case ended; None: nothing."""
    sentences = [line for line in err.splitlines() if line.startswith("error: ")]
    if code is None:
        return "took too long"
    if "Traceback" in out + err:
        return "traceback"
    if "internal error" in out + err:
        return "internal error"
    if code == 0:
        return "accepted"
    if code not in ((case.code,) if case.code else (1, 2)):
        return f"exit {code}, not {case.code}"
    if len(sentences) != 1:
        return f"{len(sentences)} sentences"
    if len(sentences[0]) > _LONGEST:
        return f"a sentence of {len(sentences[0])} characters"
    if case.left is not None and case.left.is_dir() and any(case.left.glob("[!.]*")):
        return "left files behind"
    return None


def tried(case: Case) -> tuple[str | None, str, float]:
    """Run a case; gives what is wrong, the last line it said, and seconds."""
    begun = time.monotonic()
    code, out, err = started(case) if case.process else called(case)
    lines = (err or out).strip().splitlines() or [""]
    return fault(case, code, out, err), lines[-1], time.monotonic() - begun


def table(rows: list[tuple[Case, str | None, float]]) -> str:
    """Return the figures by kind as Markdown."""
    lines = ["| kind | inputs | wrong | longest |", "| --- | --- | --- | --- |"]
    for kind in dict.fromkeys(case.kind for case, _, _ in rows):
        of_kind = [(found, seconds) for case, found, seconds in rows if case.kind == kind]
        wrong = sum(found is not None for found, _ in of_kind)
        lines.append(f"| {kind} | {len(of_kind)} | {wrong} | {max(s for _, s in of_kind):.1f} s |")
    wrong = sum(found is not None for _, found, _ in rows)
    lines.append(f"| all | {len(rows)} | {wrong} | {max((s for *_, s in rows), default=0):.1f} s |")
    return "\n".join(lines)


def main() -> int:
    """Print what is wrong and the table; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the typos")
    parser.add_argument("--only", help="cases whose kind or name holds this")
    parser.add_argument("--show", action="store_true", help="print every case and what it said")
    parser.add_argument("--out", type=Path, help="write the table there, as Markdown")
    options = parser.parse_args()
    os.environ.update(_OFFLINE)
    rows: list[tuple[Case, str | None, float]] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(__file__).parents[1]):
        for case in cases(Workshop(Path(folder)), options.seed):
            if options.only and options.only not in f"{case.kind}: {case.name}":
                continue
            found, said, seconds = tried(case)
            rows.append((case, found, seconds))
            if options.show or found:
                print(f"{found or 'ok'}: {case.kind}: {case.name}\n    {said[:400]}", flush=True)
    print(table(rows))
    ways = Counter(found for _, found, _ in rows if found)
    if options.out is not None:
        title = f"# Wrong inputs, {date.today()}\n\n`python -m benchmarks.fuzz --seed {options.seed}`\n\n"
        options.out.write_text(f"{title}{table(rows)}\n")
    return 1 if ways else 0


if __name__ == "__main__":
    sys.exit(main())

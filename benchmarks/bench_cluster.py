"""What Ray and the orchestration cost. Four measurements, each with its bar; the exit code is 1 below one.

    python -m benchmarks.bench_cluster overhead       one replica costs at most 5 % more than this process
    python -m benchmarks.bench_cluster scaling        two one-thread replicas do at least 1.8 times the work of one
    python -m benchmarks.bench_cluster orchestrator   64 replicas that only wait are busy for at least 97 % of the time
    python -m benchmarks.bench_cluster stragglers     one replica of 16 at a tenth of the speed costs at most 20 %

``--out FILE`` also writes a dated report. Run it from the root of a checkout, on a machine that does nothing else.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# One thread everywhere, as replicas have; read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.processes import load

TASKS = ("bbh/object_counting", "bbh/navigate", "bbh/boolean_expressions", "bbh/web_of_lies")


class Report:
    """Prints lines as they come and keeps them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.met = True

    def __call__(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def bar(self, what: str, met: bool) -> None:
        """Tell whether a bar is met."""
        self.met &= met
        self(f"bar: {what}: {'met' if met else 'MISSED'}")

    def write(self, file: Path, title: str, command: str) -> None:
        """Write the dated report."""
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(self.lines)
        file.write_text(
            f"# {title}\n\n{time.strftime('%Y-%m-%d')}, {machine()}.\nCommand: `{command}`.\n\n```\n{text}\n```\n",
            encoding="utf-8",
        )


def machine() -> str:
    """Return hardware and versions."""
    from greater_ray.provenance import environment

    facts = environment()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {facts['versions'][name]}" for name in ("python", "ray", "torch", "transformers"))
    return f"{os.cpu_count()} cores of {facts['hardware']['processor']}, {memory:.0f} GiB; {packages}"


def overhead(options: argparse.Namespace, report: Report) -> None:
    """One replica against this process."""
    from benchmarks.replica_speed import measure_overhead, start_ray

    report(f"{options.model}, {options.rows} rows in shards of {options.shard_size}, mu={options.mu},")
    report(f"at most {options.max_reasoning_tokens} reasoning tokens, one thread; {load()}")
    start_ray(1)
    for kind, turns in measure_overhead(options).items():
        for line in turns.lines(kind):
            report(line)
        report.bar(f"{kind}: one replica takes at most {options.bar:g} times as long", turns.ratio <= options.bar)
        report.bar(f"{kind}: equal results", turns.equal)


def scaling(options: argparse.Namespace, report: Report) -> None:
    """Two replicas against one."""
    from benchmarks.replica_speed import measure_scaling, start_ray

    report(f"{options.model}, {options.cells} cells at once, {options.rows} rows in shards of {options.shard_size},")
    report(f"mu={options.mu}, at most {options.max_reasoning_tokens} reasoning tokens, one thread; {load()}")
    start_ray(3)
    for kind, possible, turns in measure_scaling(options, TASKS):
        median = statistics.median(possible)
        report(
            f"{kind}, two processes without Ray on this machine: {median:.3f} times one "
            f"(min {min(possible):.3f}, max {max(possible):.3f}, {len(possible)} turns)"
        )
        for line in turns.lines(kind):
            report(line)
        report(f"{kind}, of what the machine gives without Ray: {turns.ratio / median:.1%}")
        report.bar(f"{kind}: two replicas at least {options.bar:g} times as fast", turns.ratio >= options.bar)
        report.bar(f"{kind}: equal results", turns.equal)


def orchestrator(options: argparse.Namespace, report: Report) -> None:
    """A grid of trials on replicas that only wait, then the same with work that takes no time."""
    from benchmarks.orchestrator import Session, describe, describe_limits, make_grid, run_cells

    report(f"{options.replicas} replicas that load for {options.loading:g} s, {options.cells} cells; {load()}")
    with Session(options.replicas, options.per_process) as session:
        measured = run_cells(
            make_grid(options.engine, options.cells, steps=options.steps, rows=options.rows),
            options.replicas,
            session.folder,
            concurrency=options.concurrency,
            loading=options.loading,
            per_process=options.per_process,
        )
    busy, flat = describe(measured, report, growth=options.growth)
    report.bar(f"replicas busy at least {options.bar:.0%} of the time", busy >= options.bar)
    report.bar(f"memory of driver and broker grows by less than {options.growth:g} MiB a minute after warm-up", flat)
    report.bar("every cell is done", measured.complete)
    if options.limit_cells:
        report()
        with Session(options.limit_replicas) as session:
            limits = run_cells(
                make_grid("instant", options.limit_cells),
                options.limit_replicas,
                session.folder,
                concurrency=options.limit_replicas,
            )
        describe_limits(limits, report)
        report.bar("every cell without work is done", limits.complete)


def stragglers(options: argparse.Namespace, report: Report) -> None:
    """One slow replica, in simulated time."""
    from benchmarks.stragglers import MEAN, REPLICAS, measure

    report(
        f"{REPLICAS} replicas, units of {MEAN:g} s on average, {options.draws} draws; times in multiples of the best"
    )
    report("possible (all speeds together, or the longest chain of one cell): median [least, most]")
    for slow in options.speeds:
        report()
        report(f"one replica at {slow:.2g} of the others' speed")
        found = measure(slow, options.draws, report)
        for title, ratios in found:
            # In the last shape every step waits for all its shards, so it never comes near the best possible.
            if slow < 1 and title.endswith("equal times") and not title.startswith("one cell"):
                report.bar(f"{title}: at most {options.bar:g} times the best", statistics.median(ratios) <= options.bar)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, bar in (("overhead", 1.05), ("scaling", 1.8)):
        speed = commands.add_parser(name)
        speed.add_argument("--model", default="smollm2-135m")
        speed.add_argument("--rows", type=int, default=16 if name == "overhead" else 8)
        speed.add_argument("--shard-size", type=int, default=8 if name == "overhead" else 4)
        speed.add_argument("--mu", type=int, default=3)
        speed.add_argument("--max-reasoning-tokens", type=int, default=24)
        speed.add_argument("--turns", type=int, default=7 if name == "overhead" else 3)
        speed.add_argument("--bar", type=float, default=bar)
        if name == "overhead":
            speed.add_argument("--task", default=TASKS[0])
        else:
            # At the end of a turn one replica waits for the other's last shard, as it does once in a whole grid.
            speed.add_argument("--cells", type=int, default=16)
            speed.add_argument("--kinds", nargs="+", default=["answers", "rollouts", "step"])
    idle = commands.add_parser("orchestrator")
    idle.add_argument("--replicas", type=int, default=64)
    idle.add_argument("--cells", type=int, default=300)
    idle.add_argument("--steps", type=int, default=3, help="of every cell")
    idle.add_argument("--rows", type=int, default=48, help="for training, and for the test, in shards of 12")
    idle.add_argument("--concurrency", type=int, help="cells in progress at once; as a grid has them unless given")
    idle.add_argument("--per-process", type=int, default=1, help="simulated replicas that share a process")
    idle.add_argument("--loading", type=float, default=60.0, help="seconds that a model takes to load")
    idle.add_argument("--engine", default="engine", help="a factory of benchmarks.simulated")
    idle.add_argument("--limit-cells", type=int, default=60, help="cells of the run without work; 0 leaves it out")
    idle.add_argument("--limit-replicas", type=int, default=4)
    idle.add_argument("--bar", type=float, default=0.97)
    idle.add_argument("--growth", type=float, default=5.0, help="MiB a minute by which driver and broker may grow")
    slow = commands.add_parser("stragglers")
    slow.add_argument("--speeds", type=float, nargs="+", default=[0.1, 1 / 3, 1.0], help="shares of the others' speed")
    slow.add_argument("--draws", type=int, default=20)
    slow.add_argument("--bar", type=float, default=1.2)
    for command in commands.choices.values():
        command.add_argument("--out", type=Path, default=None, help="write a dated report to this file")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    parts: dict[str, tuple[str, Callable[[argparse.Namespace, Report], None]]] = {
        "overhead": ("One replica through Ray against the same work in process", overhead),
        "scaling": ("Two replicas against one", scaling),
        "orchestrator": ("Orchestration of a large grid without models", orchestrator),
        "stragglers": ("A replica that is slower than the others, in simulated time", stragglers),
    }
    title, part = parts[options.command]
    report = Report()
    begin = time.monotonic()
    part(options, report)
    report(f"took {time.monotonic() - begin:.0f} s")
    if options.out is not None:
        report.write(options.out, title, " ".join(["python -m benchmarks.bench_cluster", *sys.argv[1:]]))
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())

"""The orchestration alone, at the size of a large grid: hundreds of cells on replicas that only wait.

``run_cells`` is the measurement; ``busy_share`` the figure that the bar is for. Busy time is taken from the replicas'
own notes of begin and end, not from the broker's books.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import ray

from benchmarks.processes import Sampler, drift
from benchmarks.simulated import LOADED, SPANS
from greater_ray.cluster import pool
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.pool import AsyncBroker, Pool
from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import GridConfig, ReplicaConfig, load_grid
from greater_ray.grid.run import GridObserver, run_grid
from greater_ray.grid.store import GridStore

TASKS = (
    "bbh/boolean_expressions",
    "bbh/multistep_arithmetic_two",
    "bbh/navigate",
    "bbh/object_counting",
    "bbh/tracking_shuffled_objects_three_objects",
    "bbh/web_of_lies",
)
PER_PROCESS = "GREATER_RAY_SIMULATED_PER_PROCESS"  # how many replicas share a process, for the broker
_LOOK = 0.25  # seconds between two looks at replicas that are starting


def make_grid(engine: str, cells: int, steps: int = 3, rows: int = 48, shard_size: int = 12) -> GridConfig:
    """Return a grid of GReaTer trials on made rows: with the defaults 36 shards per cell, four at a time at most."""
    tasks = TASKS[: min(len(TASKS), cells)]
    seeds = -(-cells // len(tasks))
    return load_grid(
        {
            "methods": ["greater"],
            "tasks": [
                {"name": name, "data": "synthetic", "train_size": rows, "dev_size": 0, "test_size": rows}
                for name in tasks
            ],
            "models": [f"benchmarks.simulated:{engine}"],
            "seeds": list(range(seeds)),
            "settings": {
                "shard_size": shard_size,
                "budget": {"steps": steps},
                "evaluation": {"splits": ["test"]},
            },
        }
    )


@dataclass
class Follower(GridObserver):
    """Notes what goes on: when the work waited, how many cells ran, what ended how."""

    begin: float = field(default_factory=time.monotonic)
    waiting: list[tuple[float, int, int]] = field(default_factory=list)  # moment, queue, busy slots
    running: int = 0
    most_running: int = 0
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def started(self, cell: Cell) -> None:
        self.starts.append(time.monotonic())
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        self.ends.append(time.monotonic())
        self.running -= 1
        self.states.append(state)

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        for one in stats:
            busy = sum(slot["state"] == "busy" for slot in one["slots"])
            self.waiting.append((time.monotonic(), one["queue"], busy))


class SharingBroker(AsyncBroker):
    """Puts ``PER_PROCESS`` replicas that only wait into one process, so that a machine has room for a thousand."""

    def __init__(self, model: ModelConfig, demand: Demand, *rest: Any) -> None:
        super().__init__(model, demand, *rest)
        many = int(os.environ[PER_PROCESS])
        actor = ray.remote(Replica).options(num_cpus=0, max_concurrency=many)
        turns = cycle([actor.remote(0, os.getcwd(), 0.0) for _ in range(-(-(demand.count or 1) // many))])
        # The slots ask for their replicas when this has returned.
        self.launch, self.end = lambda: next(turns), lambda actor: None


class PatientBackend(RayBackend):
    """Begins when the processes of all replicas are there, which in a cluster start on other machines than this one.

    From then on the replicas load for ``loading`` seconds, while the cells start. ``per_process`` of them share one.
    """

    def __init__(self, on_up: Callable[[], None], loading: float, per_process: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.on_up, self.loading, self.per_process = on_up, loading, per_process

    def _run_wave(self, wave: list[Cell], pools: list[Pool], store: GridStore, observer: GridObserver) -> None:
        folder = Path(os.environ[SPANS])
        processes = sum(-(-(one.demand.count or 1) // self.per_process) for one in pools)
        while len(list(folder.iterdir())) < processes:
            time.sleep(_LOOK)
        self.on_up()
        loaded = threading.Timer(self.loading, (folder / LOADED).touch)
        loaded.start()
        try:
            super()._run_wave(wave, pools, store, observer)
        finally:
            loaded.cancel()


@dataclass
class Measured:
    """One run of a grid."""

    replicas: int
    cells: int
    complete: bool
    spans: list[tuple[float, float]]
    follower: Follower
    sampler: Sampler

    @property
    def window(self) -> tuple[float, float]:
        """From the begin of the first shard until the last look at which work was waiting and no replica was free.

        Work that waits while a replica is free is only on its way from one to the other.
        """
        begin = min(b for b, _ in self.spans)
        waited = [t for t, queue, busy in self.follower.waiting if queue > 0 and busy == self.replicas]
        return begin, max(waited, default=max(e for _, e in self.spans))

    def busy_share(self) -> float:
        """Busy seconds within the window, by the number of replicas times its length."""
        begin, end = self.window
        busy = sum(max(0.0, min(e, end) - max(b, begin)) for b, e in self.spans)
        return busy / (self.replicas * (end - begin))

    def busy_over_time(self, parts: int = 10) -> list[float]:
        """The busy share in equal parts of the window."""
        begin, end = self.window
        edges = [begin + (end - begin) * k / parts for k in range(parts + 1)]
        return [
            sum(max(0.0, min(e, right) - max(b, left)) for b, e in self.spans) / (self.replicas * (right - left))
            for left, right in pairwise(edges)
        ]


def run_cells(
    grid: GridConfig,
    replicas: int,
    out: Path,
    *,
    concurrency: int | None = None,
    loading: float = 0.0,
    every: float = 1.0,
    per_process: int = 1,
) -> Measured:
    """Run a grid on simulated replicas, ``per_process`` in each, on the Ray of a ``Session`` with as many."""
    follower, sampler = Follower(), Sampler(every)
    replica_config = ReplicaConfig(count=replicas)
    backend = PatientBackend(sampler.start, loading, per_process, default=replica_config, concurrency=concurrency)
    own = pool.AsyncBroker
    try:
        if per_process > 1:
            pool.AsyncBroker = SharingBroker  # type: ignore[misc]
        result = run_grid(grid, out / "grid", backend, observer=follower)
    finally:
        pool.AsyncBroker = own  # type: ignore[misc]
        sampler.stop()
    return Measured(
        replicas=replicas,
        cells=len(result.cells),
        complete=result.complete,
        spans=read_spans(Path(os.environ[SPANS])),
        follower=follower,
        sampler=sampler,
    )


def read_spans(folder: Path) -> list[tuple[float, float]]:
    """Return begin and end of every unit of work that the engines have noted."""
    spans = []
    for file in folder.glob("*.txt"):
        for line in file.read_text(encoding="ascii").splitlines():
            begin, end = line.split()
            spans.append((float(begin), float(end)))
    return sorted(spans)


def describe(measured: Measured, report: Callable[[str], None], growth: float) -> tuple[float, bool]:
    """Report a run; return the busy share and whether driver and broker kept their size."""
    begin, end = measured.window
    follower, sampler = measured.follower, measured.sampler
    busy, shards = measured.busy_share(), len(measured.spans)
    mean = sum(e - b for b, e in measured.spans) / shards
    early = sum(start < begin for start in follower.starts)
    report(f"the first shard began {begin - follower.begin:.1f} s in, when {early} cells had started")
    report(f"{shards} shards of {mean:.2f} s on average; {follower.most_running} cells at once at most")
    report(f"{end - begin:.1f} s until no more work waited, {measured.spans[-1][1] - begin:.1f} s until the end")
    report(
        f"busy: {busy:.1%} (sum of busy seconds / ({measured.replicas} replicas x {end - begin:.1f} s)); by tenths: "
    )
    report("  " + " ".join(f"{share:.0%}" for share in measured.busy_over_time()))
    flat = True
    for role in ("driver", "broker"):
        # The first third is warm-up: every coordinator that is started opens its connections and buffers.
        first, last, slope = drift(sampler.memory[role], begin + (end - begin) / 3, end)
        flat &= slope < growth
        report(
            f"{role} after warm-up: {first:.0f} MiB resident in the first third, {last:.0f} MiB in the last, "
            f"slope {slope:+.1f} MiB a minute"
        )
    for role, (number, one, together) in sorted(sampler.shares().items()):
        report(f"{role}: at most {number}, {one:.0f} MiB each, {together:.0f} MiB together")
    used = sampler.processor_between(begin, end)
    cores = ", ".join(f"{role} {seconds / (end - begin):.2f}" for role, seconds in sorted(used.items()))
    report(f"cores in use: {cores}")
    return busy, flat


def describe_limits(measured: Measured, report: Callable[[str], None]) -> None:
    """Report what the way of a shard costs, from the middle half of a run whose work takes no time."""
    ends = measured.follower.ends
    begin, end = ends[len(ends) // 4], ends[3 * len(ends) // 4]
    shards = sum(begin <= e <= end for _, e in measured.spans)
    used = {
        role: seconds / shards for role, seconds in measured.sampler.processor_between(begin, end).items() if seconds
    }
    rate = shards / (end - begin)
    report(f"work that takes no time, {measured.replicas} replicas: {rate:.0f} shards/s on {os.cpu_count()} cores")
    report("processor time per shard: " + ", ".join(f"{role} {1e3 * s:.2f} ms" for role, s in sorted(used.items())))
    broker, driver = 1 / used["broker"], 1 / max(used.get("driver", 0.0), 1e-6)
    head = 1 / sum(s for role, s in used.items() if role != "replicas")
    report(f"one core of its own feeds: the broker {broker:.0f} shards/s, the driver {driver:.0f} shards/s")
    report(f"a head node feeds {head:.0f} shards/s per core, replicas being elsewhere")
    for seconds in (1.5, 10.0):
        most = 0.7 * broker * seconds
        report(f"shards of {seconds:g} s: the broker (at 70 % of a core) is full at {most:.0f} replicas")


class Session:
    """A private Ray with as many slots as there are replicas to simulate, and a folder for their notes."""

    def __init__(self, slots: int, per_process: int = 1) -> None:
        self.slots, self.per_process = slots, per_process
        self._folder = tempfile.TemporaryDirectory(prefix="greater-ray-bench-")
        self.folder = Path(self._folder.name)

    def __enter__(self) -> "Session":
        (self.folder / "spans").mkdir()
        # What is set once Ray has started does not reach its workers.
        os.environ[SPANS], os.environ[PER_PROCESS] = str(self.folder / "spans"), str(self.per_process)
        os.environ.update(RAY_USAGE_STATS_ENABLED="0")
        # Slots are many more than cores here: spare workers for all of them would only take time and memory.
        os.environ.update(RAY_prestart_worker_first_driver="0", RAY_enable_worker_prestart="0")
        # The package and this folder, for workers that are started from wherever Ray likes.
        root = str(Path(__file__).parents[1])
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        ray.init(
            address="local",
            num_cpus=self.slots,
            include_dashboard=False,
            object_store_memory=200 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        return self

    def __exit__(self, *error: object) -> None:
        ray.shutdown()
        os.environ.pop(SPANS, None)
        self._folder.cleanup()

"""What Ray costs, and what a second replica brings: the same work in process, on one replica and on two.

The ways take turns, so that a machine that gets slower meets all of them. Only one of them computes at a time. Every
way gives the same results, or the measurement is void.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import ray

from benchmarks.processes import processor_of_all
from greater_ray.assembly import load_engine, resolve_config
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.pool import Pool
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.grid.config import ReplicaConfig
from greater_ray.methods.greater import PLUGIN, GreaterConfig
from greater_ray.protocols import Executor, Problem
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.tasks import extractor, load_task
from greater_ray.types import Example, Layout
from greater_ray.work import Answers, EncodePrompt, Rollouts

_LOOK = 0.1


@dataclass
class Work:
    """Fixed work: the cells with their rows and texts, and how a model is used. Every run of it computes all anew."""

    cells: list[tuple[tuple[Example, ...], Layout]]
    shard_size: int
    method: GreaterConfig

    @classmethod
    def make(cls, options: Any, tasks: Sequence[str]) -> "Work":
        """Build the cells: one per task, in turn, each with rows of its own."""
        cells = []
        for k, name in enumerate(tasks):
            config = _config(options, name, seed=k)
            task = load_task(config.task)
            cells.append((tuple(task.train()), config.make_layout(*extractor(task, config.task.extractor))))
        return cls(cells, options.shard_size, GreaterConfig(num_evaluated=options.mu))

    def model(self, executor: Executor, cell: int) -> tuple[tuple[Example, ...], ShardedModel]:
        rows, layout = self.cells[cell]
        return rows, ShardedModel(executor, layout, self.shard_size)

    def step(self, executor: Executor, cell: int) -> Any:
        """One whole step of GReaTer from the start of a trial; return what it chose."""
        rows, model = self.model(executor, cell)
        problem = Problem(rows, model, seed=0)
        state, info = PLUGIN.step(problem, self.method, PLUGIN.start(problem, self.method))
        return state.model_dump(mode="json"), [asdict(candidate) for candidate in info.candidates]

    def answers(self, executor: Executor, cell: int) -> Any:
        """Evaluate the initial prompt on all rows."""
        rows, model = self.model(executor, cell)
        (answers,) = model.ask(Answers(rows, [model.ask(EncodePrompt(self.method.initial_prompt))]))
        return answers

    def rollouts(self, executor: Executor, cell: int) -> Any:
        """Score two prompts on all rows."""
        rows, model = self.model(executor, cell)
        ids = model.ask(EncodePrompt(self.method.initial_prompt))
        return model.ask(Rollouts(rows, [ids, ids[1:]], self.method.loss))

    def everywhere(self, kind: str, executor: Executor) -> list[Any]:
        """Do one kind of work for all cells at once, each in a thread of its own, as the coordinators of a grid."""
        unit: Callable[[Executor, int], Any] = getattr(self, kind)
        with ThreadPoolExecutor(len(self.cells)) as threads:
            return list(threads.map(lambda cell: unit(executor, cell), range(len(self.cells))))

    def warm(self, executor: Executor) -> None:
        """Let every replica compute once, and keep the questions; the work of all cells at once reaches them all."""
        self.everywhere("answers", executor)


def _config(options: Any, task: str, seed: int) -> TrialConfig:
    return resolve_config(
        {
            "model": {"name": options.model, "threads": 1},
            "task": {"name": task, "data": "synthetic", "train_size": options.rows, "seed": seed},
            "decoding": {"max_reasoning_tokens": options.max_reasoning_tokens},
            "shard_size": options.shard_size,
        }
    )


@dataclass
class Turns:
    """Seconds of two ways of doing the same work, turn by turn."""

    names: tuple[str, str]
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    processor: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    equal: bool = True

    @property
    def ratio(self) -> float:
        """Median of the first way by that of the second."""
        return statistics.median(self.seconds[0]) / statistics.median(self.seconds[1])

    @property
    def pairs(self) -> list[float]:
        """The ratio of each pair of neighbouring turns: what noise does to it."""
        return [a / b for a, b in zip(*self.seconds, strict=True)]

    def lines(self, kind: str) -> Iterable[str]:
        for name, seconds, processor in zip(self.names, self.seconds, self.processor, strict=True):
            yield (
                f"{kind}, {name}: {statistics.median(seconds):.3f} s "
                f"(min {min(seconds):.3f}, max {max(seconds):.3f}, {len(seconds)} turns); "
                f"processor {statistics.median(processor):.3f} s (min {min(processor):.3f}, max {max(processor):.3f})"
            )
        pairs = self.pairs
        yield (
            f"{kind}, ratio of medians: {self.ratio:.3f} (pairs: min {min(pairs):.3f}, "
            f"median {statistics.median(pairs):.3f}, max {max(pairs):.3f}); "
            f"results {'equal' if self.equal else 'DIFFER'}"
        )


def take_turns(
    names: tuple[str, str], work: Callable[[Executor], Any], executors: tuple[Executor, Executor], turns: int
) -> Turns:
    """Run work in both ways, alternately and in alternating order."""
    result = Turns(names)
    for turn in range(turns):
        outcomes: list[Any] = [None, None]
        for way in (0, 1) if turn % 2 else (1, 0):
            used, begin = processor_of_all(), time.perf_counter()
            outcomes[way] = work(executors[way])
            result.seconds[way].append(time.perf_counter() - begin)
            result.processor[way].append(processor_of_all() - used)
        result.equal &= outcomes[0] == outcomes[1]
    return result


def launch(model: ModelConfig, replicas: int) -> Pool:
    """Start a pool and wait for all of its replicas."""
    pool = Pool.launch(model, Demand(model.name, replicas, 1.0, 0.0), ReplicaConfig())
    pool.executor.served("benchmark")
    while any(slot["state"] == "starting" for slot in pool.stats()["slots"]):
        time.sleep(_LOOK)
    return pool


def measure_overhead(options: Any) -> dict[str, Turns]:
    """The work in this process against one replica."""
    work = Work.make(options, [options.task])
    model = ModelConfig(name=options.model, threads=1)
    local, pool = LocalExecutor(load_engine(model)), launch(model, 1)
    for executor in (pool.executor, local):
        work.warm(executor)
    names = ("one replica", "in process")
    results = {}
    for kind in ("step", "answers"):

        def run(executor: Executor, kind: str = kind) -> Any:
            return getattr(work, kind)(executor, 0)

        results[kind] = take_turns(names, run, (pool.executor, local), options.turns)
    pool.stop()
    return results


def measure_scaling(options: Any, tasks: Sequence[str]) -> Iterator[tuple[str, list[float], Turns]]:
    """One replica against two, with all cells in progress at once; before each kind, what the machine can give."""
    work = Work.make(options, [tasks[k % len(tasks)] for k in range(options.cells)])
    model = ModelConfig(name=options.model, threads=1)
    plain = [_plain_process(work, model) for _ in range(2)]
    one, two = launch(model, 1), launch(model, 2)
    for pool in (one, two):
        work.warm(pool.executor)
    for kind in options.kinds:

        def run(executor: Executor, kind: str = kind) -> Any:
            return work.everywhere(kind, executor)

        possible = measure_machine(plain, kind, options.turns)
        ways = one.executor, two.executor
        yield kind, possible, take_turns(("one replica", "two replicas"), run, ways, options.turns)
    one.stop(), two.stop()
    for process in plain:
        process.shutdown()


_alone: tuple[Work, Executor]  # of a plain process


def _plain_process(work: Work, model: ModelConfig) -> ProcessPoolExecutor:
    """Return a process with a model of its own and without Ray."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_load, initargs=(work, model))


def _load(work: Work, model: ModelConfig) -> None:
    global _alone
    executor = LocalExecutor(load_engine(model))
    work.answers(executor, 0)
    _alone = work, executor


def _timed(kind: str) -> float:
    work, executor = _alone
    begin = time.perf_counter()
    getattr(work, kind)(executor, 0)
    return time.perf_counter() - begin


def measure_machine(plain: Sequence[ProcessPoolExecutor], kind: str, turns: int) -> list[float]:
    """Return how many times as much two plain processes do as one, turn by turn.

    Each does the first cell, alone and then beside the other.
    """
    ratios = []
    for _ in range(turns):
        alone = sum(process.submit(_timed, kind).result() for process in plain)
        both = max(future.result() for future in [process.submit(_timed, kind) for process in plain])
        ratios.append(alone / both)
    return ratios


def start_ray(cpus: int) -> None:
    """Start a private Ray with room for all replicas; those that wait use no core."""
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )

"""A grid on Ray: pools of replicas for the models, and one Tune trial per cell that calls them.

Cells are run in waves of models whose replicas fit side by side; the pools of a wave load while its first trials
start, and each ends with the last trial that calls it. The driver keeps nothing that a second start of the same command
would miss.
"""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from greater_ray.cluster import connect
from greater_ray.cluster.coordinator import Plan, coordinate
from greater_ray.cluster.metrics import MeteredObserver
from greater_ray.cluster.placement import Demand, arranged, first_short
from greater_ray.cluster.pool import Pool
from greater_ray.cluster.room import Room
from greater_ray.cluster.trackers import LocalCallback, tracker_callbacks
from greater_ray.cluster.watch import InProgress, Watch
from greater_ray.config import ModelConfig
from greater_ray.errors import DiskError, Interrupted
from greater_ray.files import unwritable
from greater_ray.grid.cells import Cell, model_titles, slug_of
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.store import GridStore

_PER_REPLICA = 2  # cells in progress per replica, so that one that thinks never leaves a replica idle
_COORDINATOR = 200 * 2**20  # bytes of one coordinator, as measured; they all live on the driver's node
_STARTING = 2  # coordinators per core that start at the same time; more would only keep each other from being up


@dataclass
class RayBackend:
    """Runs cells on the Ray that this process is connected to.

    ``replicas`` says how each model is served, and ``default`` how all others are; ``wait`` is how many seconds a
    growing cluster is waited for.
    """

    default: ReplicaConfig = field(default_factory=ReplicaConfig)
    replicas: dict[ModelConfig, ReplicaConfig] = field(default_factory=dict)
    concurrency: int | None = None
    wait: float = 0.0
    trackers: tuple[str, ...] = ()
    should_stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        # Before any pool of ours is up: what is in use now is used by others.
        self._others = connect.in_use()

    def check(self, models: Sequence[ModelConfig], store: GridStore, observer: GridObserver) -> None:
        """Refuse what no wave could serve; see ``Backend``."""
        demands = [*self._demands(models).values()]
        connect.check_wait(demands, self.wait)
        for demand in demands:
            connect.require([demand], self.wait, observer.message, lambda: self._check_stop(store))

    def run_cells(self, cells: Sequence[Cell], store: GridStore, observer: GridObserver) -> None:
        """Run the cells; see ``Backend``."""
        waves = self._waves(cells)
        connect.check_wait([demand for wave in waves for demand in wave.demands.values()], self.wait)
        for wave in waves:
            connect.require([*wave.demands.values()], self.wait, observer.message, lambda: self._check_stop(store))
        observer = MeteredObserver(observer, cells)
        for wave in waves:
            self._check_stop(store)
            pools: list[Pool] = []
            try:
                for model, demand, nodes in self._filled(wave.demands):
                    number = f"{demand.count} replica{'s' if demand.count != 1 else ''}"
                    observer.message(f"loading '{demand.model}' into {number}")
                    pools.append(Pool.launch(model, demand, self._config(model), nodes))
                self._run_wave(wave.cells(), pools, store, observer)
            finally:
                for pool in pools:
                    pool.stop()

    def _check_stop(self, store: GridStore) -> None:
        if self.should_stop():
            raise _interrupted(store)

    # -- which models at the same time ---------------------------------------------------------------------------------

    def _demands(self, models: Iterable[ModelConfig]) -> dict[ModelConfig, Demand]:
        return {model: self._demand(model, title) for model, title in model_titles(models).items()}

    def _demand(self, model: ModelConfig, title: str) -> Demand:
        config = self._config(model)
        gpus = config.gpus
        if gpus is None:
            gpus = 1.0 if model.device.startswith("cuda") or (model.device == "auto" and connect.has_gpus()) else 0.0
        return Demand(title, config.count, float(model.threads or 1), gpus)

    def _config(self, model: ModelConfig) -> ReplicaConfig:
        return self.replicas.get(model, self.default)

    def _waves(self, cells: Sequence[Cell]) -> list["Wave"]:
        """Group cells by the models they need; groups whose replicas are counted and fit share a wave."""
        groups: dict[frozenset[ModelConfig], list[Cell]] = {}
        for cell in cells:
            groups.setdefault(frozenset(cell.models), []).append(cell)
        # One that waits for what others hold would wait beside the idle replicas of its own wave.
        free = [*connect.beside(self._others).values()]
        known = self._demands(model for cell in cells for model in cell.models)
        waves: list[Wave] = []
        for models, group in groups.items():
            demands = {model: demand for model, demand in known.items() if model in models}
            if waves:
                both = waves[-1].demands | demands
                if all(d.count is not None for d in both.values()) and first_short([*both.values()], free) is None:
                    waves[-1] = Wave(both, [*waves[-1].groups, group])
                    continue
            waves.append(Wave(demands, [group]))
        return waves

    def _filled(self, demands: dict[ModelConfig, Demand]) -> Iterator[tuple[ModelConfig, Demand, list[str]]]:
        """Give every demand a number of replicas, as many as others leave room for, and the nodes to begin on."""
        free = connect.beside(self._others)
        places = arranged([*demands.values()], [*free.values()])
        # Replicas of one size fit wherever Ray puts them.
        mixed = len({demand.size for demand in demands.values()}) > 1
        for (model, demand), found in zip(demands.items(), places, strict=True):
            nodes = [list(free)[place] for place in found] if mixed else []
            yield model, replace(demand, count=demand.count or max(1, len(found))), nodes

    # -- one wave ------------------------------------------------------------------------------------------------------

    def _run_wave(self, wave: list[Cell], pools: list[Pool], store: GridStore, observer: GridObserver) -> None:
        plan = Plan(
            cells=tuple(wave),
            out=store.folder,
            pools=tuple((pool.model, pool.executor) for pool in pools),
            folder=str(Path.cwd()),
        )
        replicas = sum(pool.demand.count or 1 for pool in pools)
        many = min(_PER_REPLICA * replicas, int(connect.node_memory() / _COORDINATOR))
        source = BasicVariantGenerator(max_concurrent=_STARTING * (os.cpu_count() or 1))
        events = _Events(wave, observer, source, min(len(wave), self.concurrency or max(2, many)))
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder = store.folder / ".tune"
        # Only the driver's node has this resource: coordinators cost no CPU and write where the driver writes.
        near = tune.PlacementGroupFactory([{connect.node_resource(): 0.001}])
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(coordinate, plan=plan), near),
            # Labels and names are for trackers; the coordinator goes by the number.
            param_space={"cell": tune.grid_search([{"number": k, **cell.labels} for k, cell in enumerate(wave)])},
            tune_config=tune.TuneConfig(
                search_alg=source,
                reuse_actors=True,
                scheduler=_InTurn(),
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(folder),
                verbose=0,
                # In a notebook Tune's own reporter would clear the output that our progress is drawn in.
                progress_reporter=tune.CLIReporter(),
                failure_config=tune.FailureConfig(max_failures=2),
                # With fewer to keep, Tune would save what it knows of all cells at every checkpoint of one.
                checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
                callbacks=[events, *tracker_callbacks(self.trackers, observer.message)],
            ),
        )
        handler = signal.getsignal(signal.SIGUSR1)
        room = Room(connect.session_folder())
        watch = Watch(pools, store, observer, self.should_stop, events, self.default.patience, room)
        # What Tune keeps of itself is never read: where it cannot be written, results are missed and told elsewhere.
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
        try:
            tuner.fit()
        except OSError as error:
            # Tune writes below Ray's folder as well, and does not say where.
            told = room.full() or unwritable(folder / name, error)
            raise (told if isinstance(told, DiskError) else error) from error
        finally:
            watch.stop()
            if threading.current_thread() is threading.main_thread():
                # Tune's own would be asked in vain from now on.
                signal.signal(signal.SIGUSR1, handler)
            if not self.trackers:
                shutil.rmtree(folder / name, ignore_errors=True)
        if full := watch.error or (room.full() if events.stopped else None):
            raise full
        if self.should_stop():
            raise _interrupted(store)


@dataclass(frozen=True)
class Wave:
    """Models whose pools are up at the same time, and the cells that call them, by the models they need."""

    demands: dict[ModelConfig, Demand]
    groups: list[list[Cell]]

    def cells(self) -> list[Cell]:
        """Return the cells, mixed in proportion to their models' replicas: any first few keep all pools at work."""
        turns = [
            ((place + 1) / self._replicas(cell.config.model), number, cell)
            for number, group in enumerate(self.groups)
            for place, cell in enumerate(group)
        ]
        return [cell for *_, cell in sorted(turns, key=lambda turn: turn[:2])]

    def _replicas(self, model: ModelConfig) -> int:
        # An endpoint has none.
        return (self.demands[model].count if model in self.demands else None) or 1


def _number(trial: Any) -> int:
    number: int = trial.config["cell"]["number"]
    return number


def _name(trial: Any) -> str:
    """Return what Tune and trackers call a trial; the number keeps those of one wave apart."""
    cell = trial.config["cell"]
    return f"{cell['number']:03d}-{slug_of(cell)}"


def _interrupted(store: GridStore) -> Interrupted:
    return Interrupted(f"stopped; everything finished is saved in '{store.folder}', the same command continues.")


class _InTurn(FIFOScheduler):  # type: ignore[misc]
    """Leaves the start of trials to Tune's own queue, where a new trial takes the process of one that has ended.

    Tune's default gives that process to the trial that has waited longest, whose own process is almost up, and throws
    that one away. While many coordinators start on few cores, they would hardly ever all be up.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Choose none: the queue goes on without a choice."""
        return


class _Events(LocalCallback):
    """Tells the observer what Tune tells, and lets Tune start more cells as coordinators come up, ``most`` at last."""

    def __init__(self, cells: Sequence[Cell], observer: GridObserver, source: BasicVariantGenerator, most: int) -> None:
        self.cells, self.observer = cells, observer
        self.source, self.most = source, most
        source.max_concurrent = self._starting = min(source.max_concurrent, most)
        self._running: dict[int, InProgress] = {}
        self._left = set(range(len(cells)))
        self.stopped = 0  # cells whose coordinators died

    def needed(self) -> set[ModelConfig]:
        """Return the models that cells which have not ended may still call; asked by another thread."""
        return {model for number in list(self._left) for model in self.cells[number].models}

    def running(self) -> dict[int, InProgress]:
        """Return the cells in progress by their number; asked by another thread."""
        return dict(self._running)

    def _moved(self, trial: Any, pid: int | None = None) -> None:
        number = _number(trial)
        before = self._running.get(number)
        self._running[number] = InProgress(self.cells[number], trial, before.news + 1 if before else 0, pid)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._moved(trial)
        up = len(self._running) + self._starting
        self.source.max_concurrent = max(self.source.max_concurrent, min(self.most, up))
        self.observer.started(self.cells[_number(trial)])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._moved(trial, result.get("pid"))
        cell = self.cells[_number(trial)]
        if result.get("state") == "running":
            self.observer.progressed(cell, Progress(*(result.get(name) for name in Progress._fields)))  # type: ignore[arg-type]
        elif "state" in result:
            self.observer.ended(cell, result["state"], result.get("reason"))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(_number(trial), None)
        self._left.discard(_number(trial))
        # Statistics that Tune keeps of every metric, which nobody asks for: half of the driver's growth per cell.
        trial.run_metadata.metric_analysis = {}
        trial.run_metadata.metric_n_steps = {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(_number(trial), None)
        self._left.discard(_number(trial))
        # The process of a coordinator died too often; the cell itself can go on.
        self.stopped += 1
        self.observer.ended(self.cells[_number(trial)], "stopped", "its coordinator died three times")

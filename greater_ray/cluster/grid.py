"""A grid on Ray: pools of replicas for the models, and one Tune trial per cell that calls them.

Cells are run in waves of models whose replicas fit side by side; the pools of a wave load while its first trials
start, and end with its last one. The driver keeps nothing that a second start of the same command would miss.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator

from greater_ray.cluster import connect
from greater_ray.cluster.connect import Demand
from greater_ray.cluster.coordinator import Plan, coordinate
from greater_ray.cluster.metrics import MeteredObserver
from greater_ray.cluster.pool import Pool
from greater_ray.cluster.trackers import LocalCallback, tracker_callbacks
from greater_ray.config import ModelConfig
from greater_ray.errors import Interrupted, PoolError, StoreError
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.store import GridStore

_POLL = 1.0  # seconds between two looks at the pools
_PATIENCE = 20.0  # seconds between two words about a model without a replica that is up
_PER_REPLICA = 2  # cells in progress per replica, so that one that thinks never leaves a replica idle
_COORDINATOR = 200 * 2**20  # bytes of one coordinator, as measured; they all live on the driver's node
_STARTING = 2  # coordinators per core that start at the same time; more would only keep each other from being up


@dataclass
class RayBackend:
    """Runs cells on the Ray that this process is connected to.

    ``replicas`` says how each model is served, by name, and ``default`` how all others are; ``wait`` is how many
    seconds a growing cluster is waited for.
    """

    default: ReplicaConfig = field(default_factory=ReplicaConfig)
    replicas: dict[str, ReplicaConfig] = field(default_factory=dict)
    concurrency: int | None = None
    wait: float = 0.0
    trackers: tuple[str, ...] = ()
    should_stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        # Before any pool of ours is up: what is in use now is used by others.
        self._others = connect.in_use()

    def run_cells(self, cells: Sequence[Cell], store: GridStore, observer: GridObserver) -> None:
        """Run the cells; see ``Backend``."""
        waves = self._waves(cells)
        connect.check_wait([demand for demands, _ in waves for demand in demands.values()], self.wait)
        for demands, _ in waves:
            connect.require(list(demands.values()), self.wait, observer.message, lambda: self._check_stop(store))
        observer = MeteredObserver(observer, cells)
        for demands, wave in waves:
            self._check_stop(store)
            pools: list[Pool] = []
            try:
                for model, demand in self._filled(demands).items():
                    number = f"{demand.count} replica{'s' if demand.count != 1 else ''}"
                    observer.message(f"loading '{model.name}' into {number}")
                    pools.append(Pool.launch(model, demand, self._prefix_memory(model)))
                self._run_wave(wave, pools, store, observer)
            finally:
                for pool in pools:
                    pool.stop()

    def _check_stop(self, store: GridStore) -> None:
        if self.should_stop():
            raise _interrupted(store)

    # -- which models at the same time ---------------------------------------------------------------------------------

    def _demand(self, model: ModelConfig) -> Demand:
        config = self.replicas.get(model.name, self.default)
        gpus = config.gpus
        if gpus is None:
            gpus = 1.0 if model.device.startswith("cuda") or (model.device == "auto" and connect.has_gpus()) else 0.0
        return Demand(model.name, config.count, float(model.threads or 1), gpus)

    def _prefix_memory(self, model: ModelConfig) -> int:
        return int(self.replicas.get(model.name, self.default).prefix_memory_gib * 2**30)

    def _waves(self, cells: Sequence[Cell]) -> list[tuple[dict[ModelConfig, Demand], list[Cell]]]:
        """Group cells by the models they need; groups whose replicas are counted and fit share a wave."""
        groups: dict[frozenset[ModelConfig], list[Cell]] = {}
        for cell in cells:
            groups.setdefault(frozenset(cell.models), []).append(cell)
        waves: list[tuple[dict[ModelConfig, Demand], list[Cell]]] = []
        for group in groups.values():
            models = dict.fromkeys(model for cell in group for model in cell.models)
            demands = {model: self._demand(model) for model in models}
            if waves:
                both = waves[-1][0] | demands
                if all(d.count is not None for d in both.values()) and connect.fits(list(both.values())):
                    waves[-1] = both, waves[-1][1] + group
                    continue
            waves.append((demands, group))
        return waves

    def _filled(self, demands: dict[ModelConfig, Demand]) -> dict[ModelConfig, Demand]:
        """Share what is left of the cluster among the models whose replicas are not counted, at least one each."""
        open_ended = sum(d.count is None for d in demands.values())
        counted = [d for d in demands.values() if d.count is not None]
        used = {
            "CPU": self._others["CPU"] + sum(d.cpus * (d.count or 0) for d in counted),
            "GPU": self._others["GPU"] + sum(d.gpus * (d.count or 0) for d in counted),
        }
        filled = {}
        for model, d in demands.items():
            count = d.count or max(1, connect.capacity(d.cpus, d.gpus, used) // open_ended)
            filled[model] = Demand(d.model, count, d.cpus, d.gpus)
        return filled

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
            param_space={
                "cell": tune.grid_search(list(range(len(wave)))),
            },
            tune_config=tune.TuneConfig(
                search_alg=source,
                reuse_actors=True,
                scheduler=_InTurn(),
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
                # With fewer to keep, Tune would save what it knows of all cells at every checkpoint of one.
                checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
                callbacks=[events, *tracker_callbacks(self.trackers, observer.message)],
            ),
        )
        handler = signal.getsignal(signal.SIGUSR1)
        watch = _Watch(pools, store, observer, self.should_stop)
        try:
            tuner.fit()
        finally:
            watch.stop()
            if threading.current_thread() is threading.main_thread():
                # Tune's own would be asked in vain from now on.
                signal.signal(signal.SIGUSR1, handler)
            if not self.trackers:
                shutil.rmtree(folder / name, ignore_errors=True)
        if self.should_stop():
            raise _interrupted(store)


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
        self._running: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)
        up = len(self._running) + self._starting
        self.source.max_concurrent = max(self.source.max_concurrent, min(self.most, up))
        self.observer.started(self.cells[trial.config["cell"]])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        cell = self.cells[trial.config["cell"]]
        if result.get("state") == "running":
            self.observer.progressed(cell, Progress(*(result.get(name) for name in Progress._fields)))  # type: ignore[arg-type]
        elif "state" in result:
            self.observer.ended(cell, result["state"], result.get("reason"))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.trial_id)
        # Statistics that Tune keeps of every metric, which nobody asks for: half of the driver's growth per cell.
        trial.run_metadata.metric_analysis = {}
        trial.run_metadata.metric_n_steps = {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.discard(trial.trial_id)
        # The process of a coordinator died too often; the cell itself can go on.
        self.observer.ended(self.cells[trial.config["cell"]], "stopped", "its coordinator died three times")


class _Watch:
    """Looks at the pools every second: for the screen, for the log of events, and for a pool that has stopped.

    It also passes on that somebody wants to stop, by Tune's own way out, as soon as Tune listens.
    """

    def __init__(
        self, pools: Sequence[Pool], store: GridStore, observer: GridObserver, should_stop: Callable[[], bool]
    ) -> None:
        self.pools, self.store, self.observer, self.should_stop = pools, store, observer, should_stop
        self._said = time.monotonic()
        self._stopped: set[Pool] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_POLL):
            # Until Tune runs, SIGUSR1 has no handler and would end the process.
            if self.should_stop() and callable(signal.getsignal(signal.SIGUSR1)):
                os.kill(os.getpid(), signal.SIGUSR1)
            self._look()

    def _look(self) -> None:
        stats = []
        tell = time.monotonic() - self._said >= _PATIENCE
        for pool in self.pools:
            # A broker that is gone shows in the trials, a full disk too; the watch only watches.
            with suppress(RayError, PoolError, StoreError):
                figures = pool.stats()
                stats.append(figures)
                self._note(pool, figures)
                if tell:
                    self._tell_what_is_missing(pool, figures)
        if tell:
            self._said = time.monotonic()
        self.observer.pools(stats)

    def _note(self, pool: Pool, figures: dict[str, Any]) -> None:
        """Write down what has happened since the last look."""
        name = pool.model.name
        for event in figures["events"]:
            kind = event.pop("event")
            self.observer.message(f"{name}: {kind}: {event.get('why') or event}")
            self.store.note(kind, model=name, **event)
        if figures["error"] is not None and pool not in self._stopped:
            self._stopped.add(pool)
            self.store.note("pool stopped", model=name, reason=figures["error"])

    def _tell_what_is_missing(self, pool: Pool, figures: dict[str, Any]) -> None:
        waited = [seconds for seconds in figures["starting_seconds"] if seconds >= _PATIENCE]
        if waited and figures["error"] is None:
            self.observer.message(
                f"waiting for {len(waited)} of {len(figures['slots'])} replicas of '{pool.model.name}' "
                f"({max(waited):.0f} s): loading, or {pool.demand.cpus:g} CPU and {pool.demand.gpus:g} GPU for each "
                "are in use by others"
            )

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
        if ray.is_initialized():
            self._look()

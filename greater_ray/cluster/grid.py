"""A grid on Ray: pools of replicas for the models, and coordinators whose cells call them.

Cells are run in waves of models whose replicas fit side by side; the pools of a wave load while its first cells start,
and each ends with the last cell that calls it. The driver keeps nothing that a second start of the same command would
miss.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from greater_ray.cluster import connect
from greater_ray.cluster.coordinator import Coordinator, Wiring
from greater_ray.cluster.crew import Crew
from greater_ray.cluster.metrics import MeteredObserver
from greater_ray.cluster.placement import Demand, arranged, first_short
from greater_ray.cluster.pool import Pool
from greater_ray.cluster.room import Room
from greater_ray.cluster.trackers import Tracked
from greater_ray.cluster.watch import Watch
from greater_ray.config import ModelConfig
from greater_ray.errors import Interrupted, PoolError
from greater_ray.grid.cells import Cell, model_titles
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import GridObserver
from greater_ray.grid.store import GridStore

_PER_REPLICA = 2  # cells in progress per replica, so that one that thinks never leaves a replica idle
_CELL = 16 * 2**20  # bytes of one cell, its share of a coordinator included; they all live on the driver's node


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
                    number += f" on {demand.gpus:g} GPUs each" if demand.gpus > 1 else ""
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
        return Demand(title, config.count, float(model.threads or 1), config.gpus_of(model, connect.has_gpus))

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
        wiring = Wiring(store.folder, tuple((pool.model, pool.executor) for pool in pools), str(Path.cwd()))
        replicas = sum(pool.demand.count or 1 for pool in pools)
        many = min(_PER_REPLICA * replicas, int(connect.node_memory() / _CELL))
        most = min(len(wave), self.concurrency or max(2, many))
        tracked = None
        if self.trackers:
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            observer = tracked = Tracked(observer, self.trackers, wave, store, store.folder / ".trackers" / name)
        crew = Crew(wave, most, observer, _launcher(wiring), ray.kill, store.note)
        room = Room(connect.session_folder())
        watch = Watch(pools, store, observer, crew, self.default.patience, room)
        try:
            crew.run(lambda: self.should_stop() or watch.error is not None)
        except PoolError as error:
            if (full := room.full()) is not None:
                raise full from error  # no process of Ray comes up without room for its log
            raise
        finally:
            watch.stop()
            if tracked is not None:
                tracked.close()
        if full := watch.error or (room.full() if crew.stopped else None):
            raise full
        if self.should_stop():
            raise _interrupted(store)


def _launcher(wiring: Wiring) -> Callable[[], Any]:
    """Return what launches a coordinator: on the driver's node, where results are written, and for no CPU there."""
    near = NodeAffinitySchedulingStrategy(connect.driver_node(), soft=False)
    # Whoever waits for news takes one of its threads.
    actor = ray.remote(Coordinator).options(num_cpus=0, max_concurrency=4, scheduling_strategy=near)
    shared = ray.put(wiring)
    return lambda: actor.remote(shared)


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


def _interrupted(store: GridStore) -> Interrupted:
    return Interrupted(f"stopped; everything finished is saved in '{store.folder}', the same command continues.")

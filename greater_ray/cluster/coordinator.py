"""A coordinator: a thin process without torch that runs many cells side by side, each in a thread of its own.

A cell waits for its model nearly all the time, and a process for it alone costs 160 MiB and two seconds of a core. What
a cell has found stands in its run folder; nothing here would be missed by another coordinator that goes on with it.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from greater_ray.assembly import Served, local_models
from greater_ray.cluster.pool import PoolExecutor
from greater_ray.config import ModelConfig
from greater_ray.errors import EndpointError, PoolError, StoreError
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import CellObserver, Progress, run_cell
from greater_ray.grid.store import GridStore
from greater_ray.models.endpoint import is_endpoint

_WAIT = 5.0  # seconds that somebody waits who asks for news


@dataclass(frozen=True)
class Wiring:
    """What every coordinator of a wave knows: where cells are written, the pools, and where paths begin."""

    out: Path
    pools: tuple[tuple[ModelConfig, PoolExecutor], ...]
    folder: str

    def serve(self, config: ModelConfig, caller: str) -> Served:
        """Return the pool of a model, once it has loaded; an endpoint is called from here.

        Raises:
            PoolError: there is no such pool, or it cannot load the model.
        """
        if is_endpoint(config.name):
            return local_models()(config)
        for model, executor in self.pools:
            if model == config:
                return executor.served(caller)
        raise PoolError(f"no pool serves '{config.name}'.", setting="model.name")


class News(NamedTuple):
    """How far a cell is; at its end also its ``state``, as ``GridObserver.ended`` has it, with the reason."""

    number: int
    progress: Progress
    state: str | None = None
    reason: str | None = None


def caller_of(number: int) -> str:
    """Return the name under which brokers know a cell."""
    return str(number)


class Coordinator:
    """Runs the cells that it is given and tells what comes of them."""

    def __init__(self, wiring: Wiring) -> None:
        if os.path.isdir(wiring.folder):
            os.chdir(wiring.folder)
        self.wiring = wiring
        self._news: list[News] = []
        self._told = threading.Condition()

    def up(self) -> int:
        """Return the process that this is."""
        return os.getpid()

    def begin(self, number: int, cell: Cell) -> None:
        """Run a cell from now on."""
        threading.Thread(target=self._run, args=(number, cell), name=cell.title, daemon=True).start()

    def news(self) -> list[News]:
        """Return what the cells have told since the last call, in order; some is waited for, but not for long."""
        with self._told:
            self._told.wait_for(lambda: self._news, timeout=_WAIT)
            news, self._news = self._news, []
        return news

    def _tell(self, news: News) -> None:
        with self._told:
            self._news.append(news)
            self._told.notify_all()

    def _run(self, number: int, cell: Cell) -> None:
        observer = CellObserver(cell, lambda progress: self._tell(News(number, progress)))
        try:
            store = GridStore(self.wiring.out)
            ended = run_cell(cell, store, lambda model: self.wiring.serve(model, caller_of(number)), observer)
            end: tuple[str, str | None] = ended.state, ended.reason
        except (EndpointError, PoolError, StoreError) as error:
            end = "stopped", str(error)
        except BaseException as error:  # noqa: BLE001 - a cell that ended in silence would be waited for without an end
            end = "stopped", f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        self._tell(News(number, observer.progress, *end))

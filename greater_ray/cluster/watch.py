"""What the driver looks at while a wave runs: its pools, its coordinators, and the room that Ray has."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from greater_ray.cluster.coordinator import caller_of
from greater_ray.cluster.crew import InProgress
from greater_ray.cluster.patience import AwakeClock, Stillness
from greater_ray.cluster.pool import Pool
from greater_ray.cluster.room import Room
from greater_ray.config import ModelConfig
from greater_ray.errors import DiskError, PoolError, StoreError
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import GridObserver
from greater_ray.grid.store import GridStore
from greater_ray.models.endpoint import is_endpoint

_POLL = 1.0  # seconds between two looks at the pools
_PATIENCE = 20.0  # seconds between two words about a model without a replica that is up
_RISING = 30.0  # least patience with processes that come up: on a busy machine that takes long, however quick the work
_LAST_LOOK = 30.0  # seconds that a look in progress is waited for at the end
_STEP = 10.0  # seconds between two readings of the clock, beyond which the driver itself is taken to have been asleep


class Wave(Protocol):
    """What the watch asks of the wave that runs, from a thread of its own."""

    def needed(self) -> set[ModelConfig]:
        """Return the models that cells which have not ended may still call."""
        ...

    def running(self) -> dict[int, InProgress]:
        """Return the cells in progress by their number."""
        ...

    def starting(self) -> list[Any]:
        """Return the coordinators whose processes have not come up yet."""
        ...


class Watch:
    """Looks at the pools every second: for the screen, for the log of events, and for a pool that has stopped.

    It also ends the pools of models that no cell needs any more: another pool of the wave may wait for their room.
    Coordinators and brokers that stand still or do not come up are told, and ended where that goes on; ``patience`` is
    as in ``Stillness``. Where Ray has had no ``room`` for its files for too long, ``error`` says so, and all is to end.
    """

    def __init__(
        self,
        pools: Iterable[Pool],
        store: GridStore,
        observer: GridObserver,
        wave: Wave,
        patience: float,
        room: Room,
    ) -> None:
        self.room = room
        self.error: DiskError | None = None
        self.pools, self.store, self.observer = list(pools), store, observer
        self.wave = wave
        self._said = time.monotonic()
        self._clock = AwakeClock(self._said, _STEP)
        self._brokers, self._coordinators = Stillness(patience), Stillness(patience)
        # What does not answer yet: who that is, and what ends it.
        self._rising: dict[Any, tuple[str, Callable[[], None]]] = {
            pool: (f"broker of '{pool.demand.model}'", pool.stop) for pool in self.pools
        }
        self._risen = Stillness(max(patience, _RISING))
        for pool in self.pools:
            self._risen.moved(pool, 0.0)
        self._news: dict[int, int] = {}
        self._figures: dict[Pool, dict[str, Any]] = {}
        self._stopped: set[Pool] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_POLL):
            self._look_at_room()
            self._look()

    def _awake(self) -> float:
        """Return the seconds so far in which this process was running; read after everything that waits."""
        return self._clock.look(time.monotonic())

    def _look_at_room(self) -> None:
        full, over = self.room.look(self._awake())
        if full is not None and self.error is None:
            self.observer.message(f"{'stopping' if over else 'WARNING'}: {full}")
            self.error = full if over else None

    def _look(self) -> None:
        # Asked first: what has happened to a pool that nobody needs any more is then in its last figures.
        needed = self.wave.needed()
        tell = time.monotonic() - self._said >= _PATIENCE
        silent: list[Pool] = []
        for pool in self.pools:
            try:
                figures = pool.stats()
            except (RayError, PoolError):
                # It shows in the trials; the watch only watches.
                self._figures.pop(pool, None)
                continue
            finally:
                self._awake()
            if figures is None:
                silent.append(pool)
                continue
            self._figures[pool] = figures
            with suppress(StoreError):
                self._note(pool, figures)
            if tell:
                self._tell_what_is_missing(pool, figures)
        if tell:
            self._said = time.monotonic()
        self.observer.pools([self._figures[pool] for pool in self.pools if pool in self._figures])
        now = self._awake()
        self._urge_rising(silent, now)
        self._urge_brokers(silent, now)
        self._urge_coordinators(silent, now)
        for pool in [pool for pool in self.pools if pool.model not in needed]:
            self.pools.remove(pool)
            self._figures.pop(pool, None)
            pool.stop()

    def _note(self, pool: Pool, figures: dict[str, Any]) -> None:
        """Write down what has happened since the last look."""
        name = pool.demand.model
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
                f"waiting for {len(waited)} of {len(figures['slots'])} replicas of '{pool.demand.model}' "
                f"({max(waited):.0f} s): loading, or {pool.demand.cpus:g} CPU and {pool.demand.gpus:g} GPU for each "
                "are in use by others"
            )

    # -- what stands still ---------------------------------------------------------------------------------------------

    def _urge_rising(self, silent: list[Pool], now: float) -> None:
        """Tell of brokers and coordinators whose processes do not come up, and end those for which that goes on.

        Ray may have lost them, as after a machine that slept: it would never say so. The cells of a broker stop with a
        reason, and another coordinator is launched.
        """
        members = self.wave.starting()
        for one in self._rising.keys() - {*silent, *members}:
            del self._rising[one]
            self._risen.gone(one)
        for member in members:
            if member not in self._rising:
                self._rising[member] = "a coordinator", partial(ray.kill, member.actor)
                self._risen.moved(member, now)
        told, over = self._risen.look(now)
        for one, (who, end) in self._rising.items():
            if one in told:
                self._tell("does not come up", who, f"no answer for {told[one]:.0f} s")
            elif one in over:
                self._tell("ended", who, f"it has not come up within {over[one]:.0f} s")
                end()

    def _urge_brokers(self, silent: list[Pool], now: float) -> None:
        """Tell of brokers that do not answer, and end those for which that goes on: their cells stop with a reason."""
        for pool in self.pools:
            if pool not in silent:
                self._brokers.moved(pool, now)
        told, over = self._brokers.look(now)
        for pool in self.pools:
            if pool in told:
                self._tell("broker stands still", pool.demand.model, f"no answer for {told[pool]:.0f} s")
            elif pool in over:
                self._tell("broker ended", pool.demand.model, f"no answer for {over[pool]:.0f} s")
                pool.stop()

    def _urge_coordinators(self, silent: list[Pool], now: float) -> None:
        """Tell of cells that neither report nor wait for anything, and end the process of one for which that goes on.

        They go on in another one where their run folders stand. One that calls an endpoint is not ended: how long it
        waits for that is the endpoint's own setting.
        """
        running = self.wave.running()
        for number in self._news.keys() - running.keys():
            del self._news[number]
            self._coordinators.gone(number)
        active = {caller for figures in self._figures.values() for caller in figures["active"]}
        # A model that loads is waited for, and a broker that stands still is to blame itself.
        busy = {pool.model for pool, figures in self._figures.items() if not figures["ready"]}
        busy |= {pool.model for pool in silent}
        for number, (cell, news, _) in running.items():
            if self._news.get(number) != news or caller_of(number) in active or busy.intersection(cell.models):
                self._news[number] = news
                self._coordinators.moved(number, now)
        told, over = self._coordinators.look(now)
        for number, known in running.items():
            if number in told:
                self._tell("coordinator stands still", known.cell.title, f"nothing was done for {told[number]:.0f} s")
            elif number in over and not _calls_an_endpoint(known.cell):
                self._tell("coordinator ended", known.cell.title, f"nothing was done for {over[number]:.0f} s")
                _end(known)

    def _tell(self, kind: str, who: str, why: str) -> None:
        self.observer.message(f"{who}: {kind}: {why}")
        with suppress(StoreError):
            self.store.note(kind, of=who, why=why)

    def stop(self) -> None:
        """Look a last time."""
        self._ended.set()
        self._thread.join(timeout=_LAST_LOOK)
        if ray.is_initialized():
            self._look()


def _end(cell: InProgress) -> None:
    """End the process of a cell."""
    # At once: Ray gives a process seconds, in which it would still hold the locks of its run folders.
    with suppress(ProcessLookupError):
        os.kill(cell.pid, signal.SIGKILL)


def _calls_an_endpoint(cell: Cell) -> bool:
    writer = cell.config.optimizer_model
    return any(is_endpoint(model.name) for model in (cell.config.model, writer) if model is not None)

"""The numbers of the screen as Ray metrics, for the dashboard and Prometheus (there with the prefix ``ray_``)."""

from collections.abc import Sequence
from typing import Any

from ray.util.metrics import Counter, Gauge

from greater_ray.grid.cells import Cell
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.status import GridStatus


class PoolMetrics:
    """Replicas, their busy share, the queue, and what was computed; reported by the broker of a pool."""

    def __init__(self, model: str) -> None:
        tags = {"tag_keys": ("model",)}
        self._gauges = {
            name: Gauge(f"greater_ray_{name}", description=text, **tags)
            for name, text in (
                ("replicas", "Replicas that have loaded their model"),
                ("busy", "Share of the replicas that compute, 0 to 1"),
                ("queue", "Calls that wait for a replica"),
                ("still", "Replicas that stand still"),
            )
        }
        self._counters = {
            name: Counter(f"greater_ray_{name}", description=text, **tags)
            for name, text in (
                ("calls_total", "Calls answered"),
                ("tokens_total", "Tokens processed, forward and backward"),
                ("replica_deaths_total", "Replicas that died"),
            )
        }
        for metric in (*self._gauges.values(), *self._counters.values()):
            metric.set_default_tags({"model": model})
        self._last = {"calls_total": 0, "tokens_total": 0, "replica_deaths_total": 0}

    def report(self, slots: list[Any], queue: int) -> None:
        """Report the state of the slots."""
        loaded = [slot for slot in slots if slot.state in ("idle", "busy")]
        busy = sum(slot.state == "busy" for slot in loaded)
        self._gauges["replicas"].set(len(loaded))
        self._gauges["busy"].set(busy / len(slots))
        self._gauges["queue"].set(queue)
        self._gauges["still"].set(sum(slot.still for slot in slots))
        now = {
            "calls_total": sum(slot.calls for slot in slots),
            "tokens_total": sum(slot.tokens for slot in slots),
            "replica_deaths_total": sum(slot.deaths for slot in slots),
        }
        for name, value in now.items():
            if value > self._last[name]:
                self._counters[name].inc(value - self._last[name])
        self._last = now


class MeteredObserver(GridObserver):
    """Passes on what it is told about the cells of a phase, and reports how many there are and the time left."""

    def __init__(self, observer: GridObserver, cells: Sequence[Cell]) -> None:
        self._observer, self._figures = observer, GridStatus()
        self._figures.planned("", cells, cells)
        self._cells = Gauge("greater_ray_cells", description="Cells of the running phase by state", tag_keys=("state",))
        self._left = Gauge("greater_ray_seconds_left", description="Estimate of what the running phase still takes")
        self._report()

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        """Pass it on."""
        self._observer.planned(phase, cells, open_cells)

    def started(self, cell: Cell) -> None:
        """A cell runs."""
        self._figures.started(cell)
        self._report()
        self._observer.started(cell)

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """A cell has come further."""
        self._figures.progressed(cell, progress)
        self._report()
        self._observer.progressed(cell, progress)

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A cell has ended."""
        self._figures.finished(cell, state)
        self._report()
        self._observer.ended(cell, state, reason)

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """Pass it on: brokers report for themselves."""
        self._observer.pools(stats)

    def message(self, text: str) -> None:
        """Pass it on."""
        self._observer.message(text)

    def _report(self) -> None:
        figures = self._figures.snapshot()
        cells = figures["cells"]
        states = {state: cells[state] for state in ("running", "done", "failed", "stopped")}
        for state, number in (states | {"waiting": cells["total"] - sum(states.values())}).items():
            self._cells.set(number, tags={"state": state})
        if figures["seconds_left"] is not None:
            self._left.set(figures["seconds_left"])

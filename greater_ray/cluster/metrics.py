"""The numbers of the screen as Ray metrics, for the dashboard and Prometheus (there with the prefix ``ray_``)."""

from typing import Any

from ray.util.metrics import Counter, Gauge


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
        now = {
            "calls_total": sum(slot.calls for slot in slots),
            "tokens_total": sum(slot.tokens for slot in slots),
            "replica_deaths_total": sum(slot.deaths for slot in slots),
        }
        for name, value in now.items():
            if value > self._last[name]:
                self._counters[name].inc(value - self._last[name])
        self._last = now


class CellGauges:
    """Cells running, done and failed; reported by the driver."""

    def __init__(self, total: int) -> None:
        self._gauge = Gauge("greater_ray_cells", description="Cells of the running wave by state", tag_keys=("state",))
        self._states: dict[str, str] = {}
        self._total = total
        self._report()

    def started(self, trial: str) -> None:
        """A cell runs."""
        self._set(trial, "running")

    def ended(self, trial: str, state: str) -> None:
        """A cell has ended."""
        self._set(trial, state)

    def _set(self, trial: str, state: str) -> None:
        self._states[trial] = state
        self._report()

    def _report(self) -> None:
        states = list(self._states.values())
        for state in ("running", "done", "failed", "stopped"):
            self._gauge.set(states.count(state), tags={"state": state})
        self._gauge.set(self._total - len(states), tags={"state": "waiting"})

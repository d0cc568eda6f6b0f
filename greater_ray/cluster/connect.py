"""Joining or starting Ray, and saying beforehand what is missing there.

Without ``RAY_ADDRESS`` or ``--address`` a private Ray is started: two users of one machine never meet. Nothing
detached is created, so everything ends with the driver.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from greater_ray.errors import ConfigError, PoolError

# Seconds between two looks at a cluster that is growing.
_LOOK = 5.0
_OBJECT_STORE = 200 * 2**20  # bytes; what passes through is small, and the default takes a third of the memory


@dataclass(frozen=True)
class Demand:
    """What ``count`` replicas of a model need: ``cpus`` and ``gpus`` each; ``count`` None means as many as fit."""

    model: str
    count: int | None
    cpus: float
    gpus: float

    def sentence(self) -> str:
        """Say what is needed."""
        each = f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        number = self.count or 1
        return f"{number} replica{'s' if number > 1 else ''} of '{self.model}' with {each} each"


@contextmanager
def connected(address: str | None = None, *, dashboard: bool = False, num_cpus: int | None = None) -> Iterator[None]:
    """Join the Ray at ``address`` (or ``RAY_ADDRESS``), or start one of our own and end it afterwards.

    ``dashboard`` and ``num_cpus`` (None: the machine's) are for one of our own.

    Raises:
        PoolError: there is no Ray at the address.
    """
    # The driver computes nothing, and actors without a GPU must not see one.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tune's own tables and loggers: the screen and the store are ours. Its newer output ignores verbose=0.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if target == "local":
        own = {"include_dashboard": dashboard, "object_store_memory": _OBJECT_STORE, "num_cpus": num_cpus}
    try:
        ray.init(
            address=target,
            namespace=f"greater-ray-{uuid.uuid4().hex[:12]}",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **own,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise PoolError(f"--address: no Ray at '{target}': {reason}.") from error
    try:
        yield
    finally:
        ray.shutdown()


def driver_node() -> str:
    """Return the id of the node that the driver runs on."""
    return str(ray.get_runtime_context().get_node_id())


def _driver_resources() -> dict[str, float]:
    resources: dict[str, float] = next(n for n in ray.nodes() if n["NodeID"] == driver_node())["Resources"]
    return resources


def node_resource() -> str:
    """Return the resource that only the driver's node has; it ties coordinators to the driver's disk."""
    return next(str(name) for name in _driver_resources() if name.startswith("node:") and "internal_head" not in name)


def node_memory() -> float:
    """Return the bytes that Ray allows for processes on the driver's node."""
    return _driver_resources().get("memory", 0.0)


def has_gpus() -> bool:
    """Tell whether the cluster has GPUs now."""
    return bool(ray.cluster_resources().get("GPU"))


def capacity(cpus: float, gpus: float, used: Mapping[str, float] | None = None) -> int:
    """Return how many replicas of this size fit into the nodes that are alive, beside what is used."""
    fits = 0
    for node in ray.nodes():
        if node["Alive"]:
            have = node["Resources"]
            parts = [have.get(name, 0) / need for name, need in (("CPU", cpus), ("GPU", gpus)) if need]
            fits += int(min(parts) + 1e-6) if parts else 0
    total = ray.cluster_resources()
    for name, need in (("CPU", cpus), ("GPU", gpus)):
        if need:
            fits = min(fits, int((total.get(name, 0.0) - (used or {}).get(name, 0.0)) / need + 1e-6))
    return max(0, fits)


def in_use() -> dict[str, float]:
    """Return what others use of the cluster now."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: total.get(name, 0.0) - free.get(name, 0.0) for name in ("CPU", "GPU")}


def fits(demands: list[Demand]) -> bool:
    """Tell whether all demands fit side by side."""
    return _short(demands) is None


def require(demands: list[Demand], wait: float, tell: Callable[[str], None]) -> None:
    """Make sure that replicas fit before anything starts; wait for an autoscaler up to ``wait`` seconds, aloud.

    Raises:
        ConfigError: they do not fit; the sentence names what is needed and what is there.
    """
    if wait > 0 and _short(demands) is not None:
        _wait(demands, wait, tell)
    short = _short(demands)
    if short is not None:
        raise ConfigError(
            f"--replicas: {short.sentence()} do not fit: {_there()} on {len(ray.nodes())} node"
            f"{'s' if len(ray.nodes()) > 1 else ''}; ask for fewer, or use --wait SECONDS where nodes are added."
        )


def _there() -> str:
    there = ray.cluster_resources()
    return f"the cluster has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"


def _wait(demands: list[Demand], wait: float, tell: Callable[[str], None]) -> None:
    """Ask the autoscaler for nodes and wait until they are there, telling every half minute what for."""
    begin = told = time.monotonic()
    try:
        while (short := _short(demands)) is not None and time.monotonic() - begin < wait:
            now = time.monotonic()
            if told == begin or now - told >= 30:
                told = now
                tell(f"waiting for {short.sentence()}: {_there()} ({now - begin:.0f} s of {wait:.0f})")
            _ask_autoscaler(demands)
            time.sleep(min(_LOOK, wait))
    finally:
        # A request outlives its driver and would keep idle nodes alive.
        _ask_autoscaler([])


def _short(demands: list[Demand]) -> Demand | None:
    """Return the first demand that does not fit; those before it are counted against the total first."""
    total = ray.cluster_resources()
    used = {"CPU": 0.0, "GPU": 0.0}
    for demand in demands:
        number = demand.count or 1
        used["CPU"] += number * demand.cpus
        used["GPU"] += number * demand.gpus
        over = any(used[name] > total.get(name, 0) + 1e-6 for name in used if used[name])
        if over or capacity(demand.cpus, demand.gpus) < number:
            return demand
    return None


def _ask_autoscaler(demands: list[Demand]) -> None:
    """Ask for nodes; a cluster without an autoscaler ignores it."""
    from ray.autoscaler.sdk import request_resources

    bundles = [{"CPU": d.cpus, **({"GPU": d.gpus} if d.gpus else {})} for d in demands for _ in range(d.count or 1)]
    request_resources(bundles=bundles)

"""Joining or starting Ray, and saying beforehand what is missing there.

Without ``RAY_ADDRESS`` or ``--address`` a private Ray is started: two users of one machine never meet. Only on the head
of a cluster that ``ray up`` has started is that cluster joined. Nothing detached is created, so everything ends with
the driver.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from greater_ray.errors import ConfigError, PoolError

# Seconds between two looks at a cluster that is growing, and at whether to stop.
_LOOK = 1.0
_TINY = 1e-6  # what sums of fractions may be wrong by
# `ray up` leaves this file on the head, in the home of the user that Ray runs as, and on no other machine.
_LAUNCHED = "~/ray_bootstrap_config.yaml"
_MANY = 10**9  # replicas that need nothing of a kind
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


def address_to_join(address: str | None) -> str:
    """Return where to find Ray: ``address``, else ``RAY_ADDRESS``, else the cluster that this machine is the head of.

    ``local`` means a private Ray.
    """
    given = address or os.environ.get("RAY_ADDRESS")
    return given or ("auto" if Path(_LAUNCHED).expanduser().exists() else "local")


@contextmanager
def connected(address: str | None = None, *, dashboard: bool = False, num_cpus: int | None = None) -> Iterator[None]:
    """Join the Ray of ``address_to_join``, or start one of our own and end it afterwards.

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
    target = address_to_join(address)
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
        found = address or os.environ.get("RAY_ADDRESS")
        why = "" if found else f" (`ray up` left {_LAUNCHED} here; --address local starts a Ray of its own)"
        raise PoolError(f"--address: no Ray at '{target}'{why}: {reason}.") from error
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
    return room(_nodes(), cpus, gpus, used or {})


def room(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float, used: Mapping[str, float]) -> int:
    """Return how many replicas of this size fit into nodes with these resources, beside what is used in all."""
    free_cpus = sum(node.get("CPU", 0.0) for node in nodes) - used.get("CPU", 0.0)
    free_gpus = sum(node.get("GPU", 0.0) for node in nodes) - used.get("GPU", 0.0)
    each = [min(_by_cpus(node.get("CPU", 0.0), cpus), _by_gpus(node.get("GPU", 0.0), gpus)) for node in nodes]
    return max(0, min(sum(each), _by_cpus(free_cpus, cpus), _by_gpus(free_gpus, gpus)))


def _by_cpus(have: float, need: float) -> int:
    return int(have / need + _TINY) if need else _MANY


def _by_gpus(have: float, need: float) -> int:
    """Return for how many these GPUs are enough; a part of a GPU never spans two of them."""
    if not need:
        return _MANY
    if need >= 1:
        return int(have / need + _TINY)
    whole, rest = divmod(have + _TINY, 1)
    return int(whole) * int(1 / need + _TINY) + int(rest / need + _TINY)


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def in_use() -> dict[str, float]:
    """Return what others use of the cluster now."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: total.get(name, 0.0) - free.get(name, 0.0) for name in ("CPU", "GPU")}


def fits(demands: list[Demand]) -> bool:
    """Tell whether all demands fit side by side."""
    return first_short(demands, _nodes()) is None


def check_wait(demands: Sequence[Demand], wait: float) -> None:
    """Make sure that what to wait for is known.

    Raises:
        ConfigError: a number of replicas is open, so that one would be as good as all.
    """
    open_ended = [d.model for d in demands if d.count is None]
    if wait > 0 and open_ended:
        raise ConfigError(
            f"--wait: how many replicas of '{open_ended[0]}' to wait for is not known; give --replicas N, "
            "or replicas.count in the grid."
        )


def require(
    demands: list[Demand], wait: float, tell: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> None:
    """Make sure that replicas fit before anything starts; wait for an autoscaler up to ``wait`` seconds, aloud.

    ``check`` is called every second while waiting; what it raises ends the waiting.

    Raises:
        ConfigError: they do not fit; the sentence names what is needed and what is there.
    """
    short = first_short(demands, _nodes())
    if wait > 0 and short is not None:
        short = _wait(demands, wait, tell, check)
    if short is not None:
        nodes = len(_nodes())
        raise ConfigError(
            f"--replicas: {short.sentence()} do not fit: {_there()} on {nodes} node{'s' if nodes != 1 else ''}; "
            "ask for fewer, or use --replicas N with --wait SECONDS where nodes are added."
        )


def _there() -> str:
    there = ray.cluster_resources()
    return f"the cluster has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"


def _wait(demands: list[Demand], wait: float, tell: Callable[[str], None], check: Callable[[], None]) -> Demand | None:
    """Ask the autoscaler for nodes and wait until they are there; return the first demand that still does not fit.

    Every half minute it tells what for.
    """
    begin = told = time.monotonic()
    try:
        while (short := first_short(demands, _nodes())) is not None and time.monotonic() - begin < wait:
            check()
            now = time.monotonic()
            if told == begin or now - told >= 30:
                told = now
                tell(f"waiting for {short.sentence()}: {_there()} ({now - begin:.0f} s of {wait:.0f})")
            _ask_autoscaler(demands)
            time.sleep(max(0.0, min(_LOOK, wait - (now - begin))))
        return short
    finally:
        # A request outlives its driver and would keep idle nodes alive.
        _ask_autoscaler([])


def first_short(demands: Sequence[Demand], nodes: Sequence[Mapping[str, float]]) -> Demand | None:
    """Put all replicas side by side on nodes with these resources; return the first demand that does not fit."""
    # Free CPUs and, of every GPU, the free part.
    free = [(node.get("CPU", 0.0), [1.0] * int(node.get("GPU", 0.0))) for node in nodes]
    # Large ones first: small ones fit into what those leave.
    for demand in sorted(demands, key=lambda d: (d.gpus, d.cpus), reverse=True):
        for _ in range(demand.count or 1):
            for number, (cpus, gpus) in enumerate(free):
                left = _without(gpus, demand.gpus)
                if cpus + _TINY >= demand.cpus and left is not None:
                    free[number] = cpus - demand.cpus, left
                    break
            else:
                return demand
    return None


def _without(gpus: list[float], need: float) -> list[float] | None:
    """Return the free parts of GPUs once one replica more is there; None if it does not fit."""
    # Those that are used the most come first, so that whole ones stay whole.
    rest = sorted(gpus)
    for _ in range(max(1, round(need)) if need else 0):
        share = min(need, 1.0)
        place = next((n for n, part in enumerate(rest) if part + _TINY >= share), None)
        if place is None:
            return None
        rest[place] -= share
    return rest


def _ask_autoscaler(demands: list[Demand]) -> None:
    """Ask for nodes; a cluster without an autoscaler ignores it."""
    from ray.autoscaler.sdk import request_resources

    bundles = [{"CPU": d.cpus, **({"GPU": d.gpus} if d.gpus else {})} for d in demands for _ in range(d.count or 1)]
    request_resources(bundles=bundles)

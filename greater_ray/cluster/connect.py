"""Joining or starting Ray, and saying beforehand what is missing there.

Without ``RAY_ADDRESS`` or ``--address`` a private Ray is started: two users of one machine never meet, and it is on
loopback with a token of its own (``private``). Only on the head of a cluster that ``ray up`` has started is that
cluster joined. Nothing detached is created, so everything ends with the driver.
"""

import atexit
import inspect
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import parameter

# Ray gives what is free on every node nowhere else; its sum over nodes does not tell what fits.
from ray._private.state import available_resources_per_node
from ray._private.worker import global_worker

from greater_ray.cluster.placement import Demand, first_short
from greater_ray.cluster.private import openness, private, require_loopback, room
from greater_ray.cluster.room import Room
from greater_ray.errors import ConfigError, PoolError

_CONNECT = 20.0  # seconds that a machine may take to answer at all
_LEAVING = 30.0  # seconds that Ray may take to end
_LOOKS = 5  # for processes that a Ray of our own has left behind
_MARKS = ("ray::", "/ray/")  # of their commands
_STARTS = 3  # times that a Ray of our own is started: on a busy machine its node gives up waiting for its own parts
# Seconds between two looks at a cluster that is growing, and at whether to stop.
_LOOK = 1.0
# `ray up` leaves this file on the head, in the home of the user that Ray runs as, and on no other machine.
_LAUNCHED = "~/ray_bootstrap_config.yaml"
_OBJECT_STORE = 200 * 2**20  # bytes; what passes through is small, and the default takes a third of the memory


def address_to_join(address: str | None) -> str:
    """Return where to find Ray: ``address``, else ``RAY_ADDRESS``, else the cluster that this machine is the head of.

    ``local`` means a private Ray.
    """
    given = address or os.environ.get("RAY_ADDRESS")
    return given or ("auto" if Path(_LAUNCHED).expanduser().exists() else "local")


@contextmanager
def connected(
    address: str | None = None,
    *,
    dashboard: bool = False,
    num_cpus: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Join the Ray of ``address_to_join``, or start one of our own and end it afterwards.

    ``dashboard`` and ``num_cpus`` (None: the machine's) are for one of our own. ``tell`` gets sentences for the user:
    that a cluster lets anybody in, and where the dashboard and its token are.

    Raises:
        PoolError: there is no Ray at the address.
    """
    # The driver computes nothing, and actors without a GPU must not see one.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    target = address_to_join(address)
    with ExitStack() as ended:
        own: dict[str, Any] = {}
        sessions: Path | None = None
        if target == "local":
            token, sessions = ended.enter_context(private())
            own = {"include_dashboard": dashboard, "object_store_memory": _OBJECT_STORE, "num_cpus": num_cpus}
            own["_temp_dir"] = str(sessions)
        ended.callback(_leave, tell, sessions)  # also what a start that failed has left
        with room() if own else nullcontext(), few_processes() if own else nullcontext():
            context = _own(own, tell) if own else _init(target, address, own)
        if target == "local":
            require_loopback()
            if dashboard:
                tell(f"Ray's dashboard: http://{context.dashboard_url}; the token that it asks for is in {token}")
        elif warning := openness():
            tell(f"WARNING: {warning}")
        yield


def _leave(tell: Callable[[str], None], sessions: Path | None) -> None:
    """End a Ray of our own, or leave one that was joined; parts of it that do not answer are not waited for.

    Ray waits for them without a limit: for a node or a GCS that is stopped, or cut off. ``sessions`` is the folder of
    our own.
    """
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LEAVING)
    if leaving.is_alive():
        what = "its processes are killed" if sessions else "it is left as it is"
        tell(f"Ray has not ended within {_LEAVING:.0f} s; {what}")
    if sessions:
        _kill_left_ones(sessions)
        leaving.join(_LEAVING)
    if leaving.is_alive():
        atexit.unregister(ray.shutdown)  # it would wait behind this one when the command ends


def _kill_left_ones(sessions: Path) -> None:
    """Kill what a Ray of our own has started and left behind: agents whose node was killed, or did not come up.

    They have no parent any more, and no place of their own in command or environment, but they write to logs there.
    """

    def belongs(process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            is_ray = any(mark in " ".join(process.cmdline()) for mark in _MARKS)
            return is_ray and any(Path(file.path).is_relative_to(sessions) for file in process.open_files())
        return False

    sessions = sessions.resolve()
    for _ in range(_LOOKS):
        left = [process for process in psutil.process_iter() if process.pid != os.getpid() and belongs(process)]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not left:
            return
        psutil.wait_procs(left, _LOOK)  # one may have been starting another


# What a Ray that is one machine has no use for. One process reads the logs of all others, ten times a second, for a
# driver that asks for none (log_to_driver=False); the other would add nodes.
_WITHOUT = {"include_log_monitor": False, "no_monitor": True}


@contextmanager
def few_processes() -> Iterator[None]:
    """Let a Ray that is started inside leave out processes that nobody would hear from.

    ``ray.init`` has no option for them. A Ray that does not know them starts as it always does.
    """
    whole = parameter.RayParams
    if not _WITHOUT.keys() <= inspect.signature(whole).parameters.keys():
        yield
        return
    parameter.RayParams = partial(whole, **_WITHOUT)
    try:
        yield
    finally:
        parameter.RayParams = whole


def _listens(target: str) -> None:
    """Try whether anything listens at ``HOST:PORT``: Ray itself tries for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = target.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()


def _own(own: dict[str, Any], tell: Callable[[str], None]) -> Any:
    """Start a Ray of our own, again where it did not come up in time."""
    for _ in range(_STARTS - 1):
        try:
            return _init("local", None, own)
        except PoolError as error:
            if "timed out" not in str(error):
                raise
            tell("Ray did not come up in time, as on a busy machine; it is started again")
            ray.shutdown()  # what it has left
    return _init("local", None, own)


def _init(target: str, address: str | None, own: dict[str, Any]) -> Any:
    try:
        _listens(target)
        return ray.init(
            address=target,
            namespace=f"greater-ray-{uuid.uuid4().hex[:12]}",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **own,
        )
    except Exception as error:
        # Ray has no error of its own for a start that fails; files that cannot be written are told by ``room``.
        if own and isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise
        if own and (full := Room(Path(own["_temp_dir"]).parent).full()) is not None:
            # A process of Ray that cannot write its log ends, or waits, without a word.
            raise full from error
        if not own and not isinstance(error, (OSError, OverflowError, ValueError, RuntimeError)):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if own:
            why = f"a Ray of our own could not be started: {reason}; §replicas.count 0 needs none."
            raise PoolError(why, setting="address") from error
        found = address or os.environ.get("RAY_ADDRESS")
        why = "" if found else f" (`ray up` left {_LAUNCHED} here; §address local starts a Ray of its own)"
        raise PoolError(f"no Ray at '{target}'{why}: {reason}.", setting="address") from error


def driver_node() -> str:
    """Return the id of the node that the driver runs on."""
    return str(ray.get_runtime_context().get_node_id())


def session_folder() -> Path:
    """Return the folder of Ray's logs and sockets on the driver's node."""
    return Path(global_worker.node.get_session_dir_path())


def _driver_resources() -> dict[str, float]:
    resources: dict[str, float] = next(n for n in ray.nodes() if n["NodeID"] == driver_node())["Resources"]
    return resources


def node_memory() -> float:
    """Return the bytes that Ray allows for processes on the driver's node."""
    return _driver_resources().get("memory", 0.0)


def has_gpus() -> bool:
    """Tell whether the cluster has GPUs now."""
    return bool(ray.cluster_resources().get("GPU"))


def in_use() -> dict[str, dict[str, float]]:
    """Return what others use of every node now, by its id."""
    free = available_resources_per_node()
    return {
        node: {kind: there.get(kind, 0.0) - free.get(node, there).get(kind, 0.0) for kind in ("CPU", "GPU")}
        for node, there in _nodes().items()
    }


def beside(others: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return what every node that is alive has beside what others use of it, by its id."""
    return {
        node: {kind: there.get(kind, 0.0) - others.get(node, {}).get(kind, 0.0) for kind in ("CPU", "GPU")}
        for node, there in _nodes().items()
    }


def _nodes() -> dict[str, Mapping[str, float]]:
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def check_wait(demands: Sequence[Demand], wait: float) -> None:
    """Make sure that what to wait for is known.

    Raises:
        ConfigError: a number of replicas is open, so that one would be as good as all.
    """
    open_ended = [d.model for d in demands if d.count is None]
    if wait > 0 and open_ended:
        raise ConfigError(
            f"how many replicas of '{open_ended[0]}' to wait for is not known; give §replicas.count, "
            "here or for that model in the grid.",
            setting="wait",
        )


def require(
    demands: list[Demand], wait: float, tell: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> None:
    """Make sure that replicas fit before anything starts; wait for an autoscaler up to ``wait`` seconds, aloud.

    ``check`` is called every second while waiting; what it raises ends the waiting.

    Raises:
        ConfigError: they do not fit; the sentence names what is needed and what is there.
    """
    short = first_short(demands, [*_nodes().values()])
    if wait > 0 and short is not None:
        short = _wait(demands, wait, tell, check)
    if short is not None:
        nodes = len(_nodes())
        raise ConfigError(
            f"{short.sentence()} do not fit: {_there()} on {nodes} node{'s' if nodes != 1 else ''}; "
            "ask for fewer, or set §replicas.count and §wait where nodes are added.",
            setting="replicas.count",
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
        while (short := first_short(demands, [*_nodes().values()])) is not None and time.monotonic() - begin < wait:
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


def _ask_autoscaler(demands: list[Demand]) -> None:
    """Ask for nodes; a cluster without an autoscaler ignores it."""
    from ray.autoscaler.sdk import request_resources

    bundles = [{"CPU": d.cpus, **({"GPU": d.gpus} if d.gpus else {})} for d in demands for _ in range(d.count or 1)]
    request_resources(bundles=bundles)

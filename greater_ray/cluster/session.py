"""The place where a grid runs on Ray: what the command and the call from Python do alike before the first cell."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from greater_ray.cluster.connect import address_to_join, connected
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.trackers import check_trackers
from greater_ray.grid.cells import replica_configs
from greater_ray.grid.config import GridConfig
from greater_ray.progress.stop import Stop


@contextmanager
def on_ray(
    grid: GridConfig,
    stop: Stop,
    message: Callable[[str], None],
    *,
    address: str | None = None,
    wait: float = 0.0,
    trackers: Sequence[str] = (),
    dashboard: bool = False,
) -> Iterator[RayBackend]:
    """Join Ray, or start one of our own, and return the backend of a grid there; ``stop`` ends it politely.

    Raises:
        ConfigError: a tracker is unknown or not installed.
        PoolError: there is no Ray at the address.
    """
    checked = check_trackers(trackers)
    found = address_to_join(address)
    message("starting a Ray of our own" if found == "local" else f"joining Ray at {found}")
    with connected(address, dashboard=dashboard, tell=message):
        # Ray has put its own handler for SIGTERM in place, which prints a stack and aborts.
        stop.install()
        yield RayBackend(
            default=grid.replicas,
            replicas=replica_configs(grid),
            concurrency=grid.concurrency,
            wait=wait,
            trackers=checked,
            should_stop=stop.should_stop,
        )

"""Where Ray is looked for, and how waiting for nodes ends."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greater_ray.cluster import connect
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.placement import Demand
from greater_ray.errors import ConfigError, Interrupted, PoolError
from greater_ray.grid.config import ReplicaConfig, load_grid
from greater_ray.grid.run import GridObserver, run_grid
from tests.grids import tiny_grid

# -- a start that is too slow ------------------------------------------------------------------------------------------


def test_a_ray_that_does_not_come_up_in_time_is_started_again_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    starts: list[str] = []

    def init(**options):
        starts.append(options["address"])
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(connect.ray, "init", init)
    monkeypatch.setattr(connect.ray, "shutdown", lambda: None)  # other tests have a Ray in this process
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    told: list[str] = []
    slow = pytest.raises(PoolError, match="could not be started: The current node timed out")
    with slow, connect.connected("local", tell=told.append):
        pass
    assert starts == ["local"] * 3
    assert told == ["Ray did not come up in time, as on a busy machine; it is started again"] * 2
    assert [*tmp_path.iterdir()] == []


# -- where -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def test_a_laptop_starts_a_ray_of_its_own(home: Path):
    assert connect.address_to_join(None) == "local"


def test_the_head_of_a_launched_cluster_joins_that_cluster(home: Path):
    (home / "ray_bootstrap_config.yaml").touch()
    assert connect.address_to_join(None) == "auto"


def test_an_address_that_is_given_wins(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "ray_bootstrap_config.yaml").touch()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert connect.address_to_join(None) == "10.0.0.1:6379"
    assert connect.address_to_join("local") == "local"


def test_an_address_at_which_nothing_listens_is_told_at_once():
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PoolError, match=f"no Ray at '127.0.0.1:{port}'"), connect.connected(f"127.0.0.1:{port}"):
        pass
    assert time.monotonic() - begun < 5


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_waiting_for_an_open_number_is_refused():
    counted, open_ended = Demand("a", 2, 1, 0), Demand("b", None, 1, 0)
    connect.check_wait([counted], 9)
    connect.check_wait([counted, open_ended], 0)
    with pytest.raises(ConfigError, match=r"^wait: how many replicas of 'b' .* give replicas.count, "):
        connect.check_wait([counted, open_ended], 9)


@pytest.fixture(scope="module")
def one_cpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        with connect.connected("local", num_cpus=1):
            yield


def requested() -> bytes:
    """Return what the autoscaler was asked for last."""
    from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
    from ray.experimental.internal_kv import _internal_kv_get

    return _internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or b""


def after(looks: int, seen: list[bytes]) -> Callable[[], bool]:
    """Return what asks to stop at a look, and notes what the autoscaler was asked for until then."""

    def should_stop() -> bool:
        seen.append(requested())
        return len(seen) > looks

    return should_stop


def test_waiting_ends_when_the_grid_is_to_stop_and_takes_its_request_back(one_cpu: None, tmp_path: Path):
    told, seen = [], []

    class Told(GridObserver):
        def message(self, text: str) -> None:
            told.append(text)

    backend = RayBackend(default=ReplicaConfig(count=3, gpus=1), wait=600, should_stop=after(1, seen))
    with pytest.raises(Interrupted, match="the same command continues"):
        run_grid(load_grid(tiny_grid("m")), tmp_path / "out", backend, observer=Told())
    assert seen[-1].count(b"GPU") == 3
    assert requested() in (b"", b"[]")
    (line,) = [line for line in told if line.startswith("waiting")]
    assert line.startswith("waiting for 3 replicas of 'm' with 1 CPU and 1 GPU each: the cluster has 1 CPU and 0 GPU")


def test_a_grid_that_is_to_wait_for_an_open_number_does_not_start(one_cpu: None, tmp_path: Path):
    with pytest.raises(ConfigError, match="wait: how many replicas of 'm'"):
        run_grid(load_grid(tiny_grid("m")), tmp_path / "out", RayBackend(wait=600))


def test_what_does_not_fit_after_the_time_is_an_error(one_cpu: None):
    with pytest.raises(
        ConfigError, match=r"^replicas\.count: 2 replicas of 'm' with 1 CPU each do not fit: .* on 1 node"
    ):
        connect.require([Demand("m", 2, 1, 0)], 0.1, lambda text: None)
    assert requested() in (b"", b"[]")

"""Nodes with a GPU each, as far as Ray knows: models share them, with each other and with strangers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from greater_ray.cluster.connect import connected, in_use
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.pool import Pool
from greater_ray.cluster.private import read_settings
from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import run_grid

TWO = ["benchmarks.simulated:quick", "benchmarks.simulated:instant"]
LONGEST = 30.0  # seconds after which a grid that waits for ever is stopped


@pytest.fixture(scope="module")
def joined() -> Iterator[tuple[Any, list[str]]]:
    """A cluster of two nodes, which asks for no token; gives it with what was told when it was joined."""
    from ray.cluster_utils import Cluster

    told: list[str] = []
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        # The folder's own Ray, which may still be there, has put a token into the environment.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        read_settings()
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 1})
        try:
            cluster.add_node(num_cpus=3, num_gpus=1)
            cluster.wait_for_nodes()
            with connected(cluster.address, tell=told.append):
                yield cluster, told
        finally:
            cluster.shutdown()
    read_settings()


@pytest.fixture(scope="module")
def two_gpus(joined: tuple[Any, list[str]]) -> list[str]:
    """The cluster; gives what was told."""
    return joined[1]


@contextmanager
def stranger() -> Iterator[None]:
    """Somebody else uses a GPU."""

    class Stranger:
        def up(self) -> bool:
            return True

    actor = ray.remote(Stranger).options(num_gpus=1).remote()
    assert ray.get(actor.up.remote())
    try:
        wait_for(lambda: sum(used["GPU"] for used in in_use().values()) == 1)
        yield
    finally:
        ray.kill(actor)
        wait_for(lambda: not any(used["GPU"] for used in in_use().values()))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def backend(**settings: Any) -> RayBackend:
    end = time.monotonic() + LONGEST
    return RayBackend(should_stop=lambda: time.monotonic() > end, **settings)


def test_a_cluster_that_lets_anybody_in_is_named(two_gpus: list[str]):
    (warning,) = two_gpus
    address = ray.get_runtime_context().gcs_address
    assert warning.startswith(
        f"WARNING: the Ray cluster at {address} asks nobody for a token: whoever reaches its ports"
    )
    assert warning.endswith("start it with RAY_AUTH_MODE=token")


def test_models_do_not_share_a_wave_where_others_hold_the_room(two_gpus: None, small_grid: Callable):
    cells, each = expand_grid(small_grid(models=TWO)), ReplicaConfig(count=1, gpus=1)
    assert len(backend(default=each)._waves(cells)) == 1
    with stranger():
        assert len(backend(default=each)._waves(cells)) == 2


def test_a_pool_that_no_cell_needs_makes_room_for_the_next(two_gpus: None, small_grid: Callable, tmp_path: Path):
    grid = small_grid(methods=["zero-shot-cot"], models=TWO)
    before = backend(default=ReplicaConfig(count=1, gpus=1))
    with stranger():
        assert len(before._waves(expand_grid(grid))) == 1, "the stranger came too late to be known"
        assert run_grid(grid, tmp_path, before).complete


def test_small_replicas_that_come_first_leave_a_gpu_to_a_large_one(two_gpus: None):
    small, large = (ModelConfig(name=name) for name in TWO)
    demands = {small: Demand("small", 2, 1, 0.5), large: Demand("large", 1, 1, 1)}
    pools: list[Pool] = []
    try:
        for model, demand, nodes in backend()._filled(demands):
            pools.append(Pool.launch(model, demand, ReplicaConfig(), nodes))
            wait_for(lambda: {slot["state"] for slot in pools[-1].stats()["slots"]} == {"idle"})
            assert pools[-1].stats()["model"] == demand.model, "the name that no other pool has"
    finally:
        for pool in pools:
            pool.stop()


def test_gpus_of_two_machines_are_no_two_gpus_of_one(two_gpus: None, small_grid: Callable, tmp_path: Path):
    why = r"^replicas\.count: 1 replica of .* with 1 CPU and 2 GPU of one machine each do not fit: .* 2 GPU on 2 nodes"
    with pytest.raises(ConfigError, match=why):
        run_grid(small_grid(models=TWO[:1]), tmp_path, backend(default=ReplicaConfig(count=1, gpus=2)))


@pytest.mark.parametrize(("device", "gpus"), [("cuda:0,cuda:1", 1), ("cuda:0,cuda:1", 3), ("cuda:1", 2), ("cpu", 2)])
def test_devices_that_are_not_the_gpus_of_a_replica_are_refused(two_gpus: None, device: str, gpus: float):
    model = ModelConfig(name=TWO[0], device=device)
    with pytest.raises(ConfigError, match=rf"^model\.device: '{device}' is not the {gpus} GPU that a replica has"):
        backend(default=ReplicaConfig(gpus=gpus))._demands([model])


def test_a_replica_has_as_many_gpus_as_its_device_names(two_gpus: None):
    models = [ModelConfig(name=TWO[0], device=device) for device in ("auto", "cuda", "cuda:0,cuda:1", "cpu")]
    assert [demand.gpus for demand in backend()._demands(models).values()] == [1, 1, 2, 0]


def test_a_replica_of_several_gpus_gets_them_on_the_one_node_that_has_them(joined: tuple[Any, list[str]]):
    cluster, _ = joined
    node = cluster.add_node(num_cpus=2, num_gpus=2)
    cluster.wait_for_nodes()
    model = ModelConfig(name="tests.cluster.engines:Shown")
    (_, demand, _), *_ = backend(default=ReplicaConfig(gpus=2))._filled({model: Demand("large", None, 1, 2)})
    assert demand.count == 1
    pool = Pool.launch(model, demand, ReplicaConfig())
    try:
        facts, _ = ray.get(pool.broker.ready.remote())
        assert facts == {"seen": "0,1", "named": "cuda:0,cuda:1"}
    finally:
        pool.stop()
        cluster.remove_node(node)

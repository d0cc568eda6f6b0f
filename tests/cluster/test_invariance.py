"""What a grid finds does not depend on where it runs: in this process, or on one, two or three replicas."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.grid_records import records_in
from greater_ray.cluster.grid import RayBackend
from greater_ray.config import ModelConfig
from greater_ray.grid.config import ReplicaConfig, load_grid
from greater_ray.grid.run import LocalBackend, run_grid
from tests.all_methods import METHODS, NEEDED, SMALL, settings_of
from tests.cluster.conftest import CPUS
from tests.grids import Told

pytestmark = pytest.mark.usefixtures("local_ray")


# The last with room for no questions at all: what a replica keeps only saves time. Two serve all methods below.
@pytest.mark.parametrize(("replicas", "memory"), [(1, 4.0), (3, 1e-9)])
def test_records_are_equal_in_every_byte_but_times(
    replicas: int, memory: float, small_grid: Callable, in_process: dict[str, str], tmp_path: Path
):
    result = run_grid(
        small_grid(), tmp_path, RayBackend(default=ReplicaConfig(count=replicas, prefix_memory_gib=memory))
    )
    assert result.complete
    assert records_in(tmp_path) == in_process
    assert len(in_process) == 3, "two seeds of GReaTer, and zero-shot CoT once: it draws nothing"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replicas_that_share_a_gpu_find_what_one_process_finds_on_it(
    small_grid: Callable, tiny_folder: Path, tmp_path: Path
):
    grid = small_grid(models=[{"name": str(tiny_folder), "device": "cuda"}])
    assert run_grid(grid, tmp_path / "in process", LocalBackend()).complete
    expected = records_in(tmp_path / "in process")
    for count in (1, 2):
        backend = RayBackend(default=ReplicaConfig(count=count, gpus=0.5))
        assert run_grid(grid, tmp_path / str(count), backend).complete
        assert records_in(tmp_path / str(count)) == expected


def test_what_any_method_finds_does_not_depend_on_the_number_of_replicas(tiny_folder: Path, tmp_path: Path):
    grid = load_grid(
        {
            "methods": [{"name": name} | settings_of(name) for name in METHODS],
            "tasks": ["bbh/boolean_expressions"],
            "models": [str(tiny_folder)],
            "settings": SMALL,
        }
    )
    assert run_grid(grid, tmp_path / "in process", LocalBackend()).complete
    expected = records_in(tmp_path / "in process")
    assert len(expected) == len(METHODS)
    backend = RayBackend(default=ReplicaConfig(count=2), concurrency=4)
    assert run_grid(grid, tmp_path / "two replicas", backend).complete
    assert records_in(tmp_path / "two replicas") == expected


def test_a_writer_of_its_own_and_a_transfer_find_the_same_on_replicas(
    small_grid: Callable, tiny_folder: Path, tmp_path: Path
):
    # The same folder in another precision is another model: it writes, and what was found is measured on it.
    other = {"name": str(tiny_folder), "dtype": "float64"}
    writing = {"name": "opro", "optimizer_model": other, "budget": {"steps": 1}} | NEEDED["opro"]
    methods = [{"name": "greater", "budget": {"steps": 1}}, writing]
    grid, told = small_grid(methods=methods, seeds=[0], transfer={"models": [{**other, "label": "far"}]}), Told()
    here = run_grid(grid, tmp_path / "in process", LocalBackend())
    replicas = {ModelConfig(**other, threads=1): ReplicaConfig(count=1)}
    backend = RayBackend(default=ReplicaConfig(count=2), replicas=replicas)
    there = run_grid(grid, tmp_path / "on replicas", backend, observer=told)
    for result in (here, there):
        assert result.complete
        assert [cell.method for cell, _ in result.transfers] == ["greater", "opro"]
    assert records_in(tmp_path / "on replicas") == records_in(tmp_path / "in process")
    assert [phase[0] for phase in told.phases] == ["optimize", "transfer"]
    shown = {pool["model"] for look in told.looks for pool in look}
    assert f"{tiny_folder} (dtype float64, threads 1)" in shown, "two variants of a model are told apart"


def test_a_second_run_computes_nothing_and_a_larger_grid_only_what_is_new(small_grid: Callable, tmp_path: Path):
    simulated = {"methods": ["zero-shot-cot"], "models": ["benchmarks.simulated:instant"]}
    grid = small_grid(**simulated)
    backend = RayBackend(default=ReplicaConfig(count=1))
    assert run_grid(grid, tmp_path, backend).complete
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob("cells/*/*.json*")}
    larger = small_grid(**simulated, tasks=["bbh/boolean_expressions", "bbh/navigate"])
    assert run_grid(larger, tmp_path, backend).complete
    assert run_grid(larger, tmp_path, backend).complete
    after = {f: f.stat().st_mtime_ns for f in tmp_path.glob("cells/*/*.json*")}
    assert before.items() <= after.items()
    assert len(list(tmp_path.glob("cells/*/record.json"))) == 2
    held = {path.name for path in tmp_path.iterdir()}
    assert held == {".lock", "cells", "events.jsonl", "failures", "grid.json"}, "nothing of Ray's stays there"


def test_two_models_of_one_wave_and_of_two_waves_give_the_same(small_grid: Callable, tmp_path: Path):
    # Counted replicas share a wave; otherwise a model takes the cluster after the other, half of it with each replica.
    names = ("benchmarks.simulated:quick", "benchmarks.simulated:instant")
    settings = {"methods": ["greater"], "models": [{"name": name, "threads": CPUS // 2} for name in names]}
    together = run_grid(small_grid(**settings), tmp_path / "a", RayBackend(default=ReplicaConfig(count=1)))
    apart = run_grid(small_grid(**settings), tmp_path / "b", RayBackend())
    assert together.complete
    assert apart.complete
    assert records_in(tmp_path / "a") == records_in(tmp_path / "b")

"""One Ray for all tests of this folder that do not need one of their own, and small grids to run on it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grid_records import records_in
from greater_ray.grid.config import GridConfig, load_grid
from greater_ray.grid.run import LocalBackend, run_grid
from greater_ray.settings import merged

# For the clusters that tests start: without this, Ray writes a token file into the user's home.
os.environ["RAY_AUTH_MODE"] = "disabled"
# Logical CPUs: these tests schedule more processes than there are cores.
CPUS = 6


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    """A private Ray; tests with a cluster of their own end it."""
    import ray

    from greater_ray.cluster.connect import connected

    os.environ.pop("RAY_ADDRESS", None)
    ray.shutdown()
    with connected(num_cpus=CPUS):
        yield


@pytest.fixture(scope="package")
def small_grid(tiny_folder: Path) -> Callable[..., GridConfig]:
    """Return a maker of small grids on the tiny model; keyword arguments override."""

    def make(**values: Any) -> GridConfig:
        base = {
            "methods": ["greater", "zero-shot-cot"],
            "tasks": ["bbh/boolean_expressions"],
            "models": [str(tiny_folder)],
            "seeds": [0, 1],
            "settings": {
                "task": {"data": "synthetic", "train_size": 6, "dev_size": 2, "test_size": 4},
                "decoding": {"max_reasoning_tokens": 6, "max_answer_tokens": 3},
                "budget": {"steps": 2},
                "shard_size": 2,
            },
        }
        return load_grid(merged(base, values))

    return make


@pytest.fixture(scope="package")
def in_process(small_grid: Callable[..., GridConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the records of the small grid, run in this process."""
    out = tmp_path_factory.mktemp("grid") / "in_process"
    assert run_grid(small_grid(), out, LocalBackend()).complete
    return records_in(out)


@pytest.fixture
def short_temp() -> Iterator[Path]:
    """A folder with a short name: sockets in it must not be longer than 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="gr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)

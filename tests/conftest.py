"""Fixtures that several test folders share: tiny random models, and the built-in model in the user's own cache."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Nothing heavy is imported above: with -n, pytest's first process reads this file too, and runs no test.

# Tiny models gain nothing from threads, and on busy cores two that wait for each other are many times slower.
_THREADS = 1
os.environ["OMP_NUM_THREADS"] = str(_THREADS)


# Tests with time limits, in three chains: in a browser, with a Ray of each process, and those that share one Ray.
_CHAINS = {
    "browser": ("tests/browser/",),
    "processes": ("tests/cluster/test_drivers.py", "tests/cluster/test_nodes.py", "tests/e2e/test_ray_launch.py"),
    "one Ray": (
        "tests/cluster/",
        "tests/unit/cluster/test_connect.py",
        "tests/unit/cluster/test_trackers.py",
        "tests/unit/test_benchmarks.py",
    ),
}


def _chain(nodeid: str) -> str | None:
    return next((name for name, files in _CHAINS.items() if nodeid.startswith(files)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests with time limits first: those that start Ray are the longest chains."""
    items.sort(key=lambda item: _chain(item.nodeid) is None)


def out_of_sight() -> None:
    """Take what is alive out of the garbage collector's sight: imports are no garbage, and there are a lot of them."""
    gc.collect()
    gc.freeze()


def pytest_collection() -> None:
    """Look for no garbage while tests are collected: next to all that is made stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    out_of_sight()


_module = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Do so again for what the last module has imported: engines collect garbage whenever memory is scarce.

    And set the number of threads again: a test before may have loaded a model that has more. And leave the cores to the
    processes with the tests that have time limits.
    """
    global _module
    if "PYTEST_XDIST_WORKER" in os.environ and os.nice(0) == 0 and _chain(item.nodeid) is None:
        os.nice(5)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(_THREADS)
    if (module := item.nodeid.partition("::")[0]) != _module:
        _module = module
        out_of_sight()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a chain of tests that start Ray in one process: more at a time would make each other's time limits run out.

    The other files stay whole: what a file sets up once would else be set up in every process.
    Not by marks and ``--dist loadgroup``: with pytest 9.2 the names that xdist 3.8 gives to groups do not reach it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class RayApart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _chain(nodeid) or nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # in the order from above, not the file with the most tests first
    return RayApart(config, log)


@pytest.fixture(scope="session")
def tiny_model_factory() -> Callable:
    """Return ``tiny_model(family, dtype=float32) -> (model, tokenizer)``."""
    from tests.families import tiny_model

    return tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny Llama model and its tokenizer, as a user would keep one."""
    from tests.families import save_tiny

    return save_tiny("llama", tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """Return the folder of the built-in model; the first use on a machine fetches it, without an index it skips."""
    from greater_ray.config import ModelConfig
    from greater_ray.errors import ModelError
    from greater_ray.models.sources import resolve

    try:
        return Path(resolve(ModelConfig(name="smollm2-135m")).path)
    except ModelError as error:
        if "cannot fetch" in str(error) or "cannot be fetched" in str(error):
            pytest.skip(f"the built-in model is not at hand: {error}")
        raise

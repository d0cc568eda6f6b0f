"""Prompt optimization for open-weights language models, by the gradient through their own reasoning (GReaTer).

What is public and stays: ``optimize``, ``evaluate`` and ``run_grid`` run, ``load`` reads what a folder holds and
``plots`` draws it; ``TrialConfig`` and ``TrialRecord`` are what goes in and comes out; ``Method``, ``Task``,
``TextModel``, ``GradientModel``, ``Executor`` and ``Observer`` are the seams for parts of one's own,
``GreaterRayError`` the base of all errors. Names are imported when they are first used, so ``import greater_ray``
costs nothing.
"""

import os
from typing import TYPE_CHECKING, Any

# libgomp's threads wait for each other in a loop of 10^5 turns or more, which starves whatever shares the cores with
# them (docs/performance.md). libgomp reads this when torch is first imported, so it stands here; what the user set
# counts.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
__all__ = [
    "Executor",
    "GradientModel",
    "GreaterRayError",
    "Method",
    "Observer",
    "Task",
    "TextModel",
    "TrialConfig",
    "TrialRecord",
    "__version__",
    "evaluate",
    "load",
    "optimize",
    "plots",
    "run_grid",
]

if TYPE_CHECKING:
    from greater_ray import plots
    from greater_ray.api import evaluate, optimize, run_grid
    from greater_ray.config import TrialConfig
    from greater_ray.errors import GreaterRayError
    from greater_ray.observer import Observer
    from greater_ray.protocols import Executor, GradientModel, Method, Task, TextModel
    from greater_ray.records import TrialRecord
    from greater_ray.results import load

_HOMES = {
    "optimize": "api",
    "evaluate": "api",
    "run_grid": "api",
    "load": "results",
    "TrialConfig": "config",
    "TrialRecord": "records",
    "Executor": "protocols",
    "GradientModel": "protocols",
    "Method": "protocols",
    "Task": "protocols",
    "TextModel": "protocols",
    "Observer": "observer",
    "GreaterRayError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use."""
    from importlib import import_module

    if name == "plots":
        return import_module("greater_ray.plots")
    if name in _HOMES:
        return getattr(import_module(f"greater_ray.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'greater_ray' has no attribute {name!r}")

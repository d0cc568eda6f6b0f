"""Prompt optimization for open-weights language models, by the gradient through their own reasoning (GReaTer)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["TrialConfig", "TrialRecord", "__version__", "evaluate", "load", "optimize"]

if TYPE_CHECKING:
    from greater_ray.api import evaluate, optimize
    from greater_ray.config import TrialConfig
    from greater_ray.records import TrialRecord
    from greater_ray.results import load

_HOMES = {
    "optimize": "greater_ray.api",
    "evaluate": "greater_ray.api",
    "load": "greater_ray.results",
    "TrialConfig": "greater_ray.config",
    "TrialRecord": "greater_ray.records",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that ``import greater_ray`` costs nothing."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'greater_ray' has no attribute {name!r}")

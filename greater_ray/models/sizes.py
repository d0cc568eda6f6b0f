"""How large a model is and how fast this machine is with it, told without loading or fetching it, or what lacks."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from greater_ray.config import ModelConfig
from greater_ray.decoder_shape import shape_of
from greater_ray.models import _device, _hub
from greater_ray.models.rates import rates, remembered
from greater_ray.prediction import Known

NOT_MEASURED = "is not measured yet"


def known(machine: str, config: ModelConfig, tell: Callable[[str], None] | None = None) -> Known | str:
    """Return the sizes of a model and the rates of this machine, named by its processor; or what lacks, in some words.

    Rates are measured only with ``tell``, which hears one sentence then.
    """
    if config.name.startswith("openai/"):
        return f"'{config.name}' is computed elsewhere"
    if config.device not in ("auto", "cpu") or (config.device == "auto" and _device.has_gpu()):
        return "the rates of a GPU are not measured"
    if config.threads is None:
        return "model.threads is not set"
    dtype = "float32" if config.dtype == "auto" else config.dtype
    values = sizes(config)
    shape = shape_of(values, dtype) if values is not None else None
    if shape is None:
        why = "not known here" if values is None else "of a kind that the cost model does not count"
        return f"the sizes of '{config.name}' are {why}"
    found = remembered(machine, dtype, config.threads)
    if found is None and tell is not None:
        found = rates(machine, dtype, config.threads, tell)
    if found is None:
        threads = f"{config.threads} thread{'s' if config.threads > 1 else ''}"
        return f"how fast this machine is in {dtype} on {threads} {NOT_MEASURED}"
    return Known(shape, found)


def sizes(config: ModelConfig) -> Mapping[str, Any] | None:
    """Return a model's ``config.json``: of a folder, of the hub's cache, or what is known of its sizes; else None."""
    folder = Path(config.name).expanduser()
    if not folder.is_dir():
        told = _told().get(config.name)
        if told is not None:
            return told
        cached = _hub.snapshot(config.name, config.revision) if config.name.count("/") == 1 else None
        if cached is None:
            return None
        folder = cached
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


@cache
def _told() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("sizes.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))

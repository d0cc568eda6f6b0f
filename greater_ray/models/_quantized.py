"""Weights in fewer bits than 16: those that were saved so, and those that are made so while they are read.

transformers does both, with packages that each kind of quantization asks for. What is refused here is what it would get
wrong without an error.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError, WrongModelError

if TYPE_CHECKING:
    import torch


def arguments(config: ModelConfig, model_config: Any, dtype: "torch.dtype | str", name: str) -> dict[str, Any]:
    """Return what ``from_pretrained`` is told of quantization: nothing but where ``model.quantization`` asks for some.

    Raises:
        ConfigError: it asks for a package that is not here.
        ModelError: the weights are quantized already, or in a way that this transformers does not know.
    """
    saved = saved_as(model_config)
    if saved is not None and config.quantization is not None:
        why = f"the weights of '{name}' are quantized already ({saved}); leave it unset."
        raise WrongModelError(why, setting="model.quantization", value=config.quantization)
    if saved is not None:
        _refuse_unknown(model_config.quantization_config, saved, name)
    if config.quantization is None:
        return {}
    if find_spec("bitsandbytes") is None:
        why = f"'{config.quantization}' needs the package bitsandbytes; install it with pip install bitsandbytes."
        raise ConfigError(why, setting="model.quantization", value=config.quantization)
    import torch
    from transformers import BitsAndBytesConfig

    if config.quantization == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    numbers = getattr(model_config, "dtype", None) if dtype == "auto" else dtype
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=numbers or torch.float32
        )
    }


def saved_as(model_config: Any) -> str | None:
    """Return how weights were quantized, as their config says it; None where they were not."""
    given = getattr(model_config, "quantization_config", None)
    if not given:
        return None
    values = given if isinstance(given, dict) else given.to_dict()
    method = values.get("quant_method")
    bits = 4 if values.get("load_in_4bit") else 8 if values.get("load_in_8bit") else values.get("bits")
    # An enumeration in one version of transformers, a text in another.
    return f"{getattr(method, 'value', method) or 'bitsandbytes'}{f', {bits} bit' if bits else ''}"


def _refuse_unknown(given: Any, saved: str, name: str) -> None:
    """Refuse what transformers would read as if it were not quantized, after a warning."""
    from transformers.quantizers import AutoHfQuantizer

    if isinstance(given, dict) and not AutoHfQuantizer.supports_quant_method(given):
        why = f"the weights of '{name}' are quantized ({saved}) in a way that this transformers does not know."
        raise WrongModelError(why, setting="model.name")

"""Weights in fewer bits: what is asked for, what is refused, and what the record says. No kernel of them runs here."""

import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BitsAndBytesConfig

from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.models import _quantized
from greater_ray.models._quantized import arguments, saved_as
from greater_ray.models.engine import Engine
from greater_ray.models.identity import peculiar
from greater_ray.models.sources import load, resolve
from tests.families import save_tiny, tiny_model
from tests.unit.models.refusals import sentence


def folder_with(folder: Path, quantization: dict[str, Any] | None) -> ModelConfig:
    """Return a model whose config says so of its weights."""
    path = save_tiny("llama", folder) / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"quantization_config": quantization}))
    return ModelConfig(name=str(folder))


def refusal(config: ModelConfig) -> str:
    with pytest.raises((ConfigError, ModelError)) as error:
        Engine.load(config)
    return sentence(error).replace(config.name, "MODEL")


@pytest.mark.parametrize("asked", ["4bit", "8bit"])
def test_without_bitsandbytes_a_model_is_not_quantized_and_that_is_said(
    asked: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_quantized, "find_spec", lambda name: None)
    assert refusal(ModelConfig(name=str(tiny_folder), quantization=asked)) == (
        f"model.quantization: '{asked}' needs the package bitsandbytes; install it with pip install bitsandbytes."
    )


def test_weights_are_not_quantized_twice(tmp_path: Path):
    config = folder_with(tmp_path, {"quant_method": "gptq", "bits": 4}).model_copy(update={"quantization": "8bit"})
    assert refusal(config) == (
        "model.quantization: the weights of 'MODEL' are quantized already (gptq, 4 bit); leave it unset."
    )


def test_a_quantization_that_transformers_would_only_warn_of_is_refused(tmp_path: Path):
    config = folder_with(tmp_path, {"quant_method": "someday"})
    assert refusal(config) == (
        "model.name: the weights of 'MODEL' are quantized (someday) in a way that this transformers does not know."
    )


def test_a_package_that_is_missing_for_saved_weights_is_named(tmp_path: Path):
    config = folder_with(tmp_path, {"quant_method": "aqlm"})
    assert refusal(config).startswith("model.name: 'MODEL' cannot be loaded: ")
    assert "aqlm" in refusal(config)


def test_weights_that_were_not_quantized_are_read_as_ever(tmp_path: Path):
    config = folder_with(tmp_path, None)
    model, tokenizer = load(resolve(config), config)
    assert saved_as(model.config) is None
    assert peculiar(model, tokenizer) == {}
    assert arguments(config, model.config, torch.float32, "m") == {}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bit"),
        (BitsAndBytesConfig(load_in_8bit=True), "bitsandbytes, 8 bit"),
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bit"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
def test_the_record_says_how_weights_are_quantized(given: Any, text: str):
    model, tokenizer = tiny_model("llama")
    model.config.quantization_config = given
    assert peculiar(model, tokenizer) == {"quantization": text}


def test_four_bits_compute_in_the_numbers_of_the_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_quantized, "find_spec", lambda name: ModuleSpec(name, None))
    model_config = AutoConfig.from_pretrained(tiny_folder)
    config = ModelConfig(name="m", quantization="4bit")
    for dtype, saved, wanted in (
        (torch.bfloat16, torch.float16, torch.bfloat16),
        ("auto", torch.float16, torch.float16),
        ("auto", None, torch.float32),
    ):
        model_config.dtype = saved
        asked = arguments(config, model_config, dtype, "m")["quantization_config"]
        assert (asked.load_in_4bit, asked.bnb_4bit_quant_type, asked.bnb_4bit_compute_dtype) == (True, "nf4", wanted)
    asked = arguments(config.model_copy(update={"quantization": "8bit"}), model_config, "auto", "m")
    assert asked["quantization_config"].load_in_8bit


def test_a_trial_that_quantizes_is_another_one_and_all_others_are_what_they_were():
    def identity(**model: Any) -> str:
        return TrialConfig(model={"name": "m", **model}, task={"name": "gsm8k"}).trial_id()

    assert identity() == identity(quantization=None)
    assert len({identity(), identity(quantization="4bit"), identity(quantization="8bit")}) == 3

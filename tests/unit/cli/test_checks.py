from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from greater_ray.cli import _doctor
from greater_ray.models.checks import check_bos, check_gradient, check_losses, check_stop, memory_estimate
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, ShardGradient, Usage
from greater_ray.work import EncodePrompt, Unit
from tests.families import tiny_model

LAYOUT = Layout("Therefore, the final answer is", max_reasoning_tokens=6)
SHARD = (
    Example("a", "not ( True ) and ( False ) is", "False", "False"),
    Example("b", "not not True is", "True", "True"),
)


class WrongGradient(Engine):
    def gradients(self, *args: Any) -> tuple[ShardGradient, Usage]:
        result, usage = super().gradients(*args)
        return replace(result, gradient=tuple(1.1 * g for g in result.gradient)), usage


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "gpt2"])
def test_a_right_engine_passes(family):
    engine = Engine(*tiny_model(family))
    prompt, _ = engine.run(Unit(EncodePrompt(" think step by step."), LAYOUT))
    for precise in (True, False):
        check = check_gradient(engine, LAYOUT, SHARD, prompt, LossSpec(fluency="nll"), precise=precise)
        assert check.error < 1e-2
        assert len(check.numeric) == 3
    losses = check_losses(engine, LAYOUT, SHARD, prompt)
    assert max(losses.label, losses.prompt) < 1e-3
    found, expected = check_bos(engine, LAYOUT, SHARD[0])
    assert found == expected
    memory = memory_estimate(engine, LAYOUT, SHARD, prompt, 6)
    assert memory["parameters"] == sum(p.numel() * 4 for p in engine.model.parameters())
    assert memory["kv_bytes_per_token"] == sum(
        2 * t.shape[1] * t.shape[3] * 4 for t, _ in next(iter(engine._prefixes.values())).layers
    )


def test_a_turn_that_generation_does_not_end_at_is_found():
    model, tokenizer = tiny_model("llama")
    assert check_stop(Engine(model, tokenizer)) == ("<|eot_id|>", True)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|end_of_text|>")
    assert check_stop(Engine(model, tokenizer)) == ("<|eot_id|>", False)


def test_a_wrong_gradient_is_found():
    engine = WrongGradient(*tiny_model("llama"))
    prompt, _ = engine.run(Unit(EncodePrompt(" think step by step."), LAYOUT))
    check = check_gradient(engine, LAYOUT, SHARD, prompt, LossSpec(fluency="nll"), precise=True)
    assert check.error == pytest.approx(0.1 / 1.1, rel=0.1)


def patient(engine: Engine, **more: Any) -> Any:
    prompt, _ = engine.run(Unit(EncodePrompt(" think step by step."), LAYOUT))
    return SimpleNamespace(engine=engine, short_layout=LAYOUT, few=SHARD, prompt=prompt, loss=LossSpec(), **more)


def test_a_model_without_gradients_is_told_and_not_differentiated():
    engine = Engine(*tiny_model("llama"))
    engine._cut = "MarlinLinear"
    check = _doctor._gradient(patient(engine))
    assert (check.status, check.message) == (
        "warn", "a layer has no backward pass, so methods that need gradients are refused; all others run"
    )  # fmt: skip


def test_a_quantized_model_is_checked_as_it_is_since_it_has_no_copy_in_other_numbers():
    for facts, numbers in (({}, "float64"), ({"quantization": "bitsandbytes, 4 bit"}, "float32")):
        check = _doctor._gradient(patient(Engine(*tiny_model("llama"), facts=facts)))
        assert (check.status, check.figures["dtype"]) == ("ok", numbers)

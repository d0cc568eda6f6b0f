"""Layers of Llama's form run in fewer operators, and compute what transformers' layers compute."""

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteConfig, SmolLM3Config

from greater_ray.models._attention import use_own_attention
from greater_ray.models._layers import LeanLayer, make_lean
from greater_ray.models._packed import pack
from greater_ray.models.engine import Engine
from greater_ray.models.half import packed_copies
from greater_ray.types import Example, Layout, LossSpec
from greater_ray.work import EncodePrompt, PromptGradients, Rollouts, Unit
from tests.families import FAMILIES, tiny_model
from tests.slow_twin import SlowTwin

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=12)
SHARD = (
    Example("a", "not ( True ) and ( True ) is", "False", "False"),
    Example("b", "Is it? Yes or no", "True", "True"),
)
TEXTS = (" proper logical reasoning and think.", " proper logical reasoning.", " proper logical Yes or no?")
OF_LLAMAS_FORM = {"llama", "mistral", "qwen2", "qwen3"}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}


def lean_layers(model: Any) -> int:
    return sum(
        isinstance(getattr(layer.__dict__.get("forward"), "__self__", None), LeanLayer) for layer in model.modules()
    )


def logits_of(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 25).view(2, 11)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits.double()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_layers(family: str, dtype: torch.dtype, packed: bool):
    model, _ = tiny_model(family, dtype)
    use_own_attention(model)
    theirs = logits_of(model)
    if packed and dtype != torch.float64:
        pack(model)
    assert make_lean(model) == lean_layers(model) == (2 if family in OF_LLAMAS_FORM else 0)
    assert difference(logits_of(model), theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("family", sorted(OF_LLAMAS_FORM))
def test_rollouts_are_those_of_the_slow_twin(family: str):
    model, tokenizer = tiny_model(family, torch.float64)
    use_own_attention(model)
    twin = SlowTwin(copy.deepcopy(model), tokenizer, LAYOUT)
    assert make_lean(model) == 2
    engine = Engine(model, tokenizer)
    assert engine.decoder.shares
    prompts = [engine.run(Unit(EncodePrompt(text), LAYOUT))[0] for text in TEXTS]
    work = Rollouts(SHARD, prompts, LossSpec(fluency="nll"))
    ours, theirs = engine.rollouts(work, LAYOUT)[0], twin.ask(work)
    for mine, its in zip(chain(*ours), chain(*theirs), strict=True):
        assert (mine.reasoning, mine.label_hit) == (its.reasoning, its.label_hit)
        assert (mine.label_ce, mine.prompt_nll) == pytest.approx((its.label_ce, its.prompt_nll), rel=1e-9)


def test_a_gradient_is_taken_through_transformers_layers():
    found = []
    for lean in (False, True):
        model, tokenizer = tiny_model("llama", torch.float64)
        use_own_attention(model)
        if lean:
            make_lean(model)
        engine = Engine(model, tokenizer)
        prompt = engine.run(Unit(EncodePrompt(TEXTS[0]), LAYOUT))[0]
        # The question in front, and what is read there, take no gradient: there the layers may differ in rounding.
        work = PromptGradients(SHARD, prompt, LossSpec(), with_reasoning=False, reasoning=[()] * len(SHARD))
        found.append(torch.tensor(engine.prompt_gradients(work, LAYOUT)[0].gradient))
    assert difference(*found) <= 1e-9


def test_a_copy_computes_with_its_own_weights():
    model, _ = tiny_model("llama", torch.float32)
    pack(model)
    assert make_lean(model) == 2
    wide = copy.deepcopy(model, {id(tensor): None for tensor in packed_copies(model)}).double()
    plain = tiny_model("llama", torch.float32)[0].double()
    assert lean_layers(wide) == 2
    before = logits_of(model)
    for copied in (wide, plain):
        for weight in copied.parameters():
            weight.mul_(0.9)
    assert difference(logits_of(wide), logits_of(plain)) <= TOLERANCE[torch.float32]
    assert difference(logits_of(wide), before) > 0.05
    assert torch.equal(logits_of(model), before)


@pytest.mark.parametrize(("multiplier", "lean"), [(1.0, 2), (0.22, 0)])
def test_a_layer_that_only_looks_alike_stays_as_it_is(multiplier: float, lean: int):
    config = GraniteConfig(**_small(), residual_multiplier=multiplier, attention_multiplier=0.25)
    model = _random(config)
    theirs = logits_of(model)
    assert make_lean(model) == lean
    assert difference(logits_of(model), theirs) <= TOLERANCE[torch.float64]


def test_layers_are_told_apart_one_by_one():
    """In SmolLM3 some layers do not rotate."""
    model = _random(SmolLM3Config(**_small(), no_rope_layers=[1, 0]))
    theirs = logits_of(model)
    assert make_lean(model) == 1
    assert difference(logits_of(model), theirs) <= TOLERANCE[torch.float64]


def _small() -> dict[str, Any]:
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return {**sizes, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "initializer_range": 0.3}


def _random(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)

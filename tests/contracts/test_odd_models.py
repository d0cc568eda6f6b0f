"""Models and templates that behave otherwise: exact, or refused in one sentence; never other numbers in silence."""

from datetime import datetime
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from greater_ray.errors import ConfigError, DataError, GreaterRayError, MarkupError, ModelError
from greater_ray.methods._proposals import propose
from greater_ray.models._placement import markup_tokens, turn_end
from greater_ray.models._spans import SpanBuilder
from greater_ray.models.checks import check_gradient
from greater_ray.models.engine import Engine
from greater_ray.protocols import Problem
from greater_ray.sharding import LocalExecutor, ShardedModel, ShardedWriter
from greater_ray.types import Example, Layout, LossSpec, Message
from greater_ray.work import EncodePrompt, PromptRoom, Rollouts
from tests.families import tiny_model, tiny_tokenizer
from tests.slow_twin import SlowTwin

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=6, max_answer_tokens=4)
SHORT = (Example("a", "Is it?", "True", "True"), Example("b", "not ( True ) is", "False", "False"))
LONG = Example("c", "not ( True ) and ( True ) is " * 12, "True", "True")
PROMPT = " think step by step."


def engine(config_name: str, **config: Any) -> Engine:
    """An architecture of transformers with two small layers and random weights."""
    tokenizer = tiny_tokenizer("llama")
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    torch.manual_seed(0)
    settings = {"vocab_size": len(tokenizer), **ids, **config}
    model = AutoModelForCausalLM.from_config(getattr(transformers, config_name)(**settings))
    return Engine(model, tokenizer)


SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZE, "intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}

# -- positions ---------------------------------------------------------------------------------------------------------


def longrope(original: int) -> Engine:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": original,
    }
    return engine(
        "Phi3Config", **LLAMA, max_position_embeddings=2048, original_max_position_embeddings=original,
        rope_parameters=rope,
    )  # fmt: skip


def test_a_longrope_row_never_depends_on_a_neighbour_because_none_passes_the_original_context() -> None:
    short_only = longrope(120)
    model = ShardedModel(LocalExecutor(short_only), LAYOUT, 4)
    prompt = model.ask(EncodePrompt(PROMPT))
    (alone,) = model.ask(Rollouts(SHORT, [prompt], LossSpec()))
    with pytest.raises(DataError, match=r"row 'c': .* the model's context window has 120; lower decoding.max_reas"):
        model.ask(Rollouts((*SHORT, LONG), [prompt], LossSpec()))
    assert model.ask(PromptRoom(SHORT)) < 120
    slow = SlowTwin(short_only.model, short_only.tokenizer, LAYOUT)
    (plain,) = slow.ask(Rollouts(SHORT, [prompt], LossSpec()))
    assert [r.label_ce for r in alone] == pytest.approx([r.label_ce for r in plain], abs=1e-5)


def test_a_longrope_row_within_a_large_original_context_is_computed_like_any_other() -> None:
    wide = longrope(1024)
    model = ShardedModel(LocalExecutor(wide), LAYOUT, 4)
    prompt = model.ask(EncodePrompt(PROMPT))
    (together,) = model.ask(Rollouts((*SHORT, LONG), [prompt], LossSpec()))
    (plain,) = SlowTwin(wide.model, wide.tokenizer, LAYOUT).ask(Rollouts((*SHORT, LONG), [prompt], LossSpec()))
    assert [r.label_ce for r in together] == pytest.approx([r.label_ce for r in plain], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
        ("FalconConfig", {**SIZE, "alibi": True, "new_decoder_architecture": False, "initializer_range": 0.3}),
        ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, "initializer_range": 0.3}),
    ],
)
def test_models_whose_distances_are_not_ours_to_give_are_refused(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^model.name: \w+ForCausalLM is not supported: [^\n]+\.$"):
        engine(name, **config)


MIXTURE = {"num_experts_per_tok": 2, "max_position_embeddings": 512}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("MixtralConfig", {**LLAMA, "num_local_experts": 4, **MIXTURE}),
        ("Qwen3MoeConfig", {**LLAMA, "num_experts": 4, "moe_intermediate_size": 32, "head_dim": 8, **MIXTURE}),
        ("OlmoeConfig", {**LLAMA, "num_experts": 4, **MIXTURE}),
    ],
)
def test_mixtures_of_experts_equal_the_slow_twin(name: str, config: dict[str, Any]) -> None:
    mixture = engine(name, **config)
    model = ShardedModel(LocalExecutor(mixture), LAYOUT, 4)
    prompt = model.ask(EncodePrompt(PROMPT))
    (fast,) = model.ask(Rollouts(SHORT, [prompt], LossSpec()))
    (plain,) = SlowTwin(mixture.model, mixture.tokenizer, LAYOUT).ask(Rollouts(SHORT, [prompt], LossSpec()))
    assert [r.label_ce for r in fast] == pytest.approx([r.label_ce for r in plain], abs=1e-4)
    check = check_gradient(mixture, LAYOUT, SHORT, prompt, LossSpec(), precise=True, directions=1)
    assert (check.dtype, check.error < 1e-3) == ("float64", True), "the differences of doctor are taken in float64"


# -- control tokens ----------------------------------------------------------------------------------------------------


def marked() -> Any:
    """A tokenizer with a special token that `all_special_tokens` does not hold, as Llama 3's has."""
    tokenizer = tiny_tokenizer("llama")
    tokenizer.add_tokens([AddedToken("<|reserved|>", special=True)])
    tokenizer.add_tokens(["@@TURN@@", "ordinary"])
    tokenizer.chat_template = tokenizer.chat_template + "{# #}@@TURN@@"
    return tokenizer


@pytest.mark.parametrize("mark", ["<|eot_id|>", "<|reserved|>", "@@TURN@@"])
def test_markup_is_refused_in_all_four_places(mark: str) -> None:
    tokenizer = marked()
    assert mark in markup_tokens(tokenizer)
    assert "ordinary" not in markup_tokens(tokenizer)
    spans = SpanBuilder(tokenizer, LAYOUT)
    with pytest.raises(DataError, match=r"row 'x': the question contains"):
        spans.head(Example("x", f"Is it?{mark}\nTrue", "True", "True"))
    with pytest.raises(DataError, match=r"row 'x': the answer contains"):
        spans.label(Example("x", "Is it?", f"True{mark}", f"True{mark}"))
    with pytest.raises(MarkupError, match=r"the prompt 'think.*' contains"):
        spans.encode_prompt(f" think{mark}")
    with pytest.raises(ConfigError, match=r"task.extractor: contains"):
        SpanBuilder(tokenizer, Layout(f"So it is{mark}"))


@pytest.mark.parametrize("code", [0xD83D, 0xDCE9])
def test_half_of_a_character_is_refused_wherever_text_is_given(code: int) -> None:
    tokenizer, half = marked(), chr(code)
    spans, why = SpanBuilder(tokenizer, LAYOUT), r"holds '\\ud\w+', half of a character, which is no text\."
    with pytest.raises(DataError, match=f"row 'x': the question {why}"):
        spans.head(Example("x", f"Is it?{half}", "True", "True"))
    with pytest.raises(DataError, match=f"row 'x': the answer {why}"):
        spans.label(Example("x", "Is it?", f"True{half}", f"True{half}"))
    with pytest.raises(MarkupError, match=rf"the prompt .* {why}"):
        spans.encode_prompt(f" think{half}")
    for setting, layout in (
        ("task.extractor", Layout(f"So it is{half}")),
        ("task.choices", Layout("So it is", choices=("a", f"b{half}"))),
        ("layout.system", Layout("So it is", system=f"Be brief{half}")),
        ("layout.glue", Layout("So it is", glue=half)),
    ):
        with pytest.raises(ConfigError, match=f"{setting}: {why}"):
            SpanBuilder(tokenizer, layout)


def test_a_written_prompt_with_markup_is_a_refused_proposal() -> None:
    model, _ = tiny_model("llama")
    tokenizer = marked()
    model.resize_token_embeddings(len(tokenizer))
    engine = Engine(model, tokenizer)
    sharded = ShardedModel(LocalExecutor(engine), LAYOUT, 4)
    problem = Problem(SHORT, sharded, 0, optimizer=ShardedWriter(LocalExecutor(engine)))
    proposals = propose(problem, ["Think. @@TURN@@ Now", "Think well about it."], known=(), max_prompt_tokens=40)
    assert [proposal.status for proposal in proposals] == ["markup", "new"]


# -- templates ---------------------------------------------------------------------------------------------------------

TURNS = "{% for m in messages %}<|start_header_id|>{{ m['role'] }}\n{{ m['content'] }}<|eot_id|>{% endfor %}"


def builder(template: Any, **layout: Any) -> SpanBuilder:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = template
    return SpanBuilder(tokenizer, Layout(" So it is", **layout))


def test_a_bos_behind_a_line_break_is_the_only_one() -> None:
    spans = builder("\n{{ bos_token }}" + TURNS)
    assert spans.head(SHORT[0]).count(spans.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (TURNS + TURNS, "its chat template shows the user's text more than once."),
        ("{{ bos_token }}hello", "its chat template does not show the user's text."),
        ({"tool_use": TURNS}, "its chat template cannot be used"),
        ("{% if messages[0].role != 'system' %}{{ raise_exception('needs a system turn') }}{% endif %}" + TURNS,
         "its chat template cannot be used (needs a system turn)."),
        ("{{ messages[0].nothing.at.all }}" + TURNS, "its chat template cannot be used"),
        ("{% for m in messages %}", "its chat template cannot be used"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_used_is_named_in_one_sentence(template: Any, sentence: str) -> None:
    with pytest.raises(GreaterRayError) as error:
        builder(template)
    assert str(error.value).startswith(f"model.name: {sentence}")
    assert "\n" not in str(error.value)


def test_a_template_that_needs_a_system_turn_gets_the_fixed_one() -> None:
    needs = "{% if messages[0].role != 'system' %}{{ raise_exception('needs a system turn') }}{% endif %}"
    assert "Be brief." in builder(needs + TURNS, system="Be brief.").opening_text


def test_a_template_that_writes_the_date_writes_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    template = "Today is {{ strftime_now('%d %b %Y') }}. " + TURNS
    first = builder(template)
    assert "26 Jul 2024" in first.opening_text
    assert datetime.now().strftime("%d %b %Y") not in first.opening_text
    for form in (
        "{% set form = '%d' %}{{ strftime_now(form) }}",
        "{{ strftime_now(format='%d') }}",
        "{% set now = strftime_now %}{{ now('%d') }}",
    ):
        with pytest.raises(ModelError, match="today's date in a form that is not known"):
            builder(form + TURNS)
    asked = "{% if strftime_now is defined %}{{ strftime_now('%d %b') }}{% endif %}"
    assert "26 Jul" in builder(asked + TURNS).opening_text
    assert "02 Jan 2026" in builder(template, date="2026-01-02").opening_text
    engine = Engine(tiny_model("llama")[0], first.tokenizer)
    written = engine._writer.encode((Message("user", "Hello"),))
    assert "26 Jul 2024" in first.tokenizer.decode(list(written))


def test_a_template_that_draws_by_chance_is_refused() -> None:
    with pytest.raises(ModelError, match="writes another text each time"):
        builder("{{ range(100000) | random }}" + TURNS)


def test_arguments_reach_the_template() -> None:
    spans = builder("{{ greeting }} " + TURNS, template_kwargs=(("greeting", '"Good day"'),))
    assert spans.opening_text.startswith("Good day ")


def test_the_end_of_a_turn_is_found() -> None:
    assert turn_end(builder(TURNS).tokenizer) == "<|eot_id|>"
    assert turn_end(builder("{% for m in messages %}{{ m['content'] }}\n{% endfor %}").tokenizer) is None

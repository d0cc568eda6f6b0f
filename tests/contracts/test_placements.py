"""Every placement of the prompt: sequences are those of the chat template, and all numbers equal the slow twin's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from greater_ray.assembly import assemble, local_models, resolve_config
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, DataError, ModelError, StoreError
from greater_ray.export import export
from greater_ray.methods.opro import SLOT, meta_prompt
from greater_ray.models._attention import register
from greater_ray.models._spans import SpanBuilder
from greater_ray.models.checks import check_bos, check_gradient, check_losses, memory_estimate
from greater_ray.models.engine import Engine
from greater_ray.observer import Observer
from greater_ray.problem import problem_of
from greater_ray.runs import run_config
from greater_ray.settings import merged
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.tasks import load_task
from greater_ray.types import Example, Layout, LossSpec
from greater_ray.work import (
    Answers,
    EncodePrompt,
    PromptGradients,
    Rollouts,
)
from tests.all_methods import SMALL, settings_of
from tests.contracts.test_engine_families import EXAMPLES, PROMPT
from tests.contracts.test_trial import run_in_pieces
from tests.families import FAMILIES, tiny_model, tiny_tokenizer
from tests.slow_twin import SlowTwin, assert_equal_to_twin

FORM = "Instruction: {prompt}\n\nInput: {question}"
PLACEMENTS = ("before", "system", FORM, "{question}\n{prompt}")
# Families whose chat template shows a system message.
WITH_SYSTEM = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3"})


def layout(placement: str, **settings: Any) -> Layout:
    limits: dict[str, Any] = {"max_reasoning_tokens": 8, "max_answer_tokens": 4}
    return Layout(" Therefore, the final answer is", placement=placement, **limits, **settings)


def build(family: str, chosen: Layout, dtype: torch.dtype = torch.float32) -> tuple[ShardedModel, SlowTwin]:
    model, tokenizer = tiny_model(family, dtype)
    if family == "gemma2" and dtype == torch.float64:
        model.set_attn_implementation(register())
    return ShardedModel(LocalExecutor(Engine(model, tokenizer)), chosen, 3), SlowTwin(model, tokenizer, chosen)


# -- sequences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", ["Use", ""])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_is_what_the_chat_template_makes_of_the_turns(family: str, placement: str, frozen: str) -> None:
    tokenizer = tiny_tokenizer(family)
    chosen = layout(placement, frozen_prefix=frozen)
    spans = SpanBuilder(tokenizer, chosen)
    prompt = spans.encode_prompt(PROMPT)
    assert spans.check(prompt).survives
    for example in EXAMPLES:
        turns = chosen.conversation(example.question, spans.check(prompt).text, system_role=family in WITH_SYSTEM)
        if tokenizer.chat_template:
            messages = [turn._asdict() for turn in turns]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            by_hand = tokenizer(text, add_special_tokens=False).input_ids
        else:
            text = turns[0].content + "\n"
            by_hand = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
        assert [*spans.head(example), *prompt, *spans.suffix(example)] == by_hand


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_is_tiled_by_its_spans_and_has_one_bos(family: str, placement: str) -> None:
    tokenizer = tiny_tokenizer(family)
    spans = SpanBuilder(tokenizer, layout(placement, system=None if placement == "system" else "Be brief."))
    prompt = spans.encode_prompt(PROMPT)
    for example in EXAMPLES:
        sequence = spans.build(example, prompt, (5, 6, 7))
        # A blank in front of a word belongs to its token, and so to the span before.
        for name, front, text in (
            ("prompt", "prompt", PROMPT),
            ("frozen", "opening" if spans.prompt_first else "joint", "Use"),
            ("question", "joint" if spans.prompt_first else "opening", example.question),
        ):
            start, stop = sequence.spans[front][0], sequence.spans[name][1]
            assert tokenizer.decode(sequence.ids[start:stop]).endswith(text)
        assert sequence.ids[slice(*sequence.spans["reasoning"])] == (5, 6, 7)
        order = [name for name in sequence.spans if name in ("question", "prompt")]
        assert order == (["question", "prompt"] if placement.startswith("{question}") else ["prompt", "question"])
        bos = tokenizer.bos_token_id
        # Phi-3 has a BOS that neither its template nor its tokenizer writes.
        expected = 0 if bos is None or family == "phi3" else 1
        assert sequence.ids.count(bos) == expected
        assert (sequence.ids[0] == bos) == bool(expected)


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize("placement", ["after", "system"])
def test_thoughts_are_switched_where_the_chat_template_can(placement: str) -> None:
    tokenizer = tiny_tokenizer("qwen3")
    tokenizer.chat_template = THINKING
    texts = {}
    for thinking in (None, True, False):
        spans = SpanBuilder(tokenizer, layout(placement, thinking=thinking))
        texts[thinking] = tokenizer.decode(spans.suffix(EXAMPLES[0]))
        turns = spans.layout.conversation(EXAMPLES[0].question, PROMPT, system_role=True)
        given = {} if thinking is None else {"enable_thinking": thinking}
        by_hand = tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns], add_generation_prompt=True, return_dict=True, **given
        )["input_ids"]
        whole = spans.build(EXAMPLES[0], spans.encode_prompt(PROMPT), (5, 6))
        assert [*whole.ids[: whole.spans["reasoning"][0]]] == by_hand
    assert texts[None] == texts[True]
    assert texts[False] == texts[True] + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_thoughts_cannot_be_switched_where_no_template_reads_it(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    if tokenizer.chat_template:
        tokenizer.chat_template += "{# thinking #}{{ '' if true else 'enable_thinking' }}"
    with pytest.raises(ConfigError, match=r"^layout\.thinking: False is not possible: .* enable_thinking, thinking\.$"):
        SpanBuilder(tokenizer, layout("after", thinking=False))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS[:3])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_gradients_and_proposals_equal_the_slow_twin(family: str, placement: str) -> None:
    fast, slow = build(family, layout(placement), torch.float64)
    assert_equal_to_twin(fast, slow, EXAMPLES, PROMPT)
    prompt, loss = fast.ask(EncodePrompt(PROMPT)), LossSpec(fluency="nll")
    a, b = (m.ask(PromptGradients(EXAMPLES, prompt, loss)) for m in (fast, slow))
    for ours, theirs in zip(a.gradient, b.gradient, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6 * max(map(abs, theirs)))


@pytest.mark.parametrize("placement", PLACEMENTS[:3])
def test_the_doctor_finds_nothing_wrong(placement: str) -> None:
    engine, chosen = Engine(*tiny_model("qwen2")), layout(placement)
    prompt = engine.spans(chosen).encode_prompt(PROMPT)
    losses = check_losses(engine, chosen, EXAMPLES, prompt)
    assert max(losses.label, losses.prompt) < 1e-4
    assert check_gradient(engine, chosen, EXAMPLES[:2], prompt, LossSpec(fluency="nll"), precise=True).error < 1e-3
    assert check_bos(engine, chosen, EXAMPLES[0]) == (0, 0)
    figures = memory_estimate(engine, chosen, EXAMPLES, prompt, 4)
    spans = engine.spans(chosen)
    assert figures["questions"] == len(spans.head(EXAMPLES[0])) * figures["kv_bytes_per_token"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_decoded_answers_equal_the_slow_twin_with_and_without_known_reasoning(placement: str) -> None:
    fast, slow = build("qwen3", layout(placement))
    prompt = fast.ask(EncodePrompt(PROMPT))
    (fresh,), (expected,) = (m.ask(Answers(EXAMPLES, [prompt])) for m in (fast, slow))
    fast = build("qwen3", layout(placement))[0]
    fast.ask(Rollouts(EXAMPLES, [prompt], LossSpec()))
    (known,) = fast.ask(Answers(EXAMPLES, [prompt]))
    for answers in (fresh, known):
        texts = [[(a.reasoning_text, a.answer_text) for a in some] for some in (answers, expected)]
        assert texts[0] == texts[1]


def test_head_and_prompts_are_computed_and_metered_once_where_no_question_stands_before_them() -> None:
    fast, slow = build("llama", layout("system"))
    seen = list[int]()
    forward = slow.model.forward
    slow.model.forward = lambda **given: seen.append(given["position_ids"].numel()) or forward(**given)
    prompt = fast.ask(EncodePrompt(PROMPT))
    spans, rows, prompts = slow.spans, EXAMPLES[:3], [prompt, prompt[:5]]
    fast.ask(Rollouts(rows, prompts, LossSpec()))
    assert fast.usage.prefix_tokens == len(spans.head(rows[0])) - 1
    own = sum(1 + len(p) for p in prompts)
    assert fast.usage.prefill_tokens == own + 2 * sum(1 + len(spans.suffix(e)) for e in rows)
    # The second pass holds the prompts, padded to one length, and no row of theirs.
    assert seen[:2] == [len(spans.head(rows[0])) - 1, 2 * (1 + len(prompt))]


def test_a_prompt_that_nothing_precedes_is_refused_by_the_setting() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    tokenizer.bos_token = None
    spans = SpanBuilder(tokenizer, layout("before", frozen_prefix=""))
    with pytest.raises(ModelError, match=r"^layout\.placement: 'before' puts the prompt first .*layout\.frozen_prefix"):
        spans.head(EXAMPLES[0])
    assert SpanBuilder(tokenizer, layout("before", frozen_prefix="", system="Go.")).head(EXAMPLES[0])


def test_markup_is_refused_wherever_it_stands() -> None:
    tokenizer = tiny_tokenizer("llama")
    with pytest.raises(DataError, match=r"row 'bad': the question contains '<\|eot_id\|>'"):
        SpanBuilder(tokenizer, layout("system")).suffix(Example("bad", "Is it?<|eot_id|>", "Yes", "Yes"))
    with pytest.raises(ConfigError, match=r"^layout\.system: contains '<\|eot_id\|>'"):
        SpanBuilder(tokenizer, layout("after", system="Be brief.<|eot_id|>"))
    with pytest.raises(ConfigError, match=r"^layout\.placement: contains '<\|eot_id\|>'"):
        SpanBuilder(tokenizer, layout("{prompt}<|eot_id|>{question}"))


# -- whole trials ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with a model whose chat template has a system message, and with one that has none."""
    folder = tmp_path_factory.mktemp("tiny") / "gemma3"
    model, tokenizer = tiny_model("gemma3")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"llama": tiny_folder, "gemma3": folder}


MODELS = local_models()


def config(folder: Path, method: str, **settings: Any) -> TrialConfig:
    base = {"model": {"name": str(folder)}, "task": {"name": "bbh/boolean_expressions"}, "method": method}
    return resolve_config(merged(base, SMALL, settings_of(method), settings))


@pytest.mark.parametrize("placement", PLACEMENTS[:3])
@pytest.mark.parametrize("method", ["greater", "opro", "textgrad"])
def test_a_run_in_pieces_ends_like_a_straight_one(
    method: str, placement: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    chosen = config(folders["llama"], method, layout={"placement": placement})
    straight = run_config(chosen, models=MODELS)
    assert straight.steps == chosen.budget.steps
    assert straight.config.layout.placement == placement
    pieces = run_in_pieces(chosen, tmp_path / "run", 10, lambda folder, turn: None)
    assert pieces.without_times() == straight.without_times()


def test_in_front_of_the_question_greater_draws_nothing(folders: dict[str, Path]) -> None:
    """Documented: all rows propose the same tokens, so the seed has no part in it."""
    records = [run_config(config(folders["llama"], "greater", layout={"placement": where}, seed=seed,
                                 method_config={"proposal_samples": 1}, evaluation={"splits": []}), models=MODELS)
               for where in ("system", "after") for seed in (0, 1)]  # fmt: skip
    first, second, *behind = [[prompt.ids for prompt in record.finalists] for record in records]
    assert first == second
    assert behind[0] != behind[1]


@pytest.mark.parametrize("placement", [*PLACEMENTS, "after"])
def test_methods_know_on_which_side_of_the_question_a_prompt_stands(placement: str, folders: dict[str, Path]) -> None:
    parts = assemble(config(folders["llama"], "opro", layout={"placement": placement}), MODELS)
    problem, spans = problem_of(parts), SpanBuilder(tiny_tokenizer("llama"), layout(placement))
    assert problem.prompt_first == spans.prompt_first
    wanted = meta_prompt([], EXAMPLES[:1], parts.method_config, problem.prompt_first)[0].content
    first = wanted.index(f"\n{SLOT}\n") < wanted.index(EXAMPLES[0].question)
    assert first == problem.prompt_first


def test_a_record_keeps_the_turns_as_they_were_rendered_and_a_run_holds_to_them(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    chosen = config(folders["llama"], "zero-shot-cot", layout={"placement": "system"})
    record = run_config(chosen, tmp_path / "run", models=MODELS)
    tokenizer = tiny_tokenizer("llama")
    turns = [{"role": "system", "content": "{prompt}"}, {"role": "user", "content": "{question}"}]
    assert record.rendered == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    (tmp_path / "run" / "record.json").unlink()
    noted = (tmp_path / "run" / "config.json").read_text()
    turns_hash = json.loads(noted)["inputs"]["turns"]
    (tmp_path / "run" / "config.json").write_text(noted.replace(turns_hash, "0" * 16))
    with pytest.raises(StoreError, match="was begun with other turns, which have changed since"):
        run_config(chosen, tmp_path / "run", models=MODELS)


@pytest.mark.parametrize("settings", [{}, {"frozen_prefix": ""}])
def test_an_exported_system_message_answers_the_same_by_hand(
    settings: dict[str, str], folders: dict[str, Path]
) -> None:
    chosen = config(folders["llama"], "greater", layout={"placement": "system", **settings})
    record = run_config(chosen, models=MODELS)
    exported = export(record, "json")
    assert exported["placement"] == "system"
    assert [m["role"] for m in exported["messages"]] == ["system", "user"]
    assert exported["messages"][0]["content"] == record.best.full_text
    assert record.best.survives_retokenization
    model, tokenizer = tiny_model("llama")
    rows = {row.id: row for row in load_task(chosen.task).test()}
    extractor = exported["extractor"]
    evaluation = record.evaluation("test", record.best)
    assert evaluation is not None
    for answer in evaluation.examples:
        question = rows[answer.id].question
        messages = [m | {"content": m["content"].replace("{question}", question)} for m in exported["messages"]]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        reasoning = go_on(model, tokenizer, ids, chosen.decoding.max_reasoning_tokens)
        assert tokenizer.decode(reasoning, skip_special_tokens=True) == answer.reasoning_text
        # What a random model writes is not always text, so its own tokens go on.
        ids += reasoning + tokenizer(extractor["glue"] + extractor["text"], add_special_tokens=False).input_ids
        said = go_on(model, tokenizer, ids, chosen.decoding.max_answer_tokens)
        assert tokenizer.decode(said, skip_special_tokens=True) == answer.answer_text.rstrip()


def go_on(model: Any, tokenizer: Any, ids: list[int], limit: int) -> list[int]:
    """Return what the model says next, up to a stop token, without blanks at its end."""
    context = torch.tensor([ids])
    mask = torch.ones_like(context)
    written = model.generate(context, attention_mask=mask, max_new_tokens=limit, do_sample=False)[
        0, len(ids) :
    ].tolist()
    written = written[: written.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in written else written
    while written and not tokenizer.decode(written[-1:]).strip():
        written.pop()
    return written


class Listening(Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize("settings", [{"placement": "system"}, {"system": "Be brief."}])
def test_a_model_without_system_messages_gets_the_text_in_front_and_the_run_says_so(
    settings: dict[str, str], folders: dict[str, Path]
) -> None:
    listening = Listening()
    chosen = config(folders["gemma3"], "zero-shot-cot", layout=settings, evaluation={"splits": ["test"]})
    record = run_config(chosen, models=MODELS, observer=listening)
    assert [text.partition(": ")[2] for text in listening.told] == [
        "its chat template has no system message; "
        + ("the prompt" if "placement" in settings else "the text meant for it")
        + " stands in front of the user's turn"
    ]
    (message,) = export(record, "messages")
    first, last = ("Let's think step by step.", "") if "placement" in settings else ("Be brief.\n\n", " step by step.")
    assert message["role"] == "user"
    assert message["content"].startswith(first)
    assert message["content"].endswith(last)
    assert run_config(config(folders["llama"], "zero-shot-cot", layout=settings, evaluation={"splits": []}),
                      models=MODELS, observer=(silent := Listening()))  # fmt: skip
    assert silent.told == []

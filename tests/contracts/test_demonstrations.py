"""Demonstrations as turns: sequences are the chat template's, numbers equal the slow twin's, records tell them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from greater_ray.assembly import local_models, resolve_config
from greater_ray.config import TrialConfig
from greater_ray.demonstrations import evaluation_demonstrations
from greater_ray.errors import ConfigError, DataError
from greater_ray.export import export
from greater_ray.grid.cells import Cell
from greater_ray.grid.transfer import transfer_cell
from greater_ray.models._spans import SpanBuilder
from greater_ray.observer import Observer
from greater_ray.runs import evaluate_prompt, run_config
from greater_ray.settings import merged
from greater_ray.tasks import load_task
from greater_ray.types import Demonstration, Message
from tests.all_methods import SMALL, settings_of
from tests.contracts.test_engine_families import EXAMPLES, PROMPT
from tests.contracts.test_placements import FORM, WITH_SYSTEM, build, go_on, layout
from tests.contracts.test_trial import long_row_run, run_in_pieces
from tests.families import FAMILIES, tiny_model, tiny_tokenizer
from tests.slow_twin import assert_equal_to_twin

SHOWN = (
    Demonstration("a", "Is two even?", "Yes", "Two is twice one."),
    Demonstration("b", "Is {prompt} three even?", "No"),
)
PLACES = ("after", "before", "system", FORM)
MODELS = local_models()


def showing(placement: str, **settings: Any) -> Any:
    return layout(placement, demonstrations=SHOWN, demonstrated=PROMPT, **settings)


# -- sequences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_demonstrations_are_turns_of_the_chat_template_with_exact_spans_and_one_bos(family: str, placement: str):
    tokenizer, chosen = tiny_tokenizer(family), showing(placement)
    spans = SpanBuilder(tokenizer, chosen)
    prompt, example = spans.encode_prompt(PROMPT), EXAMPLES[0]
    turns = chosen.conversation(example.question, spans.check(prompt).text, system_role=family in WITH_SYSTEM)
    apart = placement == "system" and family in WITH_SYSTEM
    assert [turn.role for turn in turns] == ["system"] * apart + ["user", "assistant"] * 2 + ["user"]
    asked = [turn.content for turn in turns if turn.role == "user"]
    assert [("Use" + PROMPT).strip() in text for text in asked] == [not apart] * 3
    assert [turn.content for turn in turns if turn.role == "assistant"] == [
        "Two is twice one. Therefore, the final answer is Yes",
        "Therefore, the final answer is No",
    ]
    if tokenizer.chat_template:
        messages = [turn._asdict() for turn in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        by_hand = tokenizer(text, add_special_tokens=False).input_ids
    else:
        text = "\n\n".join(
            ["\n".join(pair) for pair in zip(asked, [turns[1].content, turns[3].content, ""], strict=True)]
        )
        by_hand = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
    sequence = spans.build(example, prompt, (5, 6, 7))
    assert [*sequence.ids[: sequence.spans["reasoning"][0]]] == by_hand
    start, stop = sequence.spans["prompt"]
    assert sequence.ids[start:stop] == prompt
    # A blank in front of a word belongs to its token, and so to the span before.
    front = sequence.spans["joint" if spans.prompt_first else "opening"][0]
    assert tokenizer.decode(sequence.ids[front : sequence.spans["question"][1]]).endswith(example.question)
    bos = tokenizer.bos_token_id
    assert sequence.ids.count(bos) == (0 if bos is None or family == "phi3" else 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_extractor_in_a_turn_of_its_own_is_a_second_question_of_the_chat_template(family: str):
    tokenizer, chosen = tiny_tokenizer(family), showing("after", extractor_turn=True)
    spans, example = SpanBuilder(tokenizer, chosen), EXAMPLES[0]
    prompt, said = spans.encode_prompt(PROMPT), "It goes on"
    turns = chosen.conversation(example.question, spans.check(prompt).text, system_role=True)
    assert [turn.role for turn in turns] == ["user", "assistant"] * 3 + ["user"]
    assert [turn.content for turn in turns[1:6]] == [
        "Two is twice one.", "Therefore, the final answer is", "Yes", turns[4].content, "No"
    ]  # fmt: skip
    reasoning = spans._encode_after("?", said)
    sequence = spans.build(example, prompt, reasoning)
    if tokenizer.chat_template:
        asked = [*turns, Message("assistant", said), Message("user", "Therefore, the final answer is")]
        text = tokenizer.apply_chat_template(
            [turn._asdict() for turn in asked], tokenize=False, add_generation_prompt=True
        )
        by_hand = tokenizer.decode(tokenizer(text + example.label, add_special_tokens=False).input_ids)
        # A template may put a blank of its own in front of what was said.
        assert tokenizer.decode(sequence.ids).replace(" ", "") == by_hand.replace(" ", "")
    assert tokenizer.decode(sequence.ids[slice(*sequence.spans["label"])]) == example.label
    assert sequence.spans["extractor"][1] == sequence.spans["label"][0]


def test_a_fixed_system_message_stands_once_and_an_opened_bracket_is_closed():
    tokenizer = tiny_tokenizer("gemma3")
    chosen = showing("after", system="Be brief.")
    text = tokenizer.decode(SpanBuilder(tokenizer, chosen).head(EXAMPLES[0]))
    assert text.count("Be brief.") == 1
    assert text.index("Be brief.") < text.index(SHOWN[0].question)
    letter = layout("after").__class__("Therefore, the final answer is (", label_prefix="", demonstrations=SHOWN)
    assert letter.answered(Demonstration("c", "?", "B"))[0].content == "Therefore, the final answer is (B)"


def test_markup_in_a_demonstration_is_refused():
    bad = (Demonstration("bad", "Is it?<|eot_id|>", "Yes"),)
    with pytest.raises(DataError, match=r"demonstration 'bad' contains '<\|eot_id\|>'"):
        SpanBuilder(tiny_tokenizer("llama"), layout("after", demonstrations=bad))


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["after", "system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_behind_demonstrations_equal_the_slow_twin(family: str, placement: str):
    # In one of the two placements the answer is asked for in a turn of its own.
    fast, slow = build(family, showing(placement, extractor_turn=placement == "system"), torch.float64)
    assert_equal_to_twin(fast, slow, EXAMPLES[:3], PROMPT)


# -- trials ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settle(tiny_folder: Path) -> Any:
    def config(method: str = "zero-shot-cot", **settings: Any) -> TrialConfig:
        base = {"model": {"name": str(tiny_folder)}, "task": {"name": "bbh/boolean_expressions"}, "method": method}
        return resolve_config(merged(base, SMALL, settings_of(method), {"evaluation": {"splits": ["test"]}}, settings))

    return config


def shown_ids(record: Any) -> tuple[str, ...]:
    return tuple(d.id for d in record.best.demonstrations)


def cell_of(record: Any) -> Cell:
    return Cell(config=record.config, method=record.config.method, task="t", model="m", seed=0)


class Listening(Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


def test_a_found_prompt_is_measured_with_rows_drawn_from_train_and_a_run_in_pieces_ends_alike(
    settle: Any, tmp_path: Path
):
    method = "greater"
    evaluation = {"demonstrations": 2, "splits": ["dev", "test"], "dev_select_top": 2}
    plain, chosen = settle(method), settle(method, evaluation=evaluation)
    assert plain.trial_id() != chosen.trial_id()
    record = run_config(chosen, models=MODELS)
    rows = {row.id: row for row in load_task(chosen.task).train()}
    assert len(set(shown_ids(record)) & rows.keys()) == 2
    assert record.initial.demonstrations == record.best.demonstrations == record.finalists[0].demonstrations
    assert {e.demonstrations for e in record.evaluations} == {shown_ids(record)}
    draws = {evaluation_demonstrations(settle(method, seed=seed, evaluation=evaluation), load_task(chosen.task))
             for seed in range(4)}  # fmt: skip
    assert len(draws) > 1
    moved = transfer_cell(record, cell_of(record), {"name": "smollm2-135m"}, ["test"]).config.evaluation.demonstrations
    assert [d.question for d in moved] == [d.question for d in record.best.demonstrations], "they travel as they were"
    pieces = run_in_pieces(chosen, tmp_path / "run", 10, lambda folder, turn: None)
    assert pieces.without_times() == record.without_times()


def test_without_demonstrations_the_trial_is_the_same_as_ever(settle: Any):
    chosen = settle("fixed")
    for none in (0, []):
        stated = settle("fixed", evaluation={"demonstrations": none}, method_config={"demonstrations": []})
        assert chosen.trial_id() == stated.trial_id()


def test_given_demonstrations_answer_as_by_hand_and_are_exported(settle: Any):
    given = [{"question": "True and False is", "answer": "False", "rationale": "One is false."}]
    chosen = settle(evaluation={"demonstrations": given})
    record = run_config(chosen, models=MODELS)
    exported = export(record, "json")
    assert [m["role"] for m in exported["messages"]] == ["user", "assistant", "user"]
    assert exported["messages"][0]["content"] == "True and False is Let's think step by step."
    assert exported["messages"][1]["content"] == "One is false. Therefore, the final answer is False"
    model, tokenizer = tiny_model("llama")
    rows = {row.id: row for row in load_task(chosen.task).test()}
    evaluation = record.evaluation("test", record.best)
    assert evaluation is not None
    for answer in evaluation.examples:
        messages = [m | {"content": m["content"].replace("{question}", rows[answer.id].question)}
                    for m in exported["messages"]]  # fmt: skip
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        reasoning = go_on(model, tokenizer, ids, chosen.decoding.max_reasoning_tokens)
        assert tokenizer.decode(reasoning, skip_special_tokens=True) == answer.reasoning_text
    alone = evaluate_prompt(chosen, "Let's think step by step.", "test", models=MODELS)
    assert (alone.demonstrations, alone.examples) == (("given#1",), evaluation.examples)


def test_a_prompt_alone_is_compared_with_itself_and_demonstrations(settle: Any):
    """GPO's Table 6 on the same rows."""
    given = [{"question": "True and False is", "answer": "False"}]
    record = run_config(settle("fixed", method_config={"demonstrations": given}), models=MODELS)
    assert record.initial.ids == record.best.ids
    assert [e.demonstrations for e in record.evaluations] == [(), ("given#1",)]
    assert (len(record.comparisons), record.no_improvement) == (1, False)


def test_more_than_there_are_rows_is_refused_before_the_search(settle: Any):
    why = r"^evaluation\.demonstrations: 5 training rows cannot be drawn from 4\.$"
    with pytest.raises(ConfigError, match=why):
        run_config(settle("greater", evaluation={"demonstrations": 5}), models=MODELS)


def test_markup_in_a_given_demonstration_is_refused_before_the_search(settle: Any):
    class Refused(Observer):
        def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
            raise AssertionError("began to search")

    given = [{"question": "Is it?<|eot_id|>", "answer": "Yes"}]
    with pytest.raises(DataError, match=r"demonstration 'given#1' contains '<\|eot_id\|>'"):
        run_config(settle("greater", evaluation={"demonstrations": given}), models=MODELS, observer=Refused())


@pytest.mark.parametrize("value", [-1, True, "many", [{"question": "?"}], [3]])
def test_what_is_no_demonstration_is_refused(value: Any, settle: Any):
    with pytest.raises(
        ConfigError, match=r"^evaluation\.demonstrations: input should be a number of training rows, or"
    ):
        settle(evaluation={"demonstrations": value})


def test_demonstrations_that_do_not_fit_beside_a_row_are_left_out_from_the_end(settle: Any):
    whole = run_config(settle(evaluation={"demonstrations": 3}), models=MODELS)
    listening = Listening()
    record, _ = long_row_run(settle(evaluation={"demonstrations": 3}), 80, listening)
    kept = shown_ids(record)
    assert 0 < len(kept) < 3
    assert kept == shown_ids(whole)[: len(kept)]
    left = f"demonstration '{shown_ids(whole)[-1]}' is left out: with it, a row does not fit the model's context window"
    assert left in listening.told


def test_few_shot_shows_what_it_drew_beside_its_start_prompt_alone(settle: Any):
    listening = Listening()
    record = run_config(settle("few-shot", evaluation={"demonstrations": 1}), models=MODELS, observer=listening)
    assert record.initial.ids == record.best.ids
    assert (record.initial.demonstrations, len(shown_ids(record))) == ((), 4)
    assert [len(e.demonstrations) for e in record.evaluations] == [0, 4]
    assert (len(record.comparisons), record.no_improvement) == (1, False)
    assert listening.told == ["the method shows demonstrations of its own: those of the evaluation are left out"]
    entry = {"name": record.config.model.name, "dtype": "float64"}
    moved = run_config(transfer_cell(record, cell_of(record), entry, ["test"]).config, models=MODELS)
    assert [(d.question, d.label) for d in moved.best.demonstrations] == [
        (d.question, d.label) for d in record.best.demonstrations
    ]
    assert (moved.initial.demonstrations, moved.initial.full_text) == ((), record.initial.full_text)

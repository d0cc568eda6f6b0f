"""Demonstrations chosen per question: sequences and answers are those of conversations put together by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from greater_ray.assembly import local_models, resolve_config
from greater_ray.cli.app import run as run_command
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError
from greater_ray.export import export
from greater_ray.grid.transfer import transfer_cell
from greater_ray.models._spans import SpanBuilder
from greater_ray.runs import evaluate_prompt, run_config
from greater_ray.settings import merged
from greater_ray.tasks import load_task
from greater_ray.types import Demonstration, Example, Layout, LossSpec, Message
from greater_ray.work import EncodePrompt, Rollouts
from tests.all_methods import SMALL, settings_of
from tests.contracts.test_demonstrations import Listening, cell_of
from tests.contracts.test_engine_families import EXAMPLES, PROMPT
from tests.contracts.test_placements import FORM, WITH_SYSTEM, build, go_on, layout
from tests.contracts.test_trial import long_row_run, run_in_pieces
from tests.families import FAMILIES, tiny_model, tiny_tokenizer
from tests.slow_twin import assert_equal_to_twin
from tests.unit.test_likeness import by_hand

POOL = (
    Demonstration("one", "2 + 3 =", "5"),
    Demonstration("own", EXAMPLES[0].question, EXAMPLES[0].label),
    Demonstration("two", "not ( False ) or ( True ) is", "True", "True or anything is true."),
    Demonstration("three", "If you turn around, do you face the same way? Yes or no", "No"),
)
MODELS = local_models()


def chosen(rows: tuple[Demonstration, ...], question: str, count: int) -> tuple[Demonstration, ...]:
    return tuple(rows[place] for place in by_hand(question, [row.question for row in rows], count))


def showing(placement: str, **settings: Any) -> Layout:
    return layout(placement, demonstrations=POOL, demonstrated=PROMPT, nearest=2, **settings)


# -- sequences and numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["after", "before", "system", FORM])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_has_the_conversation_with_its_own_demonstrations(family: str, placement: str):
    tokenizer, whole = tiny_tokenizer(family), showing(placement)
    spans = SpanBuilder(tokenizer, whole)
    prompt = spans.encode_prompt(PROMPT)
    assert prompt == SpanBuilder(tokenizer, layout(placement)).encode_prompt(PROMPT), "the search has no demonstrations"
    shown = set()
    for example in EXAMPLES:
        own = chosen(POOL, example.question, 2)
        shown.add(own)
        assert example.question not in [d.question for d in own]
        fixed = layout(placement, demonstrations=own, demonstrated=PROMPT)
        by_itself = SpanBuilder(tokenizer, fixed)
        turns = fixed.conversation(example.question, spans.check(prompt).text, system_role=family in WITH_SYSTEM)
        assert turns == whole.conversation(
            example.question, spans.check(prompt).text, system_role=family in WITH_SYSTEM
        )
        assert (spans.head(example), spans.suffix(example)) == (by_itself.head(example), by_itself.suffix(example))
        assert spans.build(example, prompt, (5, 6)) == by_itself.build(example, prompt, (5, 6))
        if tokenizer.chat_template:
            messages = [turn._asdict() for turn in turns]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False).input_ids
            assert [*spans.head(example), *prompt, *spans.suffix(example)] == ids
    assert len(shown) > 2, "rows are shown different ones"


@pytest.mark.parametrize("placement", ["after", "before", "system"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_numbers_equal_the_slow_twin(family: str, placement: str):
    """Gemma's template has no system role, so there a prompt of that placement stands behind demonstrations."""
    fast, slow = build(family, showing(placement), torch.float64)
    assert_equal_to_twin(fast, slow, EXAMPLES[:3], PROMPT)


def test_the_choice_is_no_matter_of_the_other_rows_of_a_shard():
    fast, _ = build("llama", showing("after"), torch.float64)
    prompt, loss = fast.ask(EncodePrompt(PROMPT)), LossSpec(fluency="nll")
    (together,) = fast.ask(Rollouts(EXAMPLES[:3], [prompt], loss))
    for example, rollout in zip(EXAMPLES, together, strict=False):
        other, _ = build("llama", showing("after"), torch.float64)
        ((alone,),) = other.ask(Rollouts([example], [prompt], loss))
        assert (alone.reasoning, alone.label_ce) == (rollout.reasoning, pytest.approx(rollout.label_ce, rel=1e-9))


# -- trials ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settle(tiny_folder: Path) -> Callable[..., TrialConfig]:
    def config(method: str = "few-shot", **settings: Any) -> TrialConfig:
        base = {"model": {"name": str(tiny_folder)}, "task": {"name": "bbh/boolean_expressions"}, "method": method}
        base |= {"preset": "nearest", "method_config": {"shots": 2}} if method == "few-shot" else {}
        small = merged(SMALL, {"decoding": {"max_answer_tokens": 4}, "task": {"train_size": 6}})
        own = {} if method == "few-shot" else settings_of(method)
        return resolve_config(merged(base, small, own, {"evaluation": {"splits": ["train", "test"]}}, settings))

    return config


@pytest.fixture(scope="module")
def straight(settle: Callable[..., TrialConfig]) -> Any:
    return run_config(settle(), models=MODELS)


def test_every_answer_is_that_of_the_conversation_put_together_by_hand(straight: Any, settle: Any):
    config, task = straight.config, load_task(straight.config.task)
    pool = tuple(row.shown for row in task.train())
    assert [d.id for d in straight.best.demonstrations] == [row.id for row in task.train()]
    assert (straight.initial.nearest, straight.best.nearest) == (0, 2)
    assert {(len(e.demonstrations), e.nearest) for e in straight.evaluations} == {(0, 0), (6, 2)}
    model, tokenizer = tiny_model("llama")
    rows = {row.id: row for row in (*task.train(), *task.test())}
    for split in ("train", "test"):
        evaluation = straight.evaluation(split, straight.best)
        for answer in evaluation.examples:
            question = rows[answer.id].question
            shown = chosen(pool, question, 2)
            assert answer.id not in {d.id for d in shown}, "a row is never its own demonstration"
            messages = []
            for d in shown:
                messages += [
                    {"role": "user", "content": f"{d.question} Let's think step by step."},
                    {"role": "assistant", "content": f"Therefore, the final answer is {d.label}"},
                ]
            messages.append({"role": "user", "content": f"{question} Let's think step by step."})
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            reasoning = go_on(model, tokenizer, ids, config.decoding.max_reasoning_tokens)
            assert tokenizer.decode(reasoning, skip_special_tokens=True) == answer.reasoning_text


def test_a_run_in_pieces_ends_alike(straight: Any, tmp_path: Path):
    pieces = run_in_pieces(straight.config, tmp_path / "run", 2, lambda folder, turn: None)
    assert pieces.without_times() == straight.without_times()


def test_it_is_measured_again_by_evaluate_and_by_transfer_with_the_same_answers(
    straight: Any, settle: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    after = straight.evaluation("train", straight.best)
    moved = transfer_cell(straight, cell_of(straight), {"name": straight.config.model.name}, ["train"]).config
    record = run_config(moved, models=MODELS)
    assert (record.initial.nearest, record.best.nearest, len(record.best.demonstrations)) == (0, 2, 6)
    assert record.evaluation("train", record.best).examples == after.examples
    rows = {"demonstrations": [], "nearest": 2}
    common = settle("fixed", method_config={"prompt": straight.best.text}, evaluation=rows)
    assert evaluate_prompt(common, straight.best.ids, "train", models=MODELS).examples == after.examples
    both = run_config(common, models=MODELS)
    moved = transfer_cell(both, cell_of(both), {"name": straight.config.model.name}, ["train"]).config
    assert (len(moved.evaluation.demonstrations), moved.evaluation.nearest) == (6, 2)
    run_config(straight.config, tmp_path / "run", models=MODELS)
    assert run_command(["evaluate", "--run", str(tmp_path / "run"), "--split", "train", "--json"]) == 0
    said = capsys.readouterr().out
    shown = tuple(f"given#{k}" for k in range(1, 7))
    assert after.model_copy(update={"demonstrations": shown}).model_dump(mode="json") == json.loads(said)


@pytest.mark.parametrize("placed", [{}, {"placement": "system"}, {"placement": "before"}, {"system": "Be brief."}])
@pytest.mark.parametrize("system_role", [True, False])
def test_what_is_exported_puts_the_same_conversations_together(
    straight: Any, placed: dict[str, Any], system_role: bool
):
    config = straight.config.model_copy(update={"layout": straight.config.layout.model_copy(update=placed)})
    straight = straight.model_copy(update={"config": config, "model": straight.model | {"system_role": system_role}})
    why = r"^format: every question has 2 demonstrations of its own; json gives the pool and the rule\.$"
    with pytest.raises(ConfigError, match=why):
        export(straight, "messages")
    assert export(straight, "text") == straight.best.full_text
    whole = export(straight, "json")
    rule, question = whole["demonstrations"], "not ( True ) or False is"
    layout = straight.config.make_layout(" Therefore, the final answer is", " ")
    rows = tuple(Demonstration(**d.model_dump()) for d in straight.best.demonstrations)
    shown = chosen(rows, question, rule["nearest"])
    texts = {entry["question"]: entry["messages"] for entry in rule["pool"]}
    *system, last = whole["messages"]
    messages = [m for d in shown for m in texts[d.question]]
    messages.append(last | {"content": last["content"].replace("{question}", question)})
    messages[0] = messages[0] | {"content": rule.get("first_message_begins_with", "") + messages[0]["content"]}
    messages = [*system, *messages]
    told = replace(layout, demonstrations=rows, demonstrated=straight.best.text, nearest=2)
    assert tuple(Message(**m) for m in messages) == told.conversation(
        question, straight.best.text, system_role=system_role
    )


def test_the_farthest_is_left_out_where_a_row_leaves_no_room(settle: Any):
    listening = Listening()
    record, _ = long_row_run(settle(method_config={"shots": 3}, evaluation={"splits": ["test"]}), 80, listening)
    assert 0 < record.best.nearest < 3
    why = "the farthest of the 3 nearest demonstrations is left out: with it, a row does not fit the model's context"
    assert listening.told[0] == f"{why} window"
    assert len(record.best.demonstrations) == 6, "the pool stays whole"


def test_random_demonstrations_are_the_trial_they_were(settle: Any):
    for method, none in (("few-shot", {"selection": "random"}), ("fixed", {"nearest": 0})):
        preset = {"preset": "answer-only"} if method == "few-shot" else {}
        ids = {settle(method, **preset, **more).trial_id() for more in
               ({}, {"method_config": none}, {"evaluation": {"nearest": 0}})}  # fmt: skip
        assert len(ids) == 1
    assert settle().trial_id() != settle(preset="answer-only").trial_id()


@pytest.mark.parametrize(
    ("method", "settings", "why"),
    [
        ("few-shot", {"method_config": {"form": "text"}},
         r"method_config\.selection: input should be 'random' where method_config\.form is 'text', not 'nearest'"),
        ("fixed", {"method_config": {"nearest": 3}},
         r"method_config\.nearest: input should be at most 0, the number of method_config\.demonstrations, not 3"),
        ("fixed", {"evaluation": {"nearest": -1}}, r"evaluation\.nearest: input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(method: str, settings: dict[str, Any], why: str, settle: Any):
    with pytest.raises(ConfigError, match=why):
        settle(method, **settings)


def test_more_than_there_are_to_choose_from_is_refused_before_the_search(settle: Any):
    for evaluation, number in (({"nearest": 7}, 6), ({"nearest": 7, "demonstrations": 5}, 5)):
        with pytest.raises(
            ConfigError, match=rf"^evaluation\.nearest: 7 cannot be chosen from {number} demonstrations\.$"
        ):
            run_config(settle("greater", evaluation=evaluation), models=MODELS)


def test_the_layout_alone_decides_and_a_row_with_the_same_question_is_left_out():
    own = Example("x", "  2 + 3  = ", "5", "5")
    assert "one" not in [d.id for d in showing("after").shown(own.question)]
    assert [d.id for d in showing("after").shown("2 + 4 =")][-1] == "one", "the most alike is next to the question"

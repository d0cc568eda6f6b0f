import io
import json

import pytest

from greater_ray.cli._runs import default_folder
from greater_ray.cli._summary import data_title, print_trial, verdict
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.evaluation import compare, summarize
from greater_ray.export import export
from greater_ray.progress.screen import console
from greater_ray.records import ExampleRecord, PromptRecord, TrialRecord
from greater_ray.types import Usage

CONFIG = TrialConfig.model_validate({"model": {"name": "m"}, "task": {"name": "bbh/navigate", "data": "synthetic"}})


def rows(correct: list[bool]) -> list[ExampleRecord]:
    return [
        ExampleRecord(
            id=str(i), target="Yes", prediction="Yes" if c else None, score=float(c), strict_prediction=None,
            strict_score=0.0, truncated=not c, reasoning_tokens=3, label_ce=1.0 + i % 3, prompt_nll=1.0,
            answer_text="", reasoning_text="",
        )
        for i, c in enumerate(correct)
    ]  # fmt: skip


def trial(before: list[bool], after: list[bool], split: str = "test", **changes) -> TrialRecord:
    old = PromptRecord(ids=(1, 2), text=" think", full_text="Use think", survives_retokenization=True, loss=2.5)
    new = PromptRecord(ids=(1, 3), text=" care", full_text="Use care", survives_retokenization=True, loss=2.0)
    pair = (summarize(split, old.ids, rows(before)), summarize(split, new.ids, rows(after)))
    values = {
        "trial_id": CONFIG.trial_id(), "config": CONFIG, "stop_reason": "steps", "steps": 3, "initial": old,
        "best": new, "finalists": (new, old), "evaluations": pair, "comparisons": (compare(*pair),),
        "optimization_usage": Usage(scored_tokens=234, generated_tokens=1000, seconds=61),
        "evaluation_usage": Usage(), "model": {}, "environment": {}, "chosen_by": ("train",),
        "task": {"name": "bbh/navigate", "task": "bbh/navigate (synthetic)", "source": "synthetic"},
    }  # fmt: skip
    return TrialRecord(**values | changes)


def shown(record: TrialRecord) -> str:
    stream = io.StringIO()
    print_trial(console(stream, True), record)
    return stream.getvalue()


def test_the_summary_has_every_figure():
    text = shown(trial([False] * 20 + [True] * 4, [True] * 20 + [False] * 4))
    for part in (
        "greater on bbh/navigate (synthetic) with m: 3 steps, stopped by steps",
        "prompt before: Use think",
        "prompt after:  Use care",
        "2.5000 before, 2.0000 after",
        "test (24 rows)",
        "16.7 % [6.7, 35.9]",
        "83.3 %",
        "+66.7 points [",
        "p value",
        "0.00154",
        "strict accuracy",
        "unreadable",
        "83.3 % -> 16.7 %",
        "truncated",
        "1,234 tokens",
        "1,000 written",
        "0:01:01",
        "the new prompt is better by more than noise explains",
    ):
        assert part in text, part


def test_the_cost_of_the_writer_is_shown_beside_the_task_models():
    assert "optimizer:" not in shown(trial([True], [True]))
    spent = Usage(calls=12, prefill_tokens=1000, generated_tokens=234, seconds=61)
    text = shown(trial([True], [True], optimizer_usage=spent))
    assert "optimizer:  12 calls, 1,234 tokens (1,000 read, 234 written) in 0:01:01 by the task model" in text
    other = CONFIG.model_copy(update={"optimizer_model": ModelConfig(name="openai/x")})
    text = shown(trial([True], [True], optimizer_usage=Usage(calls=3, seconds=2), config=other))
    assert "optimizer:  3 calls, no token counts in 0:00:02 by openai/x\n" in text
    lost = Usage(calls=12, seconds=2, unreadable=5)
    assert "by the task model, 5 replies unreadable\n" in shown(trial([True], [True], optimizer_usage=lost))


def test_noise_is_called_noise():
    sentence, _ = verdict(trial([True, False, False, True], [True, True, False, True]))
    assert "within noise" in sentence
    assert "p = 1" in sentence
    sentence, _ = verdict(trial([True] * 20, [False] * 20))
    assert "is worse" in sentence
    sentence, _ = verdict(trial([True, False], [True, False]))
    assert "no difference at all" in sentence


def test_the_loss_is_judged_by_its_own_paired_interval():
    record = trial([True, False], [True, False])
    assert "changed within noise" in verdict(record)[1]
    change = {"label_ce_difference": -0.4, "label_ce_interval": (-0.6, -0.2)}
    clear = record.model_copy(update={"comparisons": (record.comparisons[0].model_copy(update=change),)})
    assert "changed by more than noise explains there (-0.400 [-0.600, -0.200])" in verdict(clear)[1]


def test_nothing_is_claimed_without_held_out_rows():
    assert "says nothing about new rows" in verdict(trial([True, False], [True, True], "train"))[0]
    assert verdict(trial([True, False], [True, True], "dev"))[-1] == "Test rows were not evaluated."
    same = trial([True], [True])
    assert "nothing has changed" in verdict(same.model_copy(update={"best": same.initial}))[0]


def test_proposals_that_could_not_be_used_are_told_from_a_search_that_found_nothing_better():
    def said(calls: int, **proposals: int) -> str:
        found = trial([True], [True], optimizer_usage=Usage(calls=calls), proposals=proposals)
        assert not found.no_improvement
        same = found.model_copy(update={"best": found.initial})
        assert same.no_improvement
        (sentence,) = verdict(same)
        return sentence

    useless = "None of the proposals could be used (duplicate 3, unreadable 5): the start prompt stays."
    assert said(8, duplicate=3, unreadable=5) == useless
    assert "nothing has changed" in said(8, duplicate=3, scored=1)
    assert "nothing has changed" in said(8, **{"not better on the minibatch": 2}, duplicate=3)
    assert "nothing has changed" in said(8), "no step was finished"


def test_rows_that_chose_the_prompt_are_not_called_new():
    on_dev = trial([True, False], [True, True], "dev")
    assert "On dev rows" in verdict(on_dev)[0]
    chosen = on_dev.model_copy(update={"chosen_by": ("train", "dev")})
    assert "says nothing about new rows" in verdict(chosen)[0]
    on_test = trial([True, False], [True, True], "test").model_copy(update={"chosen_by": ("dev",)})
    assert "On test rows" in verdict(on_test)[0]


def test_made_rows_are_always_called_synthetic():
    assert data_title({"name": "bbh/navigate", "source": "synthetic"}) == "bbh/navigate (synthetic)"
    assert (
        data_title({"name": "x", "task": "bbh/navigate (synthetic)", "source": "synthetic"}).count("(synthetic)") == 1
    )
    assert data_title({"name": "bbh/navigate", "source": "hub"}) == "bbh/navigate"


def test_export_is_what_the_model_saw():
    record = trial([True], [True])
    assert export(record, "text") == "Use care"
    assert export(record, "messages") == [{"role": "user", "content": "{question} Use care"}]
    whole = export(record, "json")
    assert json.loads(json.dumps(whole))["extractor"]["text"] == "Therefore, the final answer is"
    bare = CONFIG.model_copy(update={"layout": CONFIG.layout.model_copy(update={"frozen_prefix": ""})})
    assert export(record.model_copy(update={"config": bare}), "messages")[0]["content"] == "{question} care"


@pytest.mark.parametrize(
    ("layout", "system_role", "turns"),
    [
        ({"placement": "system"}, True, [("system", "Use care"), ("user", "{question}")]),
        ({"placement": "system", "frozen_prefix": ""}, True, [("system", "care"), ("user", "{question}")]),
        ({"placement": "system"}, False, [("user", "Use care {question}")]),
        ({"placement": "before", "joint": "\n"}, True, [("user", "Use care\n{question}")]),
        ({"placement": "Q: {question}\nA: {prompt}."}, True, [("user", "Q: {question}\nA: Use care.")]),
        ({"system": "Be brief."}, True, [("system", "Be brief."), ("user", "{question} Use care")]),
        ({"system": "Be brief."}, False, [("user", "Be brief.\n\n{question} Use care")]),
        ({"system": ""}, False, [("user", "{question} Use care")]),
    ],
)
def test_export_has_the_prompt_where_it_was(layout: dict, system_role: bool, turns: list[tuple[str, str]]):
    config = CONFIG.model_copy(update={"layout": CONFIG.layout.model_copy(update=layout)})
    record = trial([True], [True]).model_copy(update={"config": config, "model": {"system_role": system_role}})
    assert export(record, "messages") == [{"role": role, "content": content} for role, content in turns]


def test_the_same_settings_mean_the_same_folder():
    other = CONFIG.model_copy(update={"shard_size": 4})
    assert default_folder(CONFIG) == default_folder(CONFIG.model_copy())
    assert default_folder(CONFIG) != default_folder(other)
    assert default_folder(CONFIG).name.startswith("bbh-navigate-m-greater-seed0-")

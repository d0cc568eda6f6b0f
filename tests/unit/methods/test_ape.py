"""One-shot APE: how much is written and scored, and which instruction is taken; numbers are by hand."""

import math
from collections import Counter
from itertools import count

import pytest

from greater_ray.methods.ape import PLUGIN, ApeConfig, induction_request
from tests.prompt_table import START, LetterModel, ids, in_turn, last, named, outcome, problem, run, tag

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def config(**values: object) -> ApeConfig:
    settings = {
        "initial_prompt": START, "queries": 2, "demonstrations": 2, "samples_per_query": 5, "samples_per_step": 2,
        "num_scored": 3, "retries": 0,
    } | values  # fmt: skip
    return ApeConfig(**settings)


def words():
    """Every reply is a new word."""
    numbers = count()
    return lambda c, row: tag("word " + "".join(LETTERS[int(d)] for d in str(next(numbers))))


def test_each_query_shows_the_same_rows_to_all_its_samples():
    given, writer = problem(LetterModel(), words(), train=9)
    state, infos = run(PLUGIN, given, config())
    # Five samples, two a step: 2 + 2 + 1, for each of two queries.
    assert [num for num, *_ in writer.settings] == [2, 2, 1, 2, 2, 1]
    assert {(tokens, t) for _, tokens, t, _ in writer.settings} == {(150, 0.9)}
    assert len({seed for *_, seed in writer.settings}) == 6
    first, second = {last(c) for c in writer.asked[:5]}, {last(c) for c in writer.asked[5:]}
    assert (len(first), len(second), first & second) == (1, 1, set())
    assert all(text.count("Output: (Yes)") == 2 for text in first | second)
    assert (len(infos), state.finished, len(state.archive)) == (6, True, 11)


def test_likelihood_is_taken_without_reasoning_and_the_likeliest_wins():
    model = LetterModel(ce={START: 2.0, "fair": 1.0, "good": 0.5, "bad": 3.0})
    given, _ = problem(model, in_turn("fair", "bad", "good", "fair"), dev=6)
    state, infos = run(PLUGIN, given, config(queries=1, samples_per_query=4))
    assert [s.score for s in state.archive] == pytest.approx([math.exp(-ce) for ce in (2.0, 1.0, 3.0, 0.5)])
    assert outcome(infos[1]) == [("good", "scored"), ("fair", "duplicate")]
    assert model.text(state.result) == " good"
    assert state.initial_loss == pytest.approx(1 - math.exp(-2))
    assert {reasoning_of for _, reasoning_of in model.questions("rollouts")} == {()}
    assert [texts for texts, _ in model.scored] == [(START,), ("fair", "bad"), ("good",)], "one call for a step"
    assert len({rows for _, rows in model.scored}) == 1, "all on the same rows"
    assert len(model.scored[0][1]) == 3


def test_accuracy_lets_the_model_reason():
    model = LetterModel(right={"good": ids("d", 3), "fair": ids("d", 2)})
    given, _ = problem(model, in_turn("fair", "good"))
    state, _ = run(PLUGIN, given, config(queries=1, samples_per_query=2, criterion="accuracy", num_scored=99))
    assert [s.score for s in state.archive] == [0.0, 0.5, 0.75]
    assert {reasoning_of for _, reasoning_of in model.questions("rollouts")} == {None}
    assert model.text(state.result) == " good"


def test_each_prompt_can_have_rows_of_its_own():
    model = LetterModel()
    given, _ = problem(model, words(), dev=30)
    run(PLUGIN, given, config(rows="own"))
    assert all(len(texts) == 1 and len(rows) == 3 for texts, rows in model.scored)
    assert len({rows for _, rows in model.scored}) == 11
    again = LetterModel()
    run(PLUGIN, problem(again, words(), dev=30)[0], config(rows="own"))
    assert again.scored == model.scored


def test_there_may_be_fewer_rows_than_asked_for():
    model = LetterModel()
    given, writer = problem(model, words(), train=1, dev=0)
    run(PLUGIN, given, config(queries=1, demonstrations=5))
    assert Counter(len(rows) for _, rows in model.scored) == {1: 4}
    assert last(writer.asked[0]).count("Input: question t0?") == 1


@pytest.mark.parametrize("reply", ["No tags at all.", None])
def test_when_nothing_can_be_used_the_start_prompt_stays(reply: str | None):
    given, _ = problem(LetterModel(), lambda c, row: reply)
    state, infos = run(PLUGIN, given, config())
    assert state.result == given.encode(START)
    assert (state.failed, len(state.archive)) == (10, 1)
    assert infos[-1].notes[-1] == "no proposal could be used: the start prompt stays"
    assert ("the writer gave nothing: refused" in infos[-1].notes) is (reply is None)


def test_a_start_prompt_that_is_likelier_than_all_others_stays():
    model = LetterModel(ce={START: 0.1})
    given, _ = problem(model, words())
    state, _ = run(PLUGIN, given, config())
    assert (model.text(state.result), state.steps_since_best) == (" " + START, 5)


@pytest.mark.parametrize(("samples", "per_step", "expected"), [(50, 10, 5), (5, 2, 3), (1, 10, 1), (10, 10, 1)])
def test_steps_of_a_query(samples: int, per_step: int, expected: int):
    assert config(samples_per_query=samples, samples_per_step=per_step).steps_per_query == expected


def test_the_induction_request_on_real_rows():
    rows = named("t", 2)
    text = last(induction_request(rows, 30, "tagged"))
    assert "Input: question t0?\nOutput: (Yes)\n\nInput: question t1?\nOutput: (Yes)\n\nWhich instruction" in text
    assert "30 words at most" in text
    assert "<prompt>...</prompt>" in text
    assert "<prompt>" not in last(induction_request(rows, 30, "whole"))


def test_settings_of_the_published_runs():
    held = ApeConfig()
    assert (held.queries, held.demonstrations, held.samples_per_query, held.num_scored) == (5, 5, 50, 50)
    assert (held.temperature, held.criterion) == (0.9, "likelihood")
    accuracy = ApeConfig(**PLUGIN.presets["accuracy"]["method_config"])
    assert (accuracy.queries, accuracy.samples_per_query, accuracy.num_scored) == (3, 30, 20)
    assert accuracy.criterion == "accuracy"
    released = ApeConfig(**PLUGIN.presets["released"]["method_config"])
    assert (released.reply, released.rows, released.max_new_tokens) == ("whole", "own", 50)

"""GReaTer's rules, one by one, on a model whose beliefs are a table; expected values are worked out by hand."""

import math
from typing import Any

import pytest

from greater_ray.errors import ConfigError
from greater_ray.methods._tokens import remember
from greater_ray.methods.greater import PLUGIN, GreaterConfig, GreaterState, criterion
from greater_ray.protocols import Problem
from greater_ray.types import LossSpec, Rollout
from greater_ray.work import TokenTexts
from tests.scripted import START, ScriptedModel, config, evaluated, rows, state_at, step

# With prompt NLL 0 the fluency term exp(0) is 1, so a label CE of c gives a loss of c + 0.2.
ONE = 0.2


# -- selection (Eq. 6, 7) ----------------------------------------------------------------------------------------------


def test_the_steepest_candidates_are_evaluated_and_the_smallest_loss_wins():
    model = ScriptedModel(
        slope={" then": -4.0, " and": -3.0, " check": -2.0, " slow": -1.0},
        outcomes={" then step by": (5, 0, False), " and step by": (3, 0, False), " slow step by": (0, 0, True)},
    )
    state, info = step(model, config(num_evaluated=3))
    assert evaluated(info) == [" then", " and", " check"]
    assert [c.gradient for c in info.candidates] == [-16.0, -12.0, -8.0]
    assert [c.loss for c in info.candidates] == pytest.approx([5 + ONE, 3 + ONE, 9 + ONE])
    assert model.text(state.prompt_ids) == info.prompt_text == " and step by"
    assert (info.loss, info.candidates[info.accepted].token, state.step, state.position) == (
        3 + ONE,
        model.id(" and"),
        1,
        1,
    )


@pytest.mark.parametrize(("ties", "winner"), [("first", " then"), ("last", " and")])
def test_ties_go_to_the_first_or_the_last(ties: str, winner: str):
    same = (4.0, 0.0, False)
    model = ScriptedModel(
        slope={" then": -3.0, " and": -2.0, " check": -1.0},
        outcomes={" then step by": same, " and step by": same, " check step by": (5.0, 0.0, False)},
    )
    info = step(model, config(num_evaluated=3, ties=ties))[1]
    assert info.candidates[info.accepted].token == model.id(winner)


@pytest.mark.parametrize(("always", "expected"), [(False, [" then"]), (True, [" then", " think"])])
def test_the_current_token_can_be_evaluated_in_any_case(always: bool, expected: list[str]):
    model = ScriptedModel(slope={" then": -1.0, " think": 5.0})
    _, info = step(model, config(num_evaluated=1, always_include_current=always))
    assert evaluated(info) == expected


STOPS = {" then": -4.0, ".": -3.0, " and": -2.0}


@pytest.mark.parametrize(
    ("position", "breaks", "expected", "winner"),
    [
        (2, True, [" then", "."], "."),
        (1, True, [" then", ".", " and"], " and"),  # before half of the initial length, 3 / 2
        (2, False, [" then", ".", " and"], " and"),
    ],
)
def test_a_period_ends_the_search_from_half_of_the_initial_length(
    position: int, breaks: bool, expected: list[str], winner: str
):
    model = ScriptedModel(ranking={"": (" then", ".", " and", " check")}, slope=STOPS)
    state = state_at(model, position)
    better = model.text((*state.prompt_ids[:position], model.id(" and"), *state.prompt_ids[position + 1 :]))
    model.outcomes = {better: (1.0, 0.0, True)}
    model.asked.clear()
    _, info = step(model, config(num_evaluated=3, period_break=breaks, count_initial=False), state)
    assert (evaluated(info), model.ask(TokenTexts([info.candidates[info.accepted].token]))) == (expected, [winner])
    (prompts, _), *more = model.questions("rollouts")
    assert (len(prompts), more) == (len(expected), []), "nothing behind the period is computed"


@pytest.mark.parametrize(("source", "taken_over"), [("fresh", None), ("current", START)])
def test_candidates_reason_for_themselves_or_take_over_the_current_reasoning(source: str, taken_over: str | None):
    model = ScriptedModel()
    step(model, config(candidate_reasoning=source, count_initial=False))
    ((_, reasoning_of),) = model.questions("rollouts")
    assert reasoning_of == taken_over


@pytest.mark.parametrize("without", [False, True])
def test_the_gradient_can_do_without_reasoning(without: bool):
    model = ScriptedModel()
    step(model, config(gradient_without_reasoning=without, ce_temperature=0.5, fluency="nll", fluency_weight=0.1))
    ((_, loss, with_reasoning, _),) = model.questions("gradients")
    assert with_reasoning is not without
    assert loss == LossSpec(0.5, "nll", 0.1)


ROLLOUTS = [Rollout((), False, 1.0, 0.0, True), Rollout((), False, 3.0, math.log(2), False)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2 + 0.2 * 1.5),  # mean CE 2, mean exp(NLL) (1 + 2) / 2
        ({"fluency": "nll"}, 2 + 0.2 * 0.34657359),  # mean NLL ln(2) / 2
        ({"fluency": "nll", "fluency_weight": 0.0}, 2.0),
        ({"criterion": "mistakes", "fluency": "nll", "selection_fluency_weight": 0.02}, 0.5 + 0.02 * 0.34657359),
        ({"criterion": "mistakes"}, 0.5 + 0.2 * 1.5),
        ({"selection_fluency_weight": 0.0}, 2.0),
    ],
)
def test_the_criterion_is_the_mean_over_rows(settings: dict[str, Any], expected: float):
    assert criterion(config(**settings), ROLLOUTS) == pytest.approx(expected, abs=1e-8)


# -- where to go next (Appendix B) -------------------------------------------------------------------------------------


def last_step(word: str, room: int | None = None, **settings: Any) -> tuple[ScriptedModel, GreaterState]:
    """Accept ``word`` at the last position."""
    model = ScriptedModel(ranking={"": (word,)}, slope={word: -1.0}, room=room)
    return model, step(model, config(num_evaluated=1, **settings), state_at(model, 2))[0]


def test_positions_follow_one_another_and_the_prompt_grows_at_the_end_only():
    model, state = ScriptedModel(), None
    lengths = []
    for _ in range(4):
        state, info = step(model, config(), state)
        lengths.append((info.position, len(info.prompt_ids), len(state.prompt_ids)))
    assert lengths == [(0, 3, 3), (1, 3, 3), (2, 3, 4), (3, 4, 5)]
    assert (state.open, model.text(state.prompt_ids)[-1]) == (True, "_")


@pytest.mark.parametrize("word", [".", "?", "!"])
def test_an_ending_character_leads_back_to_the_start(word: str):
    model, state = last_step(word)
    assert (state.position, state.open, model.text(state.prompt_ids)) == (0, False, f" think step{word}")


def test_other_endings_and_limits():
    assert last_step("?", ending_characters=".")[1].position == 3
    assert last_step(" and", dynamic_length=False)[1].position == 0
    assert last_step(" and", max_prompt_tokens=3)[1].position == 0
    assert last_step(" and", max_prompt_tokens=4)[1].position == 3
    assert last_step(" and", room=3)[1].position == 0
    assert last_step(" and", room=4)[1].position == 3
    assert last_step(" and")[1].initial_length == 3


@pytest.mark.parametrize(("allowed", "expected"), [(False, {" then", " by"}), (True, {" then", " by", "_"})])
def test_a_placeholder_is_a_candidate_only_where_allowed(allowed: bool, expected: set[str]):
    model = ScriptedModel(ranking={"": (" then", " by", "_")}, slope={"_": -9.0})
    state = state_at(model, 3, START + "_", open=True)
    cfg = config(placeholder_candidate=allowed, always_include_current=True)
    _, info = step(model, cfg, state)
    assert set(evaluated(info)) == expected


def test_a_grown_prompt_is_remembered_without_its_placeholder():
    model, state = last_step(" and")
    assert model.text(state.prompt_ids) == " think step and_"
    assert {model.text(ids) for _, ids in state.best} == {START, " think step and"}


# -- the best prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counted", "expected"), [(True, [START, " then step by"]), (False, [" then step by"])])
def test_the_initial_prompt_counts_only_if_asked(counted: bool, expected: list[str]):
    model = ScriptedModel(slope={" then": -1.0}, outcomes={START: (1.0, 0.0, True)})
    state, _ = step(model, config(num_evaluated=1, count_initial=counted))
    assert [model.text(ids) for _, ids in state.best] == expected
    assert state.steps_since_best == (1 if counted else 0)


def test_ten_distinct_prompts_are_remembered_earlier_first_among_equals():
    best: tuple = ()
    for k in range(12):
        best = remember(best, float(k % 3), (k,))
    assert [ids[0] for _, ids in best] == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5]
    assert remember(best, -1.0, (4,)) == best, "known ones are not entered twice"
    assert remember(best, 0.0, (99,))[4] == (0.0, (99,))
    assert GreaterState(prompt_ids=(7,), best=best).result == (0,)
    assert GreaterState(prompt_ids=(7,)).result == (7,)


@pytest.mark.parametrize(("num_rows", "restarts"), [(4, True), (99, True), (100, False), (101, True)])
def test_a_loss_below_the_threshold_begins_again_except_with_a_hundred_rows(num_rows: int, restarts: bool):
    model = ScriptedModel(ranking={"": (" then",)}, slope={" then": -1.0})
    model.outcomes = {" think then by": (0.1, 0.0, True)}
    cfg = config(num_evaluated=1, restart_below=0.12, fluency_weight=0.0)
    begun = state_at(model, 1, best=((0.5, (1,)),), step=3).model_copy(update={"initial_length": 9})
    state, info = step(model, cfg, begun, num_rows=num_rows)
    assert info.best_loss == pytest.approx(0.1)
    assert model.text(state.prompt_ids) == " think then by"
    if restarts:
        assert (state.position, state.best, state.open) == (0, (), False)
        assert state.initial_length == len(state.prompt_ids) == 3, "the period break acts from its half on"
    else:
        assert (state.position, len(state.best)) == (2, 2)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_initial_prompt_is_refused(text: str):
    with pytest.raises(ConfigError, match="initial_prompt"):
        PLUGIN.start(Problem(rows(2), ScriptedModel(), 0), GreaterConfig(initial_prompt=text))


def test_an_initial_prompt_continues_the_frozen_prefix_with_a_blank():
    model = ScriptedModel()
    texts = [model.text(PLUGIN.start(Problem(rows(2), model, 0), config(initial_prompt=t)).prompt_ids)
             for t in ("think by", " think by")]  # fmt: skip
    assert texts == [" think by", " think by"]


PAPER = {
    "initial_prompt": " proper logical reasoning and think step by step. Finally, give the actual correct answer.",
    "top_k": 10, "top_k_growth": 2, "min_candidates": 6, "proposal_samples": 5, "intersections": 1,
    "token_filter": "ascii", "ban_previous_token": False, "filter_round_trip": True, "num_evaluated": 3,
    "ce_temperature": 1.0, "fluency": "exp", "fluency_weight": 0.2, "gradient_without_reasoning": False,
    "criterion": "loss", "candidate_reasoning": "fresh", "ties": "first", "always_include_current": False,
    "period_break": False, "dynamic_length": True, "ending_characters": ".?!", "placeholder": "_",
    "placeholder_candidate": False, "count_initial": True, "restart_below": None,
}  # fmt: skip
RELEASED = PAPER | {
    "initial_prompt": " proper logical reasoning and think step by step. Finally give the actual correct answer.",
    "top_k": 40, "intersections": 6, "token_filter": "released", "ban_previous_token": True,
    "filter_round_trip": False, "ce_temperature": 0.2, "fluency": "nll", "criterion": "mistakes",
    "selection_fluency_weight": 0.02, "ties": "last", "period_break": True, "ending_characters": ".",
    "placeholder_candidate": True, "count_initial": False, "restart_below": 0.12,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "steps", "joint", "dev"),
    [("paper", PAPER, 105, None, None), ("released", RELEASED, 106, ". ", 10)],
)
def test_presets_hold_the_published_values(name: str, values: dict, steps: int, joint: str | None, dev: int | None):
    preset = PLUGIN.presets[name]
    held = GreaterConfig(**preset.get("method_config", {})).model_dump()
    assert {key: held[key] for key in values} == values
    assert preset["budget"] == {"steps": steps}
    assert preset.get("layout", {}).get("joint") == joint
    assert preset.get("evaluation", {}).get("dev_select_top") == dev

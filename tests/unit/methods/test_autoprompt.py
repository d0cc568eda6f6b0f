"""AutoPrompt's rules on a model whose beliefs are a table; expected values are worked out by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from greater_ray.errors import ConfigError
from greater_ray.methods._tokens import mean_fit
from greater_ray.methods.autoprompt import PLUGIN, AutoPromptConfig
from greater_ray.protocols import MethodState, Problem, StepInfo
from greater_ray.types import Example, Layout, LossSpec, Rollout, Usage
from greater_ray.work import Gradients, Rollouts
from tests.scripted import START, Distance, ScriptedModel, evaluated, rows

DEV = tuple(Example(f"dev{k}", f"dev question {k}", "Yes", "Yes") for k in range(3))
SLOPE = {" then": -4.0, " and": -3.0, " check": -2.0, " slow": -1.0}


@dataclass
class TwoSets(ScriptedModel):
    """``on_dev`` holds the label CE of a prompt on dev rows, where it differs."""

    on_dev: Mapping[str, float] = field(default_factory=dict)

    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        assert work.reasoning_of == (), "no reasoning anywhere"
        results, examples, prompts = super().rollouts(work, layout)[0], work.examples, work.prompts
        if examples[0].id.startswith("dev"):
            self.asked[-1] = ("dev", self.asked[-1][1][0])
            ces = [self.on_dev.get(self.text(p), rows[0].label_ce) for p, rows in zip(prompts, results, strict=True)]
            return [[Rollout((), False, ce, 0.0, False)] * len(examples) for ce in ces], Usage()
        return results, Usage()


def at(position: int, word: str) -> str:
    """The start with another word at a position."""
    words = [" think", " step", " by"]
    return "".join([*words[:position], word, *words[position + 1 :]])


def problem_with(model: ScriptedModel, seed: int = 0, dev: tuple[Example, ...] = DEV, num: int = 4) -> Problem:
    return Problem(rows(num), model, seed, dev=dev)


def step(model: ScriptedModel, seed: int = 0, **settings: Any) -> tuple[int, MethodState, StepInfo]:
    """Return the position that is drawn, and what the first step did."""
    problem = problem_with(model, seed)
    config = AutoPromptConfig(**{"initial_prompt": START, "num_candidates": 3} | settings)
    position = problem.rng(0, "position").randrange(3)
    return position, *PLUGIN.step(problem, config, PLUGIN.start(problem, config))


def position_of(seed: int) -> int:
    return Problem(rows(4), ScriptedModel(), seed).rng(0, "position").randrange(3)


def test_the_steepest_tokens_of_the_vocabulary_are_tried_and_the_best_replaces_the_token():
    place = position_of(0)
    model = TwoSets(
        slope=SLOPE,
        outcomes={START: (5.0, 0, False), at(place, " and"): (3.0, 0, False), at(place, " slow"): (0.0, 0, True)},
    )
    position, state, info = step(model)
    assert (position, info.position) == (place, place)
    # Four rows: the summed gradient is 4, so the slopes are four times those of the table.
    assert [(c.text, c.gradient) for c in info.candidates] == [(" then", -16.0), (" and", -12.0), (" check", -8.0)]
    assert [c.loss for c in info.candidates] == [9.0, 3.0, 9.0], " slow is better, but the fourth by gradient"
    assert (info.accepted, info.loss, info.prompt_text) == (1, 3.0, at(place, " and"))
    assert model.text(state.prompt_ids) == at(place, " and")
    ((_, loss, with_reasoning, _),) = model.questions("gradients")
    assert (loss.ce_temperature, loss.fluency_weight, with_reasoning) == (1.0, 0.0, False)


@pytest.mark.parametrize(("candidate", "accepted"), [(5.0, None), (4.999, 0)])
def test_a_candidate_must_be_strictly_better_than_the_current_prompt(candidate: float, accepted: int | None):
    place = position_of(0)
    model = TwoSets(slope=SLOPE, outcomes={START: (5.0, 0, False), at(place, " then"): (candidate, 0, False)})
    _, state, info = step(model)
    assert info.accepted == accepted
    assert model.text(state.prompt_ids) == (START if accepted is None else at(place, " then"))
    assert len(model.questions("dev")) == (1 if accepted is None else 2), "dev rows are asked for changes only"


def test_equal_candidates_go_to_the_steepest():
    place = position_of(0)
    same = (3.0, 0, False)
    model = TwoSets(slope=SLOPE, outcomes={START: (5.0, 0, False), at(place, " and"): same, at(place, " check"): same})
    assert step(model)[2].accepted == 1


@pytest.mark.parametrize(("on_dev", "best"), [(1.5, "changed"), (2.0, "start"), (2.1, "start")])
def test_the_starts_dev_score_is_the_bar(on_dev: float, best: str):
    place = position_of(0)
    changed = at(place, " then")
    model = TwoSets(
        slope=SLOPE,
        outcomes={START: (5.0, 0, False), changed: (1.0, 0, False)},
        on_dev={START: 2.0, changed: on_dev},
    )
    _, state, info = step(model)
    assert model.text(state.prompt_ids) == changed, "the search goes on from it either way"
    assert model.text(state.result) == {"changed": changed, "start": START}[best]
    assert (state.initial_loss, info.best_loss) == (2.0, min(on_dev, 2.0))


def test_without_dev_rows_training_rows_keep_the_bar():
    model = ScriptedModel(slope=SLOPE, outcomes={START: (5.0, 0, False)})
    problem, config = problem_with(model, dev=()), AutoPromptConfig(initial_prompt=START)
    state, _ = PLUGIN.step(problem, config, PLUGIN.start(problem, config))
    assert state.initial_loss == 5.0


def test_the_current_token_is_no_candidate():
    place = position_of(0)
    current = (" think", " step", " by")[place]
    model = TwoSets(slope={**SLOPE, current: -9.0}, outcomes={START: (5.0, 0, False)})
    assert evaluated(step(model)[2]) == [" then", " and", " check"]


def test_tokens_that_do_not_survive_are_passed_over_and_deeper_ones_follow():
    seed = next(s for s in range(50) if position_of(s) == 2)
    slope = {"s": -9.0, **SLOPE}
    assert evaluated(step(TwoSets(slope=slope), seed)[2]) == [" then", " and", " check"], "' step' + 's' is ' steps'"
    assert evaluated(step(TwoSets(slope=slope), seed, filter_round_trip=False)[2]) == ["s", " then", " and"]


def test_a_used_up_vocabulary_gives_what_there_is():
    model = TwoSets(slope=SLOPE, outcomes={START: (5.0, 0, False)})
    _, _, info = step(model, num_candidates=20, filter_round_trip=False)
    assert len(info.candidates) == len(model.words) - 1
    assert info.notes == ("few candidates: the vocabulary is used up",)
    assert [count for count, _ in model.questions("steepest_tokens")] == [80]


def test_positions_are_drawn_by_seed_and_step():
    problem = problem_with(TwoSets(slope=SLOPE))
    config = AutoPromptConfig(initial_prompt=START)
    state, places = PLUGIN.start(problem, config), []
    for _ in range(12):
        state, info = PLUGIN.step(problem, config, state)
        places.append(info.position)
    assert set(places) == {0, 1, 2}
    again = PLUGIN.start(problem, config)
    assert [
        (again := (done := PLUGIN.step(problem, config, again))[0]) and done[1].position for _ in range(12)
    ] == places


def test_gradient_and_trial_take_rows_of_their_own():
    class Noting(TwoSets):
        def gradients(self, work: Gradients, layout: Layout | None) -> tuple[Any, Usage]:
            self.asked.append(("rows", [e.id for e in work.examples]))
            return super().gradients(work, layout)

        def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[Any, Usage]:
            self.asked.append(("rows", [e.id for e in work.examples]))
            return super().rollouts(work, layout)

    model = Noting(slope=SLOPE)
    problem = problem_with(model, num=9)
    config = AutoPromptConfig(initial_prompt=START, batches=2, batch_size=2)
    PLUGIN.step(problem, config, PLUGIN.start(problem, config))
    gradient, trial, dev = model.questions("rows")
    assert len(gradient) == len(trial) == 4
    assert gradient != trial
    assert gradient == sorted(gradient)
    assert dev == [e.id for e in DEV]


@pytest.mark.parametrize(("criterion", "expected"), [("loss", 2.0), ("mistakes", 0.5)])
def test_the_criterion_is_a_mean_over_rows(criterion: str, expected: float):
    assert (
        mean_fit([Rollout((), False, 1.0, 0.0, True), Rollout((), False, 3.0, 9.0, False)], criterion, LossSpec())
        == expected
    )


def test_a_known_better_prompt_is_found():
    model = Distance(slope=SLOPE)
    problem = problem_with(model)
    config = AutoPromptConfig(initial_prompt=START)
    state = PLUGIN.start(problem, config)
    for _ in range(20):
        state, _ = PLUGIN.step(problem, config, state)
    assert model.text(state.result) == model.goal
    assert [loss for loss, _ in state.best] == [0.0, 1.0, 2.0, 3.0]
    assert state.steps_since_best > 0


def test_an_empty_start_is_refused():
    with pytest.raises(ConfigError, match="has no tokens"):
        PLUGIN.start(problem_with(ScriptedModel()), AutoPromptConfig(initial_prompt=" "))

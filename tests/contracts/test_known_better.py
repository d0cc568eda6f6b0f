"""On models by table: where better prompts are written, or better tokens are likely, a method finds a better prompt."""

from itertools import count

import pytest

from greater_ray.config import parse
from greater_ray.methods.greater import PLUGIN as GREATER
from greater_ray.methods.greater_textual import PLUGIN as GREATER_TEXTUAL
from greater_ray.plugins import load
from greater_ray.protocols import Problem
from greater_ray.types import Layout, Rollout, Usage
from greater_ray.work import Rollouts
from tests.all_methods import NEEDED, WRITING
from tests.babbler import babble
from tests.letters import LetterModel, read, task
from tests.scripted import START, Distance, ScriptedWriter, config, rows

GOOD = ("think", "check", "plan")
# Works on tokens that words are written for; its own test is in tests/unit/methods/test_greater_textual.py.
WHOLE_PROMPTS = [name for name in WRITING if load("methods", name) is not GREATER_TEXTUAL]


class GoodWords(LetterModel):
    """A prompt answers one more row in three rightly for each of three words that it holds."""

    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        found = [_good(self.text(prompt)) for prompt in work.prompts]
        return [
            [Rollout(p, False, 3.0 - n, 0.0, n > int(e.id[1:]) % 3) for e in work.examples]
            for p, n in zip(work.prompts, found, strict=True)
        ], Usage()


def _good(text: str) -> int:
    return sum(word in text for word in GOOD)


@pytest.mark.parametrize("method", WHOLE_PROMPTS)
def test_a_known_better_prompt_is_found(method: str):
    plugin = load("methods", method)
    config = parse(plugin.config_type, NEEDED[method]["method_config"] if method in NEEDED else {})
    model = GoodWords(right=lambda prompt, row: _good(prompt) > int(row.id[1:]) % 3)
    draw = count()
    writer = ScriptedWriter(lambda conversation, row: babble(conversation, next(draw)).text)
    problem = Problem(task(9, "t"), model, 0, dev=task(9, "d"), optimizer=writer, read=read)
    begin = state = plugin.start(problem, config)
    for _ in range(25):
        if not state.finished:
            state, _ = plugin.step(problem, config, state)
    assert _good(model.text(state.result)) > _good(model.text(begin.result))


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("dynamic_length", [False, True])
def test_greater_finds_a_known_better_prompt_with_and_without_reasoning_in_its_gradient(
    without: bool, dynamic_length: bool
):
    # Steepest are two words that do no good: taking a word is left to its loss.
    model = Distance(slope={" by": -5.0, " step": -4.0, " then": -3.0, " and": -2.0, " check": -1.0})
    problem = Problem(rows(4), model, 0)
    settings = config(num_evaluated=5, gradient_without_reasoning=without, dynamic_length=dynamic_length)
    state = GREATER.start(problem, settings)
    assert model.text(state.result) == START
    for _ in range(4):
        state, _ = GREATER.step(problem, settings, state)
    assert model.text(state.result) == model.goal
    assert state.best[0][0] < 1 < state.initial_loss, "the loss is the distance and a constant"
    assert {with_reasoning for _, _, with_reasoning, _ in model.questions("gradients")} == {not without}

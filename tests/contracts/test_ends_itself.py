"""Methods that end by themselves say beforehand with which step: what a plan and the time left go by."""

from collections.abc import Callable
from itertools import product

import pytest

from greater_ray.config import parse
from greater_ray.plugins import load
from greater_ray.protocols import EndsItself
from greater_ray.types import Conversation
from tests.all_methods import METHODS
from tests.letters import setting

ENDING = [name for name in METHODS if isinstance(load("methods", name), EndsItself)]
ROWS = 10
# By hand. A search over a beam expands the start, then as many prompts as there are, the beam's width at most.
CASES = [
    ("ape", {"queries": 2, "samples_per_query": 5, "samples_per_step": 2, "num_scored": 2}, 2 * 3),
    ("ape-iterative", {"train_steps": 1}, 1),
    ("ape-iterative", {"train_steps": 3, "n_beam": 4, "n_expand": 2}, 1 + 3),
    ("ape-iterative", {"train_steps": 4, "n_beam": 5, "n_expand": 2, "backtrack": False}, 1 + 2 + 4),
    ("apo", {}, 1 + 4 + 4),
    ("pe2", {}, 1 + 4 + 4),
    ("protegi", {"evaluator": "ucb", "rounds": 3}, (1 + 8) + 2 * (4 + 8)),
    # Four arms in the first round, two and their six children in the second one; two arms a pull.
    (
        "protegi",
        {"rounds": 2, "beam_size": 2, "max_expansion_factor": 3, "eval_prompts_per_round": 2},
        (1 + 2) + (2 + 4),
    ),
    # Every phase drops an arm, until two are left.
    (
        "protegi",
        {"evaluator": "successive-rejects", "rounds": 2, "beam_size": 2, "max_expansion_factor": 3},
        (1 + 2) + (2 + 6),
    ),
    # One gradient, its edit, and a paraphrase of it and of the parent: three children, four arms.
    (
        "protegi",
        {"evaluator": "successive-rejects", "rounds": 1, "beam_size": 1, "n_gradients": 1, "mc_samples_per_step": 1},
        1 + 3,
    ),
    ("gpo", {"epochs": 2, "batch_size": 4}, 2 * 3),
    ("few-shot", {}, 1),
    ("fixed", {"prompt": "Take care."}, 0),
    ("zero-shot-cot", {}, 0),
]


def author() -> Callable[[Conversation, int], str]:
    """Write another text every time, in every form that is asked for."""
    words = ("".join(letters) for letters in product("abcdefghij", repeat=4))

    def reply(conversation: Conversation, row: int) -> str:
        text = f"Try {next(words)}."
        return "\n".join(f"<{tag}>{text}</{tag}>" for tag in ("prompt", "reason", "summary"))

    return reply


def steps_of(method: str, settings: dict, reply: Callable) -> tuple[int, int]:
    """Run a method to its own end; return how many steps it took, and how many it had said."""
    plugin = load("methods", method)
    config = parse(plugin.config_type, settings)
    problem, _, _ = setting({}, reply, train=ROWS)
    state, most = plugin.start(problem, config), plugin.most_steps(config, ROWS)
    while not state.finished and state.step <= most:
        state, _ = plugin.step(problem, config, state)
    return state.step, most


@pytest.mark.parametrize(("method", "settings", "steps"), CASES)
def test_a_method_ends_with_the_step_that_it_said(method: str, settings: dict, steps: int):
    assert steps_of(method, settings, author()) == (steps, steps)


@pytest.mark.parametrize(("method", "settings", "steps"), CASES)
def test_it_ends_no_later_where_nothing_is_written(method: str, settings: dict, steps: int):
    taken, most = steps_of(method, settings, lambda conversation, row: None)
    assert taken <= most == steps


def test_the_rest_is_ended_by_a_budget():
    assert set(ENDING) == {method for method, _, _ in CASES}


@pytest.mark.parametrize("method", ENDING)
def test_no_preset_cuts_a_method_off(method: str):
    plugin = load("methods", method)
    for preset in plugin.presets.values():
        config = parse(plugin.config_type, preset.get("method_config", {}))
        assert plugin.most_steps(config, 100) <= preset["budget"]["steps"]

"""AutoPrompt and PEZ choose the same tokens through the fast engine as through the slow twin."""

from typing import Any

import pytest
import torch

from greater_ray.methods._tokens import NoReasoningConfig
from greater_ray.methods.autoprompt import AutoPromptConfig
from greater_ray.methods.pez import PezConfig
from greater_ray.plugins import load
from greater_ray.protocols import Problem
from greater_ray.work import EncodePrompt, Rollouts
from tests.contracts.test_engine_families import EXAMPLES, PROMPT, build

SHORT = " think step by step"


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_labels_are_scored_without_reasoning_like_the_slow_twin(family: str) -> None:
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    (ours,), (theirs,) = (
        m.ask(Rollouts(EXAMPLES, [prompt], NoReasoningConfig().loss, reasoning_of=())) for m in (fast, slow)
    )
    assert all(r.reasoning == () for r in ours)
    assert [r.label_ce for r in ours] == pytest.approx([r.label_ce for r in theirs], rel=1e-9)
    assert [r.label_hit for r in ours] == [r.label_hit for r in theirs]


@pytest.mark.parametrize(
    ("method", "config", "steps"),
    [
        ("autoprompt", AutoPromptConfig(initial_prompt=SHORT, num_candidates=3, batches=1, batch_size=2), 3),
        ("pez", PezConfig(initial_prompt=SHORT, iterations=2, batch_size=2), 3),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_steps_choose_the_same_tokens_as_the_slow_twin(family: str, method: str, config: Any, steps: int) -> None:
    fast, slow = build(family, torch.float64)
    paths, losses = [], []
    for model in (fast, slow):
        plugin, problem = load("methods", method), Problem(EXAMPLES[:3], model, seed=0, dev=EXAMPLES[3:])
        state, path = plugin.start(problem, config), []
        for _ in range(steps):
            state, info = plugin.step(problem, config, state)
            path.append((info.prompt_ids, info.accepted, [c.token for c in info.candidates]))
            losses.append(info.loss)
        paths.append((path, [ids for _, ids in state.best]))
    assert paths[0] == paths[1]
    assert losses[:steps] == pytest.approx(losses[steps:], rel=1e-6)
    assert len({prompt for prompt, _, _ in paths[0][0]}) > 1

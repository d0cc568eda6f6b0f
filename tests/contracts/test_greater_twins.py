"""GReaTer chooses the same tokens through the fast engine as through the slow twin, and its gradients are true."""

import pytest
import torch

from greater_ray.methods.greater import PLUGIN, GreaterConfig
from greater_ray.protocols import Problem
from greater_ray.types import LossSpec
from greater_ray.work import EncodePrompt, Gradients, Rollouts
from tests.contracts.test_engine_families import EXAMPLES, PROMPT, build

SHORT = " think step by step"


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_eight_steps_choose_the_same_tokens_as_the_slow_twin(family: str) -> None:
    fast, slow = build(family, torch.float32)
    config = GreaterConfig(initial_prompt=SHORT, proposal_samples=2, top_k=8, min_candidates=4, num_evaluated=2)
    states, losses = [], []
    for model in (fast, slow):
        problem = Problem(EXAMPLES[:3], model, seed=0)
        state = PLUGIN.start(problem, config)
        path = []
        for _ in range(8):
            state, info = PLUGIN.step(problem, config, state)
            path.append((info.candidates[info.accepted].token, [c.token for c in info.candidates]))
            losses.append(info.loss)
        states.append((path, state.prompt_ids, state.position, [ids for _, ids in state.best]))
    assert states[0] == states[1]
    assert losses[:8] == pytest.approx(losses[8:], rel=1e-5)
    assert len({token for token, _ in states[0][0]}) > 1


@pytest.mark.parametrize("fluency", ["exp", "nll"])
def test_gradient_agrees_with_finite_differences(fluency: str) -> None:
    # GPT-2 keeps float64 throughout; others compute their norms in float32, which a difference quotient would see.
    fast, slow = build("gpt2", torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    loss = LossSpec(fluency=fluency, fluency_weight=0.01)
    position, example = 3, EXAMPLES[0]
    reasoning = fast.ask(Rollouts([example], [prompt], loss))[0][0].reasoning
    gradient = fast.ask(
        Gradients([example], prompt, loss, position=position, with_reasoning=True, depth=5, token_filter="ascii")
    )
    ids = torch.tensor(slow.sequence(example, prompt, reasoning))
    place = len(slow.spans.head(example)) + position
    direction = torch.randn(slow.embed.weight.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(step: float) -> float:
        embeds = slow.embed(ids).detach().clone()
        embeds[place] += step * direction
        with torch.no_grad():
            logits = slow.model(inputs_embeds=embeds[None], use_cache=False).logits[0]
        ce, nll = slow.loss(logits, example, prompt, loss, len(ids))
        return float(ce + loss.fluency_weight * (nll.exp() if fluency == "exp" else nll))

    step = 1e-5
    quotient = (value(step) - value(-step)) / (2 * step)
    analytic = float(torch.tensor(gradient.gradient, dtype=torch.float64) @ direction)
    assert analytic == pytest.approx(quotient, rel=1e-6)

"""Gradients at all prompt tokens, and searches over the vocabulary, against the slow twin and difference quotients."""

import pytest
import torch

from greater_ray.models import _vocabulary
from greater_ray.types import LossSpec
from greater_ray.work import (
    EncodePrompt,
    Gradients,
    NearestTokens,
    OneHotGradient,
    PromptGradients,
    SteepestTokens,
    TokenEmbeddings,
)
from tests.contracts.test_engine_families import EXAMPLES, PROMPT, build
from tests.families import FAMILIES

LOSS = LossSpec(ce_temperature=0.7, fluency="nll", fluency_weight=0.2)
# What AutoPrompt and PEZ differentiate: the label alone.
LABEL_ONLY = LossSpec(fluency_weight=0.0)


@pytest.mark.parametrize("with_reasoning", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_at_all_tokens_equal_the_slow_twin_and_those_at_single_positions(
    family: str, with_reasoning: bool
) -> None:
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    ours, theirs = (m.ask(PromptGradients(EXAMPLES, prompt, LOSS, with_reasoning=with_reasoning)) for m in (fast, slow))
    mine, reference = (torch.tensor(g.gradient, dtype=torch.float64) for g in (ours, theirs))
    assert mine.shape == (len(prompt), slow.embed.weight.shape[1])
    assert float((mine - reference).norm()) <= 1e-9 * float(reference.norm())
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-9)
    assert ours.proposals == ()
    every = list(range(slow.embed.weight.shape[0]))
    table = torch.tensor(fast.ask(TokenEmbeddings(every)), dtype=torch.float64)
    for position in (0, len(prompt) - 1):
        one = fast.ask(
            Gradients(
                EXAMPLES, prompt, LOSS, position=position, with_reasoning=with_reasoning, depth=1, token_filter="ascii"
            )
        )
        # Both are dL/d(one-hot weight), also where the model multiplies its embeddings.
        expected = torch.tensor(fast.ask(OneHotGradient(one.gradient, every)), dtype=torch.float64)
        assert float((table @ mine[position] - expected).norm()) <= 1e-9 * float(expected.norm()) + 1e-15
        # Not to the last bit: what stands before the position is another pass.
        assert one.losses == pytest.approx(ours.losses, rel=1e-12)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_same_pass_names_the_likeliest_tokens_at_every_position(family: str) -> None:
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))[:6]
    work = PromptGradients(EXAMPLES, prompt, LABEL_ONLY, with_reasoning=False, depth=3, token_filter="ascii")
    ours, theirs = (m.ask(work) for m in (fast, slow))
    assert ours.proposals == theirs.proposals
    assert {len(tokens) for lists in ours.proposals for tokens in lists} == {3}
    assert len(ours.proposals) == len(EXAMPLES)
    assert {len(lists) for lists in ours.proposals} == {6}


@pytest.mark.parametrize("family", ["gpt2"])
def test_gradients_without_reasoning_agree_with_finite_differences(family: str) -> None:
    # GPT-2 keeps float64 throughout; others compute their norms in float32, which a difference quotient would see.
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    example = EXAMPLES[0]
    (gradient,) = (fast.ask(PromptGradients([example], prompt, LABEL_ONLY, with_reasoning=False)).gradient,)
    ids = torch.tensor(slow.sequence(example, prompt, ()))
    place = len(slow.spans.head(example))
    size = (len(prompt), slow.embed.weight.shape[1])
    direction = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(step: float) -> float:
        embeds = slow.embed(ids).detach().clone()
        embeds[place : place + len(prompt)] += step * direction
        with torch.no_grad():
            logits = slow.model(inputs_embeds=embeds[None], use_cache=False).logits[0]
        return float(slow.loss(logits, example, prompt, LABEL_ONLY, len(ids))[0])

    step = 1e-5
    quotient = (value(step) - value(-step)) / (2 * step)
    assert float((torch.tensor(gradient, dtype=torch.float64) * direction).sum()) == pytest.approx(quotient, rel=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_steepest_tokens_are_those_of_the_slow_twin(family: str) -> None:
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    ours, theirs = (
        m.ask(Gradients(EXAMPLES, prompt, LABEL_ONLY, position=2, with_reasoning=False, depth=1, token_filter="ascii"))
        for m in (fast, slow)
    )
    for token_filter in ("ascii", "letters"):
        expected = slow.ask(SteepestTokens(theirs.gradient, 15, token_filter))
        assert fast.ask(SteepestTokens(ours.gradient, 15, token_filter)) == expected
    values = fast.ask(OneHotGradient(ours.gradient, expected))
    assert values == sorted(values)
    assert values[0] < 0
    assert len(fast.ask(SteepestTokens(ours.gradient, 10**6, "ascii"))) < len(slow.tokenizer)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_nearest_tokens_are_those_of_the_slow_twin(family: str) -> None:
    fast, slow = build(family, torch.float64)
    prompt = fast.ask(EncodePrompt(PROMPT))
    rows = torch.tensor(fast.ask(TokenEmbeddings(prompt)), dtype=torch.float64)
    assert fast.ask(TokenEmbeddings(prompt)) == slow.ask(TokenEmbeddings(prompt))
    assert fast.ask(NearestTokens((3 * rows).tolist(), "ascii")) == prompt, "a longer vector has the same direction"
    noise = torch.randn(rows.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = (rows + 2 * noise * rows.std()).tolist()
    nearest = fast.ask(NearestTokens(moved, "letters"))
    assert nearest == slow.ask(NearestTokens(moved, "letters"))
    assert nearest != prompt


def test_the_size_of_a_chunk_of_the_vocabulary_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, _ = build("llama", torch.float64)
    rows = fast.ask(TokenEmbeddings(range(0, 500, 7)))
    mixed = [[x + 0.5 * y for x, y in zip(a, b, strict=True)] for a, b in zip(rows[1:], rows, strict=False)]
    expected = fast.ask(NearestTokens(mixed, "ascii")), fast.ask(SteepestTokens(rows[3], 40, "ascii"))
    monkeypatch.setattr(_vocabulary, "_CHUNK", 37)
    assert (fast.ask(NearestTokens(mixed, "ascii")), fast.ask(SteepestTokens(rows[3], 40, "ascii"))) == expected

"""Every architecture: reasoning equals ``model.generate``, and all numbers equal those of the slow twin."""

import pytest
import torch

from greater_ray.models._attention import register, use_own_attention
from greater_ray.models.engine import Engine
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.types import Example, Layout, LossSpec
from greater_ray.work import Answers, EncodePrompt, Gradients, OneHotGradient, Proposals, Rollouts
from tests.families import FAMILIES, tiny_model
from tests.slow_twin import SlowTwin

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=24, max_answer_tokens=4)
# Lengths differ, so rows are padded; the longest exceeds every sliding window.
EXAMPLES = (
    Example("a", "not ( True ) and ( True ) is", "False", "False"),
    Example("b", "Is it?", "True", "True"),
    Example(
        "c", "If you take one step and turn and take three steps, do you return to the start? Yes or no", "No", "No"
    ),
    Example("d", "2 + 40 =", "42", "42"),
)
PROMPT = " proper logical reasoning and think step by step."


def build(family: str, dtype: torch.dtype, shard_size: int = 3) -> tuple[ShardedModel, SlowTwin]:
    model, tokenizer = tiny_model(family, dtype)
    # As the loader does. Gemma-2's own eager attention takes the softmax in float32, where batching shows in the eighth
    # digit.
    use_own_attention(model)
    fast = ShardedModel(LocalExecutor(Engine(model, tokenizer)), LAYOUT, shard_size)
    return fast, SlowTwin(model, tokenizer, LAYOUT)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_reasoning_equals_generate_token_for_token(family: str) -> None:
    fast, slow = build(family, torch.float32, shard_size=4)
    prompt = fast.ask(EncodePrompt(PROMPT))
    (rollouts,) = fast.ask(Rollouts(EXAMPLES, [prompt], LossSpec()))
    lengths = set()
    for example, rollout in zip(EXAMPLES, rollouts, strict=True):
        ids = list(slow.context(example, prompt))
        generated = slow.model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=24, do_sample=False
        )[0, len(ids) :].tolist()
        text = generated[: next((k for k, t in enumerate(generated) if t in slow.stop), None)]
        assert tuple(text[: len(rollout.reasoning)]) == rollout.reasoning
        assert not slow.tokenizer.decode(text[len(rollout.reasoning) :]).strip()
        assert rollout.truncated == (not set(generated) & slow.stop)
        lengths.add(len(rollout.reasoning))
    assert max(lengths) > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_one_hot_gradients_equal_the_slow_twin(family: str, dtype: torch.dtype, tolerance: float) -> None:
    fast, slow = build(family, dtype)
    prompt = fast.ask(EncodePrompt(PROMPT))
    loss = LossSpec(ce_temperature=0.7, fluency="nll", fluency_weight=0.2)
    (ours,), (theirs,) = (m.ask(Rollouts(EXAMPLES, [prompt], loss)) for m in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.reasoning, a.truncated, a.label_hit) == (b.reasoning, b.truncated, b.label_hit)
        assert a.label_ce == pytest.approx(b.label_ce, rel=tolerance, abs=tolerance)
        assert a.prompt_nll == pytest.approx(b.prompt_nll, rel=tolerance)
    for position in (0, len(prompt) // 2, len(prompt) - 1):
        for with_reasoning in (True, False):
            a, b = (
                m.ask(
                    Gradients(
                        EXAMPLES,
                        prompt,
                        loss,
                        position=position,
                        with_reasoning=with_reasoning,
                        depth=12,
                        token_filter="ascii",
                    )
                )
                for m in (fast, slow)
            )
            every = list(range(slow.embed.weight.shape[0]))
            mine = torch.tensor(fast.ask(OneHotGradient(a.gradient, every)), dtype=torch.float64)
            reference = torch.tensor(b.gradient, dtype=torch.float64)
            # Zero on both sides where a sliding window hides the position from the answer.
            assert float((mine - reference).norm()) <= tolerance * float(reference.norm())
            assert a.losses == pytest.approx(b.losses, rel=tolerance)
            assert a.proposals == b.proposals
            assert fast.ask(Proposals(EXAMPLES, prompt, position, 12, "ascii")) == list(b.proposals)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "qwen2"])
def test_wide_eager_attention_equals_the_architectures_own(family: str) -> None:
    model, tokenizer = tiny_model(family)
    ids = torch.tensor([tokenizer("If you take one step and turn and take three steps, do you return?").input_ids])
    with torch.no_grad():
        expected = model(ids).logits
        model.set_attn_implementation(register())
        assert torch.allclose(model(ids).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_decoded_answers_equal_the_slow_twin_with_and_without_known_reasoning(family: str) -> None:
    fast, slow = build(family, torch.float32)
    prompt = fast.ask(EncodePrompt(PROMPT))
    (fresh,) = fast.ask(Answers(EXAMPLES, [prompt]))
    (expected,) = slow.ask(Answers(EXAMPLES, [prompt]))
    fast = build(family, torch.float32)[0]
    fast.ask(Rollouts(EXAMPLES, [prompt], LossSpec()))
    (known,) = fast.ask(Answers(EXAMPLES, [prompt]))
    for answers in (fresh, known):
        assert [(a.reasoning_text, a.answer_text) for a in answers] == [
            (a.reasoning_text, a.answer_text) for a in expected
        ]
        for a, b in zip(answers, expected, strict=True):
            assert a.rollout.truncated == b.rollout.truncated
            assert a.rollout.label_ce == pytest.approx(b.rollout.label_ce, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sequence_is_tiled_by_its_spans_and_has_one_bos(family: str) -> None:
    _, slow = build(family, torch.float32)
    prompt = slow.ask(EncodePrompt(PROMPT))
    for example in EXAMPLES:
        sequence = slow.spans.build(example, prompt, (5, 6, 7))
        assert sequence.ids == slow.sequence(example, prompt, (5, 6, 7))
        for name, part in (("prompt", prompt), ("reasoning", (5, 6, 7)), ("label", slow.spans.label(example))):
            start, stop = sequence.spans[name]
            assert sequence.ids[start:stop] == part
        bos = slow.tokenizer.bos_token_id
        # Phi-3 has a BOS that neither its template nor its tokenizer writes: the model was trained without.
        expected = 0 if bos is None or family == "phi3" else 1
        assert sequence.ids.count(bos) == expected
        assert (sequence.ids[0] == bos) == bool(expected)

"""A sharded model: the cut does not change results, nothing is computed twice, everything is metered once."""

import json
import math

import pytest

from greater_ray.models.engine import Engine
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.types import Example, Layout, LossSpec, Shown, TokenIds, Usage
from greater_ray.work import Answers, EncodePrompt, Gradients, Proposals, Rollouts, Unit
from greater_ray.work.memory import ROLLOUTS
from tests.families import tiny_model

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=6, max_answer_tokens=3)
EXAMPLES = tuple(
    Example(f"row {k}", question, label, label)
    for k, (question, label) in enumerate(
        [
            ("not ( True ) and ( True ) is", "False"),
            ("Is it?", "True"),
            ("If you take one step and turn, do you return to the start?", "No"),
            ("2 + 40 =", "42"),
            ("Who is the tallest of the three?", "Bob"),
        ]
    )
)
LOSS = LossSpec(ce_temperature=0.7, fluency="nll")


@pytest.fixture(scope="module")
def engine() -> Engine:
    model, tokenizer = tiny_model("llama")
    # Many stop tokens, so that rows end after different numbers of tokens.
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(200, 220), *range(350, 400)]
    return Engine(model, tokenizer)


def sharded(engine: Engine, size: int = 2) -> ShardedModel:
    return ShardedModel(LocalExecutor(engine), LAYOUT, size)


@pytest.fixture
def prompt(engine: Engine) -> TokenIds:
    return engine.run(Unit(EncodePrompt(" think step by step."), LAYOUT))[0]


@pytest.fixture
def other(engine: Engine) -> TokenIds:
    return engine.run(Unit(EncodePrompt(" check every option"), LAYOUT))[0]


def spent(model: ShardedModel, before: Usage) -> Usage:
    return model.usage - before


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shard_size_changes_no_result(engine: Engine, prompt: TokenIds, other: TokenIds, size: int):
    whole, cut = sharded(engine, len(EXAMPLES)), sharded(engine, size)
    ends = set()
    for expected, got in zip(*(m.ask(Rollouts(EXAMPLES, [prompt, other], LOSS)) for m in (whole, cut)), strict=True):
        ends.update(r.truncated for r in expected)
        for a, b in zip(expected, got, strict=True):
            assert (a.reasoning, a.truncated, a.label_hit) == (b.reasoning, b.truncated, b.label_hit)
            assert (a.label_ce, a.prompt_nll) == pytest.approx((b.label_ce, b.prompt_nll), rel=1e-5, abs=1e-5)
    assert ends == {True, False}, "some rows run into the limit, some stop before"
    answers = [[(a.reasoning_text, a.answer_text) for a in m.ask(Answers(EXAMPLES, [prompt]))[0]] for m in (whole, cut)]
    assert answers[0] == answers[1]
    assert whole.ask(Proposals(EXAMPLES, prompt, 2, 5, "ascii")) == cut.ask(Proposals(EXAMPLES, prompt, 2, 5, "ascii"))


@pytest.mark.parametrize("with_reasoning", [True, False])
def test_the_gradient_of_the_whole_is_the_sum_over_shards(engine: Engine, prompt: TokenIds, with_reasoning: bool):
    settings = {"with_reasoning": with_reasoning, "depth": 5, "token_filter": "ascii"}
    whole = sharded(engine, 5).ask(Gradients(EXAMPLES, prompt, LOSS, position=1, **settings))
    cut = sharded(engine, 2).ask(Gradients(EXAMPLES, prompt, LOSS, position=1, **settings))
    parts = [
        sharded(engine).ask(Gradients(EXAMPLES[k : k + 2], prompt, LOSS, position=1, **settings)) for k in (0, 2, 4)
    ]
    assert cut.gradient == tuple(math.fsum(column) for column in zip(*(p.gradient for p in parts), strict=True))
    assert cut.gradient == pytest.approx(whole.gradient, rel=1e-4, abs=1e-5)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-5)
    assert cut.proposals == whole.proposals


def test_what_is_known_is_not_computed_again(engine: Engine, prompt: TokenIds, other: TokenIds):
    model = sharded(engine)
    first = model.ask(Rollouts(EXAMPLES[:4], [prompt, prompt], LOSS))
    assert model.usage.calls == 4, "the same prompt twice costs as much as once"
    before = model.usage
    assert model.ask(Rollouts(EXAMPLES[:4], [prompt], LOSS)) == first[:1]
    assert spent(model, before).tokens == 0
    model.ask(Rollouts(EXAMPLES, [prompt], LOSS))
    assert spent(model, before).calls == 1, "only the row of the new shard"
    before = model.usage
    model.ask(Rollouts(EXAMPLES[:2], [other, prompt], LOSS))
    assert spent(model, before).calls == 2, "only the new prompt"
    before = model.usage
    model.ask(Rollouts(EXAMPLES[:2], [prompt], LossSpec(ce_temperature=0.3)))
    assert spent(model, before).calls == 2, "another temperature is another number"
    keys = [json.dumps(line["key"]) for line in model.memory.fresh(ROLLOUTS)]
    assert len(keys) == len(set(keys)) == 5


def test_a_restored_model_pays_nothing_for_the_same_calls(engine: Engine, prompt: TokenIds):
    def work(model: ShardedModel) -> tuple:
        return (
            model.ask(Rollouts(EXAMPLES, [prompt], LOSS)),
            model.ask(Gradients(EXAMPLES, prompt, LOSS, position=0, with_reasoning=True, depth=3, token_filter="none")),
        )

    first = sharded(engine)
    expected = work(first)
    second = sharded(engine)
    second.memory.restore(ROLLOUTS, map(ROLLOUTS.read, json.loads(json.dumps(first.memory.fresh(ROLLOUTS)))))
    second.meter.restore(first.usage, first.meter.seen)
    assert second.usage == first.usage
    before = second.usage
    assert work(second) == expected
    cost = spent(second, before)
    assert (cost.generated_tokens, cost.prefill_tokens, cost.prefix_tokens) == (0, 0, 0)
    assert cost.backward_tokens == first.usage.backward_tokens, "gradients are not kept"
    assert second.memory.fresh(ROLLOUTS) == []


def test_questions_are_counted_once(engine: Engine, prompt: TokenIds, other: TokenIds):
    model = sharded(engine)
    spans = engine.spans(LAYOUT)
    once = sum(len(spans.head(example)) - 1 for example in EXAMPLES)
    for call in (
        lambda: model.ask(Rollouts(EXAMPLES, [prompt], LOSS)),
        lambda: model.ask(Rollouts(EXAMPLES, [other], LOSS)),
        lambda: model.ask(
            Gradients(EXAMPLES, prompt, LOSS, position=0, with_reasoning=True, depth=3, token_filter="none")
        ),
        lambda: model.ask(Answers(EXAMPLES, [other])),
    ):
        call()
        assert model.usage.prefix_tokens == once


def test_questions_marked_as_seen_are_not_counted(engine: Engine, prompt: TokenIds):
    model = sharded(engine)
    model.mark_seen(EXAMPLES[:2])
    model.ask(Rollouts(EXAMPLES[:4], [prompt], LOSS))
    spans = engine.spans(LAYOUT)
    assert model.usage.prefix_tokens == sum(len(spans.head(e)) - 1 for e in EXAMPLES[2:4])


def test_changed_rows_under_the_same_names_are_computed_anew(engine: Engine, prompt: TokenIds):
    model = sharded(engine)
    (first,) = model.ask(Rollouts(EXAMPLES[:2], [prompt], LOSS))
    changed = tuple(Example(e.id, "Is it not? " + e.question, e.target, e.label) for e in EXAMPLES[:2])
    (second,) = model.ask(Rollouts(changed, [prompt], LOSS))
    assert first != second
    assert second == sharded(engine).ask(Rollouts(changed, [prompt], LOSS))[0]


def test_reasoning_is_taken_over_from_another_prompt(engine: Engine, prompt: TokenIds, other: TokenIds):
    model = sharded(engine)
    (own,) = model.ask(Rollouts(EXAMPLES, [prompt], LOSS))
    before = model.usage
    (taken,) = model.ask(Rollouts(EXAMPLES, [other], LOSS, reasoning_of=prompt))
    assert spent(model, before).generated_tokens == 0
    assert [r.reasoning for r in taken] == [r.reasoning for r in own]
    assert [r.label_ce for r in taken] != pytest.approx([r.label_ce for r in own])
    (fresh,) = model.ask(Rollouts(EXAMPLES, [other], LOSS))
    assert [r.reasoning for r in fresh] != [r.reasoning for r in own]
    assert [r.prompt_nll for r in fresh] == pytest.approx([r.prompt_nll for r in taken], rel=1e-5)
    (same,) = model.ask(Rollouts(EXAMPLES, [prompt], LOSS, reasoning_of=prompt))
    assert [r.label_ce for r in same] == pytest.approx([r.label_ce for r in own], rel=1e-5, abs=1e-5)


def test_answers_take_known_reasoning_over_and_keep_whether_it_was_cut(engine: Engine, prompt: TokenIds):
    fresh, model = sharded(engine), sharded(engine)
    expected = fresh.ask(Answers(EXAMPLES, [prompt]))[0]
    (rollouts,) = model.ask(Rollouts(EXAMPLES, [prompt], LOSS))
    before = model.usage
    answers = model.ask(Answers(EXAMPLES, [prompt]))[0]
    most = len(EXAMPLES) * LAYOUT.max_answer_tokens
    assert spent(model, before).generated_tokens <= most < fresh.usage.generated_tokens
    assert [a.rollout.truncated for a in answers] == [r.truncated for r in rollouts]
    for a, b in zip(answers, expected, strict=True):
        assert (a.reasoning_text, a.answer_text) == (b.reasoning_text, b.answer_text)
        assert (a.rollout.reasoning, a.rollout.truncated) == (b.rollout.reasoning, b.rollout.truncated)
        assert a.rollout.label_ce == pytest.approx(b.rollout.label_ce, rel=1e-5, abs=1e-5)


def test_reasoning_that_was_taken_over_is_no_answer_of_the_prompt_itself(
    engine: Engine, prompt: TokenIds, other: TokenIds
):
    model = sharded(engine)
    model.ask(Rollouts(EXAMPLES, [other], LOSS, reasoning_of=prompt))
    expected = sharded(engine).ask(Answers(EXAMPLES, [other]))[0]
    assert [a.reasoning_text for a in model.ask(Answers(EXAMPLES, [other]))[0]] == [a.reasoning_text for a in expected]


def test_results_under_demonstrations_are_kept_apart_and_metered_together(engine: Engine, prompt: TokenIds):
    model = sharded(engine)
    shown = Shown((EXAMPLES[0].shown,))
    other = model.showing(shown, prompt)
    plain, with_examples = (m.ask(Rollouts(EXAMPLES, [prompt], LOSS))[0] for m in (model, other))
    assert plain != with_examples
    cost = model.usage.tokens
    assert other.usage.tokens == cost, "one meter"
    assert model.showing(shown, prompt).ask(Rollouts(EXAMPLES, [prompt], LOSS))[0] == with_examples
    assert model.usage.tokens == cost, "known results cost nothing"
    lines = json.loads(json.dumps(model.memory.fresh(ROLLOUTS)))
    assert other.memory.fresh(ROLLOUTS) == [], "one file for all"
    restored = sharded(engine)
    restored.memory.restore(ROLLOUTS, map(ROLLOUTS.read, lines))
    assert restored.ask(Rollouts(EXAMPLES, [prompt], LOSS))[0] == plain
    assert restored.showing(shown, prompt).ask(Rollouts(EXAMPLES, [prompt], LOSS))[0] == with_examples
    assert restored.usage.tokens == 0

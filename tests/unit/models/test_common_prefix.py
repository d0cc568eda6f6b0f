"""A prefix that several rows have in common is read where it lies, and what prompts have in common is run once."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from greater_ray.models._attention import WIDE, use_own_attention, wide_eager_attention
from greater_ray.models._decode import RowBatch, common_beginning
from greater_ray.models._kv import Lanes, SlotStore
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, Rollout
from greater_ray.work import EncodePrompt, Rollouts, Unit
from tests.families import FAMILIES, tiny_model
from tests.slow_twin import SlowTwin

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=20)
SHARD = (
    Example("a", "not ( True ) and ( True ) is", "False", "False"),
    Example("b", "Is it?", "True", "True"),
    Example("c", "If you take one step and turn, do you return to the start? Yes or no", "No", "No"),
)
LOSS = LossSpec(fluency="nll")
TEXTS = (
    " proper logical reasoning and think step by step.",
    " proper logical reasoning.",
    " proper logical Yes or no?",
)


def engine_of(family: str, dtype: torch.dtype = torch.float64) -> Engine:
    model, tokenizer = tiny_model(family, dtype)
    use_own_attention(model)
    return Engine(model, tokenizer)


def prompts_of(engine: Engine) -> list[Any]:
    return [engine.run(Unit(EncodePrompt(text), LAYOUT))[0] for text in TEXTS]


def assert_equal(ours: Iterable[Rollout], theirs: Iterable[Rollout], tolerance: float = 1e-9) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.reasoning, a.truncated, a.label_hit) == (b.reasoning, b.truncated, b.label_hit)
        assert (a.label_ce, a.prompt_nll) == pytest.approx((b.label_ce, b.prompt_nll), rel=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_of_one_question_equal_the_slow_twin(family: str, monkeypatch: pytest.MonkeyPatch):
    engine = engine_of(family)
    assert engine.decoder.shares
    shared: list[int] = []
    share = SlotStore.share_prefix
    monkeypatch.setattr(
        SlotStore, "share_prefix", lambda store, prefix, rows: (shared.append(len(rows)), share(store, prefix, rows))
    )
    prompts = prompts_of(engine)
    (begin, *_), _ = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)
    # Rows end at different times, so that the others change places.
    stop = frozenset(r.reasoning[k] for r, k in zip(begin, (2, 5, 9), strict=True) if k < len(r.reasoning))
    engine.decoder = replace(engine.decoder, stop_tokens=stop)
    ours, _ = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)
    assert shared == [9, 9]
    twin = SlowTwin(engine.model, engine.tokenizer, LAYOUT)
    twin.stop = set(stop)
    theirs = twin.ask(Rollouts(SHARD, prompts, LOSS))
    for mine, its in zip(ours, theirs, strict=True):
        assert_equal(mine, its)
    assert len({len(rollout.reasoning) for rollouts in ours for rollout in rollouts}) > 1


@pytest.mark.parametrize("look", [2, 3, 8, 64])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_looking_seldom_for_rows_that_end_changes_no_result(family: str, look: int):
    engine = engine_of(family)
    prompts = prompts_of(engine)
    (begin, *_), _ = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)
    stop = frozenset(r.reasoning[k] for r, k in zip(begin, (2, 5, 9), strict=True) if k < len(r.reasoning))
    engine.decoder = replace(engine.decoder, stop_tokens=stop)
    often, usage = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)
    engine.decoder = replace(engine.decoder, look=look)
    seldom, same_usage = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)
    for mine, its in zip(seldom, often, strict=True):
        assert_equal(mine, its)
    assert same_usage == usage
    lengths = [len(rollout.reasoning) for rollouts in often for rollout in rollouts]
    assert len(set(lengths)) > 2, "rows end at different times"


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_many_queries_a_row_and_copies_of_the_prefix_give_the_same(family: str):
    engine = engine_of(family)
    prompts = prompts_of(engine)
    # More tokens at once than are attended to in one product.
    long = [tuple(range(40, 120))] * len(SHARD)
    for work in (Rollouts(SHARD, prompts, LOSS, reasoning=long), Rollouts(SHARD, prompts, LOSS)):
        ours, _ = engine.rollouts(work, LAYOUT)
        plain = engine_of(family)
        plain.decoder = replace(plain.decoder, shares=False)
        theirs, _ = plain.rollouts(work, LAYOUT)
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)


def test_a_unit_in_pieces_gives_what_it_gives_in_one():
    whole, pieces = engine_of("llama"), engine_of("llama")
    pieces._decode_batch.limit = 4
    work = Rollouts(SHARD, prompts_of(whole), LOSS)
    (ours, used), (theirs, one) = pieces.rollouts(work, LAYOUT), whole.rollouts(work, LAYOUT)
    for a, b in zip(ours, theirs, strict=True):
        assert_equal(a, b)
    assert used.tokens == one.tokens


def test_what_prompts_have_in_common_is_counted_once():
    engine = engine_of("llama")
    prompts = prompts_of(engine)
    common = common_beginning(prompts)
    assert 2 <= len(common) < min(map(len, prompts))
    together = engine.rollouts(Rollouts(SHARD, prompts, LOSS), LAYOUT)[1]
    alone = sum(engine.rollouts(Rollouts(SHARD, [p], LOSS), LAYOUT)[1].prefill_tokens for p in prompts)
    # One token is run again where the common part ends.
    assert alone - together.prefill_tokens == len(SHARD) * (2 * len(common) - 1)


@pytest.mark.parametrize(
    ("prompts", "common"),
    [
        ([(1, 2, 3), (1, 2, 4)], (1, 2)),
        ([(1, 2, 3), (1, 2)], (1,)),
        ([(1, 2, 3), (1, 2, 3)], (1, 2)),
        ([(5, 2, 3), (1, 2, 3)], ()),
        ([(1,), (1, 2)], ()),
        ([(), (1, 2)], ()),
    ],
)
def test_the_last_token_of_a_prompt_is_its_own(prompts: list[tuple[int, ...]], common: tuple[int, ...]):
    assert common_beginning(prompts) == common


def test_lanes_hold_every_place_once_and_follow_swaps():
    lanes = Lanes(3, [0, 1, 2, 0, 1, 2, 2], torch.device("cpu"))
    for running in (7, 6, 4, 1):
        lanes.swap(0, running - 1)
        arranged = lanes.arrange(running)
        assert arranged.asked[arranged.of_place].tolist() == list(range(running))
        assert (arranged.of_place // arranged.width).tolist() == arranged.members.tolist()


def test_an_attention_that_loses_the_prefix_gets_copies(monkeypatch: pytest.MonkeyPatch):
    def loses(module: Any, query: Any, key: Any, *rest: Any, **options: Any) -> Any:
        return wide_eager_attention(module, query, key * 1, *rest, **options)

    model, tokenizer = tiny_model("llama", torch.float64)
    model.set_attn_implementation("eager")
    use_own_attention(model)
    AttentionInterface.register(WIDE, loses)
    try:
        engine = Engine(model, tokenizer)
        assert not engine.decoder.shares
        ours, _ = engine.rollouts(Rollouts(SHARD, prompts_of(engine), LOSS), LAYOUT)
    finally:
        AttentionInterface.register(WIDE, wide_eager_attention)
    theirs = SlowTwin(engine.model, tokenizer, LAYOUT).ask(Rollouts(SHARD, prompts_of(engine), LOSS))
    for a, b in zip(ours, theirs, strict=True):
        assert_equal(a, b)


def test_few_rows_behind_many_questions_keep_copies():
    engine = engine_of("llama")
    (prompt, *_) = prompts_of(engine)
    engine.rollouts(Rollouts(SHARD, [prompt], LOSS), LAYOUT)
    _, prefix = engine._prefix(engine._parts(SHARD, prompt, LAYOUT, 4), LAYOUT)
    batch = RowBatch(engine.decoder, prefix, range(3), engine._parts(SHARD, prompt, LAYOUT, 4))
    with torch.no_grad():
        batch.prefill(4)
    assert batch.store.lanes is None

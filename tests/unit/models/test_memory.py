"""Scarce memory, rows that end early and small windows: the results stay, or the user is told what does not fit."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from greater_ray.errors import DataError, ModelError
from greater_ray.models import _kv
from greater_ray.models._memory import RECOVERY, MicroBatch
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, Message, Rollout, ShardGradient, TokenIds
from greater_ray.work import Answers, EncodePrompt, Generate, Gradients, PromptRoom, Rollouts, Unit
from tests.families import tiny_model

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=8, max_answer_tokens=3)
SHARD = (
    Example("a", "not ( True ) and ( True ) is", "False", "False"),
    Example("b", "Is it?", "True", "True"),
    Example("c", "If you take one step and turn, do you return to the start?", "No", "No"),
    Example("d", "2 + 40 =", "42", "42"),
    Example("e", "Who is the tallest?", "Bob", "Bob"),
)
LOSS = LossSpec(fluency="nll")


def tiny_engine(**options: Any) -> Engine:
    model, tokenizer = tiny_model("llama")
    # Many stop tokens, so that rows end after different numbers of tokens.
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(200, 220), *range(350, 400)]
    return Engine(model, tokenizer, **options)


def prompts(engine: Engine) -> list[TokenIds]:
    return [engine.run(Unit(EncodePrompt(text), LAYOUT))[0] for text in (" think step by step.", " check every option")]


def rollouts(engine: Engine, shard: tuple[Example, ...] = SHARD) -> list[Rollout]:
    return [r for rows in engine.run(Unit(Rollouts(shard, prompts(engine), LossSpec()), LAYOUT))[0] for r in rows]


def gradients(engine: Engine) -> ShardGradient:
    prompt = prompts(engine)[0]
    reasoning = [(5, 6, 7), (), (300,), (301, 302, 303, 304), (9,)]
    return engine.run(
        Unit(Gradients(SHARD, prompt, LOSS, reasoning=reasoning, position=1, depth=6, token_filter="ascii"), LAYOUT)
    )[0]


@contextmanager
def watching(engine: Engine, refuse: Callable[[int], Exception | None] = lambda rows: None) -> Iterator[dict]:
    """Note (rows, tokens) of every forward pass of the model, and let ``refuse`` raise in it."""
    seen: dict[str, list] = {"done": [], "refused": []}

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids")
        shape = tuple((kwargs["inputs_embeds"] if ids is None else ids).shape[:2])
        error = refuse(shape[0])
        seen["done" if error is None else "refused"].append(shape)
        if error is not None:
            raise error

    handle = engine.model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def more_than(most: int) -> Callable[[int], Exception | None]:
    return lambda rows: torch.OutOfMemoryError("CUDA out of memory") if rows > most else None


def assert_same_rollouts(ours: list[Rollout], expected: list[Rollout]) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert (a.reasoning, a.truncated, a.label_hit) == (b.reasoning, b.truncated, b.label_hit)
        assert (a.label_ce, a.prompt_nll) == pytest.approx((b.label_ce, b.prompt_nll), rel=1e-5, abs=1e-5)


# -- out of memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "tried"), [(1, [10, 5, 2]), (2, [10, 5]), (4, [10, 5]), (7, [10])])
def test_rollouts_go_on_in_halves_with_the_same_result(most: int, tried: list[int]):
    engine = tiny_engine()
    expected = rollouts(engine)
    with watching(engine, more_than(most)) as seen:
        assert_same_rollouts(rollouts(engine), expected)
    assert [rows for rows, _ in seen["refused"]] == tried
    assert max(rows for rows, _ in seen["done"]) <= most
    with watching(engine, more_than(most)) as again:
        assert_same_rollouts(rollouts(engine), expected)
    assert again["refused"] == [], "what did not fit once is not tried again"


def test_questions_seen_for_the_first_time_go_on_in_halves_too():
    expected = rollouts(tiny_engine())
    engine = tiny_engine()
    with watching(engine, more_than(2)) as seen:
        assert_same_rollouts(rollouts(engine), expected)
    assert seen["refused"][0][0] == len(SHARD), "the questions themselves were refused first"
    with watching(engine) as again:
        assert_same_rollouts(rollouts(engine), expected)
    longest = max(width for _, width in seen["done"])
    assert all(width < longest for _, width in again["done"]), "the questions' keys and values were kept"


@pytest.mark.parametrize(("most", "tried"), [(1, [5, 2]), (2, [5]), (3, [5])])
def test_gradients_go_on_in_halves_with_the_same_result(most: int, tried: list[int]):
    engine = tiny_engine()
    expected = gradients(engine)
    with watching(engine, more_than(most)) as seen:
        ours = gradients(engine)
    assert [rows for rows, _ in seen["refused"]] == tried
    assert ours.gradient == pytest.approx(expected.gradient, rel=1e-4, abs=1e-5)
    assert ours.losses == pytest.approx(expected.losses, rel=1e-5)
    assert ours.proposals == expected.proposals
    with watching(engine, more_than(most)) as again:
        gradients(engine)
    assert again["refused"] == []


def test_limits_of_decoding_and_of_gradients_are_their_own():
    engine = tiny_engine()
    rollouts(engine), gradients(engine)
    with watching(engine, more_than(2)):
        gradients(engine)
    with watching(engine) as seen:
        rollouts(engine)
    assert max(rows for rows, _ in seen["done"]) == 2 * len(SHARD)


def test_rows_at_once_can_be_limited_from_the_start():
    engine = tiny_engine(decode_rows=3, gradient_rows=2)
    expected = tiny_engine()
    assert_same_rollouts(rollouts(engine), rollouts(expected))
    gradients(engine)
    with watching(engine) as seen:
        rollouts(engine)
    assert max(rows for rows, _ in seen["done"]) == 3
    with watching(engine) as seen:
        gradients(engine)
    # Twice: what stands before the position, and the rest.
    assert [rows for rows, _ in seen["done"]] == [2, 2, 2, 2, 1, 1]


def test_one_row_that_never_fits_is_told():
    engine = tiny_engine()
    rollouts(engine), gradients(engine)
    for work in (rollouts, gradients):
        with watching(engine, more_than(0)) as seen, pytest.raises(ModelError, match="a single row"):
            work(engine)
        assert seen["refused"][-1][0] == 1


@pytest.mark.parametrize("text", ["mat1 and mat2 shapes cannot be multiplied", "index out of range"])
def test_other_errors_pass_through(text: str):
    engine = tiny_engine()
    rollouts(engine), gradients(engine)
    for work in (rollouts, gradients):
        with watching(engine, lambda rows: RuntimeError(text)) as seen, pytest.raises(RuntimeError, match=text):
            work(engine)
        assert len(seen["refused"]) == 1, "not tried again"


@pytest.mark.parametrize(
    "text", ["DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory"]
)
def test_the_host_running_out_of_memory_counts_too(text: str):
    engine = tiny_engine()
    expected = rollouts(engine)
    with watching(engine, lambda rows: RuntimeError(text) if rows > 3 else None):
        assert_same_rollouts(rollouts(engine), expected)


class RefuseOnce(TorchDispatchMode):
    """Memory runs out at the first tensor of keys or values ``[rows, H, S, D]``."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.refused = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dim() == 4 and len(result) == self.rows and not self.refused:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result


def test_joining_the_keys_of_pieces_is_tried_again_too():
    expected = rollouts(tiny_engine())
    engine = tiny_engine(decode_rows=2)
    with RefuseOnce(len(SHARD)) as joining, watching(engine) as seen:
        assert_same_rollouts(rollouts(engine), expected)
    assert joining.refused == 1, "no single piece holds all rows"
    assert [rows for rows, _ in seen["done"]][:2] == [2, 1]


# -- what is kept goes first -------------------------------------------------------------------------------------------

OTHERS = tuple((Example(q, q, "9", "9"),) for q in ("2 + 4 =", "2 + 5 =", "3 + 4 ="))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    ],
)
def test_every_way_of_saying_that_memory_ran_out_is_understood(text: str):
    engine = tiny_engine()
    expected = rollouts(engine)
    with watching(engine, lambda rows: RuntimeError(text) if rows > 5 else None) as seen:
        assert_same_rollouts(rollouts(engine), expected)
    assert len(seen["refused"]) == 1


def pieces(batch: MicroBatch, most: int, calls: int, rows: int = 8) -> list[int]:
    """Return the sizes of all pieces that are tried in calls of so many rows, with memory for ``most``."""
    tried = []

    def work(start: int, stop: int) -> list[None]:
        tried.append(stop - start)
        if stop - start > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [None] * (stop - start)

    for _ in range(calls):
        batch.map(work, rows)
    return tried


def test_a_halved_limit_recovers_once_there_is_memory_again():
    batch = MicroBatch(limit=8)
    assert pieces(batch, most=2, calls=1) == [8, 4, 2, 2, 2, 2]
    assert max(pieces(batch, most=8, calls=RECOVERY // 4 - 1)) == 2
    assert pieces(batch, most=8, calls=RECOVERY // 2)[-1] == 4
    assert pieces(batch, most=8, calls=RECOVERY)[-1] == 8
    assert batch.limit == 8, "never more than at the beginning"


def test_a_limit_that_was_raised_in_vain_waits_twice_as_long():
    batch = MicroBatch(limit=4)
    tried = pieces(batch, most=2, calls=RECOVERY)
    refused = [k for k, size in enumerate(tried) if size == 4]
    assert [b - a for a, b in pairwise(refused)] == [RECOVERY + 1, 2 * RECOVERY + 1]


@pytest.mark.parametrize(
    "work", [rollouts, gradients, lambda e: e.run(Unit(Generate([(Message("user", "Is it?"),)], [1], 4, 1)))]
)
def test_no_keys_and_values_of_a_finished_batch_wait_for_the_garbage_collector(
    work: Callable[[Engine], Any], monkeypatch: pytest.MonkeyPatch
):
    engine, stores = tiny_engine(), weakref.WeakSet[_kv.SlotStore]()
    make = _kv.SlotStore.__init__

    def noted(store: _kv.SlotStore, *args: Any) -> None:
        make(store, *args)
        stores.add(store)

    monkeypatch.setattr(_kv.SlotStore, "__init__", noted)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            work(engine)
            assert len(stores) == 0
    finally:
        gc.enable()


def while_kept(engine: Engine, most: int) -> Callable[[int], Exception | None]:
    """Refuse every pass as long as the questions of more than ``most`` shards are kept."""
    return lambda rows: torch.OutOfMemoryError("CUDA out of memory") if len(engine._prefixes) > most else None


@pytest.mark.parametrize("work", [rollouts, gradients])
def test_questions_of_other_shards_make_room_before_a_batch_is_halved(work: Callable[[Engine], Any]):
    engine = tiny_engine()
    expected = work(engine)
    for shard in OTHERS:
        rollouts(engine, shard)
    with watching(engine, while_kept(engine, 1)) as seen:
        assert work(engine) == expected, "bit for bit"
    assert len(seen["refused"]) == 1
    assert max(rows for rows, _ in seen["done"]) == seen["refused"][0][0], "the batch was not halved"
    assert [len(heads) for heads in engine._prefixes] == [len(SHARD)], "those that are read are kept"


def test_questions_that_are_new_and_texts_need_none_of_those_that_are_kept():
    conversation = (Message("user", "Is it?"),)
    expected = rollouts(tiny_engine()), tiny_engine().run(Unit(Generate([conversation], [1], 4, 1.0)))[0]
    engine = tiny_engine()
    for shard in OTHERS:
        rollouts(engine, shard)
    with watching(engine, while_kept(engine, 0)) as seen:
        assert engine.run(Unit(Generate([conversation], [1], 4, 1.0)))[0] == expected[1], "a single row fits then, too"
    assert len(seen["refused"]) == 1
    for shard in OTHERS:
        rollouts(engine, shard)
    with watching(engine, while_kept(engine, 1)) as seen:
        assert rollouts(engine) == expected[0]
    assert [rows for rows, _ in seen["refused"]] == [len(SHARD)], "the questions themselves were refused, once"


def test_other_errors_leave_the_questions_where_they_are():
    engine = tiny_engine()
    for shard in OTHERS:
        rollouts(engine, shard)
    with watching(engine, lambda rows: RuntimeError("index out of range")), pytest.raises(RuntimeError, match="index"):
        rollouts(engine)
    assert len(engine._prefixes) == len(OTHERS)


# -- questions that are kept -------------------------------------------------------------------------------------------


def test_questions_that_are_not_kept_are_computed_again_with_the_same_result():
    plenty, none = tiny_engine(), tiny_engine(prefix_memory=0)
    cuts = (SHARD[:2], SHARD[2:4], SHARD[:2], SHARD[4:], SHARD[2:4])
    passes = []
    for engine in (plenty, none):
        with watching(engine) as seen:
            results = [rollouts(engine, cut) for cut in cuts]
        passes.append((len(seen["done"]), results))
    assert passes[0][1] == passes[1][1], "bit for bit"
    assert passes[1][0] == passes[0][0] + 2, "the first and the second shard were prefilled twice"


def test_the_least_recently_used_questions_make_room():
    first, second, third = ((Example(q, q, "9", "9"),) for q in ("2 + 4 =", "2 + 5 =", "3 + 4 ="))
    one = tiny_engine()
    rollouts(one, first)
    (prefix,) = one._prefixes.values()
    engine = tiny_engine(prefix_memory=2 * prefix.nbytes)

    def prefilled(shard: tuple[Example, ...]) -> bool:
        with watching(engine) as seen:
            rollouts(engine, shard)
        return seen["done"][0] == (1, len(engine.spans(LAYOUT).head(shard[0])) - 1)

    assert [prefilled(s) for s in (first, second, first, second, first)] == [True, True, False, False, False]
    assert [prefilled(s) for s in (third, first, second)] == [True, False, True], "the second made room for the third"


# -- rows that end early -----------------------------------------------------------------------------------------------


def test_finished_rows_are_dropped_and_the_others_go_on_as_if_alone():
    engine = tiny_engine()
    together = rollouts(engine)
    lengths = {len(r.reasoning) for r in together}
    assert len(lengths) > 2
    assert {r.truncated for r in together} == {True, False}
    pairs = [engine.run(Unit(Rollouts((e,), prompts(engine), LossSpec()), LAYOUT))[0] for e in SHARD]
    alone = [rows[k][0] for k in (0, 1) for rows in pairs]
    assert_same_rollouts(together, alone)


def test_a_finished_row_costs_nothing_more():
    engine = tiny_engine()
    rollouts(engine)
    with watching(engine) as seen:
        _, usage = engine.run(Unit(Rollouts(SHARD, prompts(engine), LossSpec()), LAYOUT))
    steps = [rows for rows, tokens in seen["done"] if tokens == 1]
    assert steps == sorted(steps, reverse=True)
    # The stop token of a row, or its last one at the limit, is chosen but not fed.
    assert sum(steps) == usage.generated_tokens - 2 * len(SHARD)
    assert steps[-1] < 2 * len(SHARD)


# -- the context window ------------------------------------------------------------------------------------------------


def test_a_row_beyond_the_context_window_is_named_with_the_option_to_change():
    engine = tiny_engine()
    spans, prompt = engine.spans(LAYOUT), prompts(engine)[0]
    extra = len(prompt) + len(spans.suffix(SHARD[0])) + LAYOUT.max_reasoning_tokens + len(spans.extractor)
    needed = {e.id: len(spans.head(e)) + extra + max(LAYOUT.max_answer_tokens, len(spans.label(e))) for e in SHARD}
    longest = max(needed.values())
    engine.model.config.max_position_embeddings = longest
    assert engine.run(Unit(Rollouts(SHARD, [prompt], LossSpec()), LAYOUT))[0]
    engine.model.config.max_position_embeddings = longest - 1
    with pytest.raises(DataError, match=rf"row 'c': .* need {longest} tokens.*decoding\.max_reasoning_tokens"):
        engine.run(Unit(Rollouts(SHARD, [prompt], LossSpec()), LAYOUT))
    with pytest.raises(DataError, match="row 'c'"):
        engine.run(Unit(Answers(SHARD, [prompt]), LAYOUT))
    assert engine.run(Unit(Rollouts(SHARD[:2], [prompt], LossSpec()), LAYOUT))[0], "the others are not to blame"


def test_the_room_for_a_prompt_is_what_the_longest_row_leaves_of_the_window():
    engine = tiny_engine()
    prompt = prompts(engine)[0]
    engine.model.config.max_position_embeddings = 120
    room, usage = engine.run(Unit(PromptRoom(SHARD), LAYOUT))
    assert room is not None
    assert room > len(prompt)
    assert usage.tokens == 0
    fits, beyond = [(prompt * room)[:length] for length in (room, room + 1)]
    assert engine.run(Unit(Rollouts(SHARD, [fits], LossSpec()), LAYOUT))[0]
    with pytest.raises(DataError, match="context window has 120"):
        engine.run(Unit(Rollouts(SHARD, [beyond], LossSpec()), LAYOUT))


def test_answers_hold_no_chat_markup_as_text():
    engine = tiny_engine()
    markup = engine.tokenizer.convert_tokens_to_ids("<|start_header_id|>")
    word = engine.tokenizer("think", add_special_tokens=False).input_ids
    given = [(*word, markup, *word)] * len(SHARD)
    rollouts = [Rollout(reasoning, False, 0.0, 0.0, False) for reasoning in given]
    (answers,), _ = engine.run(Unit(Answers(SHARD, [prompts(engine)[0]], rollouts), LAYOUT))
    assert [a.reasoning_text for a in answers] == ["thinkthink"] * len(SHARD)
    assert [a.rollout.reasoning for a in answers] == given

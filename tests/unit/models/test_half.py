"""Half precision: decisions are taken in float32, and the results stay near those of the same weights in float32."""

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch

from greater_ray.models._decode import greedy
from greater_ray.models._head import WideHead, largest_only, widen_head
from greater_ray.models._packed import PackedLinear, can_pack, pack
from greater_ray.models.engine import Engine
from greater_ray.models.half import check_half
from greater_ray.types import Example, Layout, LossSpec, Message
from greater_ray.work import Answers, EncodePrompt, Generate, Gradients, Proposals, Rollouts, Unit
from tests.families import FAMILIES, tiny_model

LAYOUT = Layout(" Therefore, the final answer is", max_reasoning_tokens=8, choices=("True", "False"))
SHARD = (
    Example("a", "not ( True ) and ( False ) is", "False", "False"),
    Example("b", "not not True is", "True", "True"),
    Example("c", "True and not True is", "False", "False"),
)
LOSS = LossSpec(fluency="nll")
# What a bfloat16 of 8 bits makes of a loss in two layers.
NEAR = {"rel": 0.05, "abs": 0.05}
needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this CPU"
)


def both(family: str, dtype: torch.dtype = torch.bfloat16) -> tuple[Engine, Engine]:
    """Return engines of the same weights in half precision, packed where it can be, and in float32."""
    model, tokenizer = tiny_model(family, dtype)
    wide = Engine(copy.deepcopy(model).float(), tokenizer)
    widen_head(model)
    if can_pack(model):
        pack(model)
    return Engine(model, tokenizer), wide


def prompts_of(engine: Engine, texts: tuple[str, ...]) -> list[Any]:
    return [engine.run(Unit(EncodePrompt(text), LAYOUT))[0] for text in texts]


def test_two_logits_that_are_one_in_half_precision_are_told_apart():
    head = torch.nn.Linear(64, 8, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    head.weight.zero_()
    head.weight[3] = 4.0
    head.weight[7] = 4.0
    head.weight[7, 0] = 4.5
    hidden = torch.ones(1, 64, dtype=torch.bfloat16)
    # 256 and 256.5: bfloat16 has no number between 256 and 258.
    assert greedy(head(hidden), [0]).tolist() == [3]
    logits = WideHead(head)(hidden)
    assert logits.dtype == torch.float32
    assert logits[0, [3, 7]].tolist() == [256.0, 256.5]
    assert greedy(logits, [0]).tolist() == [7]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_wide_head_and_its_gradient_equal_float64_products(dtype: torch.dtype, bias: bool):
    torch.manual_seed(0)
    head = torch.nn.Linear(48, 300, bias=bias, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(2, 5, 48, dtype=dtype, requires_grad=True)
    logits = WideHead(head)(hidden)
    exact = hidden.detach().double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    assert torch.allclose(logits.double(), exact, rtol=1e-5, atol=1e-5)
    given = torch.randn(2, 5, 300)
    (gradient,) = torch.autograd.grad(logits, hidden, given)
    right = given.double() @ head.weight.double()
    assert gradient.dtype == dtype
    assert float((gradient.double() - right).norm() / right.norm()) < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_work_reads_float32_logits(family: str, dtype: torch.dtype):
    model, tokenizer = tiny_model(family, dtype)
    engine = Engine(model, tokenizer)
    assert engine.facts["logits"] == "float32"
    (prompt,) = prompts_of(engine, (" think step by step.",))
    read: list[torch.dtype] = []
    model.register_forward_hook(lambda module, given, output: read.append(output.logits.dtype))
    (rollouts,), _ = engine.rollouts(Rollouts(SHARD, [prompt], LOSS), LAYOUT)
    reasoning = [r.reasoning for r in rollouts]
    engine.answers(Answers(SHARD, [prompt], rollouts, score_choices=True), LAYOUT)
    engine.generate(Generate([(Message("user", "Is it?"),)], [0], 4, 0.0), LAYOUT)
    engine.proposals(Proposals(SHARD, prompt, 1, 3, "none"), LAYOUT)
    engine.gradients(
        Gradients(SHARD, prompt, LOSS, reasoning=reasoning, position=1, depth=3, token_filter="none"), LAYOUT
    )
    assert len(read) > 10
    assert set(read) == {torch.float32}


def test_a_float32_model_keeps_its_head_and_its_facts():
    model, tokenizer = tiny_model("llama")
    head = model.get_output_embeddings()
    assert "logits" not in Engine(model, tokenizer).facts
    assert model.get_output_embeddings() is head


def test_the_facts_of_a_model_tell_its_precision():
    half, wide = both("llama")
    told = [{name: engine.facts.get(name) for name in ("dtype", "logits")} for engine in (half, wide)]
    assert told == [{"dtype": "bfloat16", "logits": "float32"}, {"dtype": "float32", "logits": None}]


@needs_bfloat16
def test_packed_bfloat16_layers_equal_plain_ones():
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 64, dtype=torch.bfloat16).requires_grad_(False)
    packed, given = PackedLinear(linear), torch.randn(7, 96, dtype=torch.bfloat16)
    exact = given.double() @ linear.weight.double().T + linear.bias.double()
    for layer in (linear, packed):
        # Half of the last of 8 bits, and no more: the sums are float32.
        assert torch.allclose(layer(given).double(), exact, rtol=2**-8, atol=2**-8)


@needs_bfloat16
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_losses_candidates_and_gradients_stay_near_float32(family: str):
    half, wide = both(family)
    assert any(isinstance(module, PackedLinear) for module in half.model.modules())
    texts = (
        " think step by step.",
        " logical reasoning.",
        " Is it? Yes or no",
        " the apples and the pears cost 3 dollars",
    )
    prompts = prompts_of(half, texts)
    (rollouts, *_), _ = wide.rollouts(Rollouts(SHARD, prompts[:1], LOSS), LAYOUT)
    reasoning = [r.reasoning for r in rollouts]
    work = Rollouts(SHARD, prompts, LOSS, reasoning=reasoning)
    (ours, _), (theirs, _) = (engine.rollouts(work, LAYOUT) for engine in (half, wide))
    totals = []
    for rows in (ours, theirs):
        totals.append([sum(r.label_ce + r.prompt_nll for r in of_prompt) for of_prompt in rows])
    for a, b in zip(chain(*ours), chain(*theirs), strict=True):
        assert (a.label_ce, a.prompt_nll) == pytest.approx((b.label_ce, b.prompt_nll), **NEAR)
    ranks = [sorted(range(len(texts)), key=values.__getitem__) for values in totals]
    assert ranks[0] == ranks[1]
    asked = Gradients(SHARD, prompts[0], LOSS, reasoning=reasoning, position=2, depth=5, token_filter="none")
    a, b = (torch.tensor(engine.gradients(asked, LAYOUT)[0].gradient) for engine in (half, wide))
    assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.99


@needs_bfloat16
def test_most_greedy_tokens_are_those_of_float32_and_the_check_counts_them():
    half, _ = both("llama")
    (prompt,) = prompts_of(half, (" think step by step.",))
    check = check_half(half, LAYOUT, SHARD, prompt)
    assert check.tokens >= 0.5
    assert check.rows == 3
    assert (check.equal_rows == 3) == (check.tokens == 1.0)
    assert 0 < check.loss <= 0.05 * max(1.0, check.scale)


def test_the_check_of_half_precision_sees_a_model_that_says_something_else(monkeypatch: pytest.MonkeyPatch):
    half, _ = both("llama")
    (prompt,) = prompts_of(half, (" think step by step.",))
    right: Callable[..., Any] = WideHead.product
    monkeypatch.setattr(WideHead, "product", lambda self, given: -right(self, given))
    check = check_half(half, LAYOUT, SHARD, prompt)
    assert check.tokens < 0.5
    assert check.loss > 0.5


@needs_bfloat16
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [300, 256, 61])
def test_the_likeliest_token_is_the_float32_heads_though_most_logits_are_rounded(size: int, bias: bool):
    torch.manual_seed(size)
    linear = torch.nn.Linear(48, size, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    # Tokens that differ by the last bit of one weight are often one and the same in half precision.
    linear.weight[: size // 2] = linear.weight[0]
    linear.weight[range(size // 2), torch.randint(0, 48, (size // 2,)).tolist()] *= 1 + 2**-7
    head = WideHead(linear)
    hidden = torch.randn(400, 1, 48, dtype=torch.bfloat16)
    model = tiny_model("llama", torch.bfloat16)[0]
    model.set_output_embeddings(head)
    with torch.no_grad():
        wide = head(hidden)
        with largest_only(model):
            ours = head(hidden)
        assert torch.equal(head(hidden), wide), "all logits are wide again afterwards"
    assert not torch.equal(ours, wide), "the others are rounded"
    assert ours.argmax(dim=-1).tolist() == wide.argmax(dim=-1).tolist()
    assert torch.allclose(ours.amax(dim=-1), wide.amax(dim=-1), rtol=1e-5, atol=1e-5)
    assert int((linear(hidden).argmax(dim=-1) != wide.argmax(dim=-1)).sum()) > 0, "or nothing is shown"


@needs_bfloat16
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_greedy_texts_are_those_of_float32_logits(family: str, monkeypatch: pytest.MonkeyPatch):
    half, _ = both(family)
    prompts = prompts_of(half, (" think step by step.", " logical reasoning."))
    layout = replace(LAYOUT, max_reasoning_tokens=24)
    asked: list[int] = []
    rough = WideHead._with_exact_largest
    monkeypatch.setattr(
        WideHead, "_with_exact_largest", lambda head, given, packed: (asked.append(1), rough(head, given, packed))[1]
    )
    quick = half.answers(Answers(SHARD, prompts), layout)[0]
    assert len(asked) >= 24
    monkeypatch.setattr(WideHead, "_with_exact_largest", lambda head, given, packed: head.product(given))
    assert half.answers(Answers(SHARD, prompts), layout)[0] == quick

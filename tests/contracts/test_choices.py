"""Choices after the extractor: one packed pass equals one plain sequence per choice, losses and gradients included."""

from dataclasses import replace
from typing import cast

import pytest
import torch

from greater_ray.errors import ConfigError, DataError, ModelError
from greater_ray.evaluation import read_answer
from greater_ray.models import _decode
from greater_ray.models._attention import register
from greater_ray.models.engine import Engine
from greater_ray.protocols import Score, Task
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.types import Answer, Example, Layout, LossSpec, Rollout, TokenIds
from greater_ray.work import Answers, EncodePrompt, Gradients, OneHotGradient, PromptGradients, PromptRoom, Rollouts
from tests.families import FAMILIES, tiny_model
from tests.slow_twin import SlowTwin

CHOICES = ("billing", "account access and more of it", "no", "technical")
LAYOUT = Layout(" Therefore, the answer is", choices=CHOICES, max_reasoning_tokens=12, max_answer_tokens=4)
EXAMPLES = (
    Example("a", "I was charged twice.", "billing", "billing"),
    Example("b", "Is it?", "no", "no"),
    Example("c", "I forgot my password and now nobody lets me in. Which team?", CHOICES[1], CHOICES[1]),
)
PROMPT = " proper logical reasoning and think."


def build(family: str, layout: Layout = LAYOUT) -> tuple[ShardedModel, SlowTwin]:
    model, tokenizer = tiny_model(family, torch.float64)
    if family == "gemma2":
        # Its eager attention takes the softmax in float32, where batching shows in the eighth digit.
        model.set_attn_implementation(register())
    return ShardedModel(LocalExecutor(Engine(model, tokenizer)), layout, 2), SlowTwin(model, tokenizer, layout)


def plain_nlls(slow: SlowTwin, context: TokenIds, temperature: float = 1.0) -> torch.Tensor:
    """One sequence per choice through the whole model."""
    nlls = []
    for choice in slow.spans.choices:
        logits = slow.logits((*context, *choice))[len(context) - 1 : -1] / temperature
        nlls.append(torch.nn.functional.cross_entropy(logits, torch.tensor(choice)))
    return torch.stack(nlls)


@pytest.mark.parametrize(("limit", "placement"), [(16, "after"), (3, "after"), (3, "before")])
@pytest.mark.parametrize("family", FAMILIES)
def test_choices_of_an_answer_are_scored_as_if_each_stood_alone(
    family: str, limit: int, placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_decode, "CHOICE_TOKENS", limit)
    fast, slow = build(family, replace(LAYOUT, placement=placement))
    prompt = fast.ask(EncodePrompt(PROMPT))
    (answers,) = fast.ask(Answers(EXAMPLES, [prompt], score_choices=True))
    (plain,) = slow.ask(Answers(EXAMPLES, [prompt]))
    without, _ = build(family)
    without.ask(Answers(EXAMPLES, [prompt]))
    fed = sum(len(choice) - 1 for choice in slow.spans.choices)
    assert fast.usage.scored_tokens - without.usage.scored_tokens == fed * len(EXAMPLES)
    groups = (fast.usage.passes - without.usage.passes) / 2  # two shards
    assert groups == 1 if fed <= limit else groups > 1
    for example, answer, other in zip(EXAMPLES, answers, plain, strict=True):
        assert answer.answer_text == other.answer_text  # what is generated is not disturbed
        context = (*slow.context(example, prompt), *answer.rollout.reasoning, *slow.spans.extractor)
        assert answer.choice_nlls == pytest.approx(plain_nlls(slow, context).tolist(), rel=1e-9)
    assert any(len(choice) > 3 for choice in slow.spans.choices)


@pytest.mark.parametrize("placement", ["after", "system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_on_choices_and_its_gradient_equal_plain_ones(family: str, placement: str) -> None:
    fast, slow = build(family, replace(LAYOUT, placement=placement))
    prompt, position = fast.ask(EncodePrompt(PROMPT)), 2
    loss = LossSpec(ce_temperature=0.7, fluency="nll", fluency_weight=0.2, label="choice")
    (rollouts,) = fast.ask(Rollouts(EXAMPLES, [prompt], loss))
    gradient = fast.ask(Gradients(EXAMPLES, prompt, loss, position=position, depth=1, token_filter="ascii"))
    whole = fast.ask(PromptGradients(EXAMPLES, prompt, loss))
    assert whole.losses == pytest.approx(gradient.losses, rel=1e-9)
    table = slow.embed.weight.detach()
    factor = (slow.embed(torch.tensor([prompt[0]])) / table[[prompt[0]]]).median()
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for k, (example, rollout) in enumerate(zip(EXAMPLES, rollouts, strict=True)):
        context = (*slow.context(example, prompt), *rollout.reasoning, *slow.spans.extractor)
        label = CHOICES.index(example.label)
        expected = -torch.log_softmax(-plain_nlls(slow, context, 0.7), dim=0)
        assert rollout.choice_ce == pytest.approx(float(expected[label]), rel=1e-9)
        assert rollout.choice_hit == (int(expected.argmin()) == label)
        row = table[prompt[position]].clone().requires_grad_(True)
        place, nlls = len(slow.spans.head(example)) + position, []
        for choice in slow.spans.choices:
            ids = torch.tensor((*context, *choice))
            embeds = slow.embed(ids).detach()
            embeds = torch.cat([embeds[:place], (row * factor)[None], embeds[place + 1 :]])[None]
            logits = slow.model(inputs_embeds=embeds, use_cache=False).logits[0]
            own = logits[len(context) - 1 : -1] / 0.7
            nlls.append(torch.nn.functional.cross_entropy(own, torch.tensor(choice)))
        head = len(slow.spans.head(example))
        fluency = torch.nn.functional.cross_entropy(logits[head - 1 : head - 1 + len(prompt)], torch.tensor(prompt))
        value = -torch.log_softmax(-torch.stack(nlls), dim=0)[label] + 0.2 * fluency
        assert gradient.losses[k] == pytest.approx(float(value.detach()), rel=1e-9)
        total += torch.autograd.grad(value, row)[0]
    # Some norms differentiate in float32, where one pass for all choices rounds otherwise than one for each.
    mine = torch.tensor(whole.gradient[position], dtype=torch.float64)
    assert float((mine - total).norm()) <= 1e-6 * float(total.norm())
    slopes = torch.tensor(fast.ask(OneHotGradient(gradient.gradient, range(50))), dtype=torch.float64)
    assert float((slopes - table[:50] @ total).norm()) <= 1e-6 * float(slopes.norm())


def test_a_task_without_choices_says_so_and_a_foreign_label_is_named() -> None:
    loss = LossSpec(label="choice")
    fast, _ = build("llama", Layout(" So it is", max_reasoning_tokens=2))
    prompt = fast.ask(EncodePrompt(PROMPT))
    with pytest.raises(ConfigError, match=r"no closed set"):
        fast.ask(Rollouts(EXAMPLES, [prompt], loss))
    fast, _ = build("llama")
    with pytest.raises(DataError, match=r"row 'd': the label 'legal' is none of the task's choices"):
        fast.ask(Rollouts([Example("d", "Sue them?", "legal", "legal")], [prompt], loss))


def test_a_long_choice_is_part_of_what_a_row_needs() -> None:
    long, _ = build("llama", Layout(" So it is", choices=("no", "billing " * 30), max_answer_tokens=4))
    short, _ = build("llama", Layout(" So it is", choices=("no", "billing"), max_answer_tokens=4))
    rows = EXAMPLES[1:2]
    assert (short.ask(PromptRoom(rows)) or 0) - (long.ask(PromptRoom(rows)) or 0) > 20


def test_a_model_that_scores_no_choices_is_not_read_by_what_it_wrote() -> None:
    class Likeliest:
        choices, reading = CHOICES, "likelihood"

        def score(self, *texts: object) -> Score:
            return Score(1.0, "billing", 1.0, "billing")

    answer = Answer(Rollout((), False, 1.0, 1.0, True), "", "billing")
    with pytest.raises(ModelError, match=r"task\.reading: this model does not tell how likely choices are"):
        read_answer(cast(Task, Likeliest()), EXAMPLES[0], answer)


def test_results_of_one_label_loss_are_not_taken_for_those_of_the_other() -> None:
    fast, _ = build("llama")
    prompt = fast.ask(EncodePrompt(PROMPT))
    (plain,) = fast.ask(Rollouts(EXAMPLES, [prompt], LossSpec()))
    (compared,) = fast.ask(Rollouts(EXAMPLES, [prompt], LossSpec(label="choice")))
    assert all(r.choice_ce is None for r in plain)
    assert all(r.choice_ce is not None for r in compared)
    assert [r.label_ce for r in plain] == pytest.approx([r.label_ce for r in compared])

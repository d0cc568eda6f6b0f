"""A model behind an endpoint against the same model loaded here: they must answer and score alike."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greater_ray.assembly import Subject, load_subject, resolve_config
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.protocols import encoded
from greater_ray.sharding import ShardedWriter
from greater_ray.types import LossSpec, Message, Shown
from greater_ray.work import Answers, Rollouts
from tests.families import save_tiny
from tests.served import Server, serving

PROMPT = " your head, then answer the question of truth."


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny model whose chat template trims nothing."""
    return save_tiny("qwen2", tmp_path_factory.mktemp("served") / "qwen2")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


def config(model: dict[str, Any], **more: Any) -> TrialConfig:
    return resolve_config(
        {
            "model": model,
            "task": {"name": "bbh/boolean_expressions", "data": "synthetic", "train_size": 6, "dev_size": 2,
                     "test_size": 2},
            "method": "zero-shot-cot",
            "decoding": {"max_reasoning_tokens": 12, "max_answer_tokens": 4},
            **more,
        }
    )  # fmt: skip


def both(server: Server, folder: Path, **more: Any) -> tuple[Subject, Subject]:
    there = {"name": f"openai/{server.name}", "endpoint": {"base_url": server.url}}
    return load_subject(config(there, **more)), load_subject(config({"name": str(folder), "dtype": "float32"}, **more))


@pytest.mark.parametrize(
    "layout",
    [{}, {"placement": "before"}, {"placement": "system"}, {"placement": "Q: {question}\nHow: {prompt}"},
     {"system": "Be brief."}, {"extractor_turn": True}],
    ids=["after", "before", "system", "free text", "system message", "extractor in a turn"],
)  # fmt: skip
def test_answers_and_losses_are_those_of_the_loaded_model(server: Server, folder: Path, layout: dict[str, Any]) -> None:
    there, here = both(server, folder, layout=layout, task={
        "name": "bbh/boolean_expressions", "data": "synthetic", "train_size": 6, "dev_size": 2, "test_size": 2,
        "reading": "likelihood",
    })  # fmt: skip
    rows = there.task.train()
    prompts = [encoded(subject.model, PROMPT) for subject in (there, here)]
    found = there.model.ask(Answers(rows, prompts[:1], score_choices=True))[0]
    reasoned = here.model.ask(Answers(rows, prompts[1:]))[0]
    assert [a.reasoning_text for a in found] == [a.reasoning_text for a in reasoned]
    assert [a.reasoning_tokens for a in found] == [len(a.rollout.reasoning) for a in reasoned]
    assert [a.rollout.truncated for a in found] == [a.rollout.truncated for a in reasoned]
    # A server reads its own reasoning as text: a random model's is cut into other tokens than it was written in.
    tokens = [tuple(server.tokenizer(a.reasoning_text, add_special_tokens=False).input_ids) for a in reasoned]
    given = [replace(a.rollout, reasoning=ids) for a, ids in zip(reasoned, tokens, strict=True)]
    engine = here.model.executor.engine  # type: ignore[attr-defined]
    ((expected,), _) = engine.answers(Answers(tuple(rows), prompts[1:], given, score_choices=True), here.model.layout)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.answer_text == theirs.answer_text
        assert ours.rollout.label_ce == pytest.approx(theirs.rollout.label_ce, abs=1e-4)
        assert ours.rollout.label_hit == theirs.rollout.label_hit
        assert ours.choice_nlls == pytest.approx(theirs.choice_nlls, abs=1e-4)
        assert ours.rollout.prompt_nll is None


@pytest.mark.parametrize("label", ["ce", "choice"])
def test_without_reasoning_labels_are_scored_as_by_the_loaded_model(server: Server, folder: Path, label: str) -> None:
    there, here = both(server, folder)
    loss = LossSpec(fluency_weight=0.0, label=label)
    found, expected = (
        subject.model.ask(Rollouts(subject.task.train(), [encoded(subject.model, PROMPT)], loss, ()))[0]
        for subject in (there, here)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.label_loss(loss) == pytest.approx(theirs.label_loss(loss), abs=1e-4)
        assert ours.label_is_best(loss) == theirs.label_is_best(loss)


def test_what_no_endpoint_tells_is_refused(server: Server, folder: Path) -> None:
    there, _ = both(server, folder)
    ask = there.model.ask
    rows, prompt = there.task.train(), encoded(there.model, PROMPT)
    with pytest.raises(
        ModelError, match=r"does not tell how likely a prompt is; set method_config.fluency_weight to 0"
    ):
        ask(Rollouts(rows, [prompt], LossSpec()))
    with pytest.raises(ModelError, match=r"does not tell losses at another temperature"):
        ask(Rollouts(rows, [prompt], LossSpec(ce_temperature=2.0, fluency_weight=0.0)))


def test_choices_are_compared_only_where_there_are_some(server: Server, folder: Path) -> None:
    there, _ = both(server, folder, task={"name": "bbh/object_counting", "data": "synthetic", "train_size": 2})
    loss = LossSpec(fluency_weight=0.0, label="choice")
    with pytest.raises(ConfigError, match="choices cannot be compared: the task's answers are no closed set"):
        there.model.ask(Rollouts(there.task.train(), [encoded(there.model, PROMPT)], loss, ()))


def test_costs_are_the_tokens_that_the_server_counts(server: Server, folder: Path) -> None:
    there, _ = both(server, folder)
    del server.requests[:]
    answers = there.model.ask(Answers(there.task.train(), [encoded(there.model, PROMPT)]))[0]
    assert there.model.usage.calls == len(answers) == 6
    assert len(server.requests) == 3 * 6, "reasoning, answer and likelihood of the label"
    assert there.model.usage.generated_tokens >= sum(a.reasoning_tokens or 0 for a in answers)
    read = sum(len(server._ids(request)) for request in server.requests)
    assert there.model.usage.prefill_tokens == read
    assert math.isfinite(there.model.usage.seconds)


def test_a_reply_that_was_begun_is_gone_on_with_as_by_the_loaded_model(server: Server, folder: Path) -> None:
    there, here = both(server, folder)
    begun = (Message("user", "Name a prompt."), Message("assistant", "<prompt>Think"))
    texts = [
        ShardedWriter(subject.model.executor).generate([begun], max_tokens=6, temperature=0.0, seed=0)[0].text
        for subject in (there, here)
    ]
    assert texts[0] == texts[1]
    assert texts[0].startswith("<prompt>Think")


def test_demonstrations_nearest_to_a_question_are_those_of_the_loaded_model(server: Server, folder: Path) -> None:
    there, here = both(server, folder)
    rows = there.task.train()
    shown = Shown(tuple(row.shown for row in rows), nearest=2)
    found, expected = (
        subject.model.showing(shown, ids).ask(Answers(rows, [ids]))[0]
        for subject in (there, here)
        for ids in [encoded(subject.model, PROMPT)]
    )
    assert [a.reasoning_text for a in found] == [a.reasoning_text for a in expected]
    asked = [request["messages"] for request in server.requests if len(request["messages"]) == 5]
    assert len({messages[0]["content"] for messages in asked}) > 1, "not the same ones for every row"
    for messages in asked:
        questions = [messages[k]["content"] for k in (0, 2, 4)]
        assert len(set(questions)) == 3, "a row is not among its own"

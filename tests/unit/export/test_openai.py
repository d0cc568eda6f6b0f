"""The Python file runs as it is, and asks a server what the trial's own endpoint asks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from greater_ray.config import ModelConfig
from greater_ray.export import export
from greater_ray.models.endpoint import EndpointEngine
from greater_ray.types import Example
from greater_ray.work import Answers, EncodePrompt
from tests.served import serving
from tests.unit.export.records import ODD, PLACED, QUESTION, SHOWN, layout_of, record, turns_of


def module(trial: Any) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(export(trial, "openai"), "snippet.py", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("shown", [(), SHOWN], ids=["alone", "demonstrations"])
@pytest.mark.parametrize("layout", PLACED.values(), ids=PLACED)
@pytest.mark.parametrize("system_role", [True, False])
def test_its_messages_are_those_of_the_search(layout: dict[str, Any], shown: Any, system_role: bool) -> None:
    trial = record(layout, shown, model={"system_role": system_role})
    assert module(trial)["messages"](QUESTION) == turns_of(trial, QUESTION)


@pytest.mark.parametrize("kind", ["vllm", "plain"])
def test_it_asks_a_server_what_the_endpoint_of_a_trial_asks(
    kind: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving(tiny_folder, kind=kind) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        engine = EndpointEngine(ModelConfig.model_validate({"name": "openai/tiny", "endpoint": {"retries": 0}}))
        for layout, shown in (({}, ()), ({"placement": "system"}, SHOWN), ({"extractor_turn": True}, ())):
            trial = record(layout, shown, text=" think { step } by step.")
            told = layout_of(trial)
            prompt, _ = engine.encode_prompt(EncodePrompt(trial.best.text), told)
            example = Example("1", "not True is", "False", "False")
            ((expected,),), _ = engine.answers(Answers((example,), [prompt]), told)
            # The likelihood of the label is a request more, which an answer does not need.
            asked = [request for request in server.requests if "prompt_logprobs" not in request]
            server.requests.clear()
            said = module(trial)["answer"](example.question)
            assert said == (expected.reasoning_text, expected.answer_text)
            assert server.requests == asked
            server.requests.clear()
        file = tmp_path / "prompt.py"
        file.write_text(export(trial, "openai"))
        run = subprocess.run([sys.executable, file, "not True is"], capture_output=True, text=True, check=True)
        assert run.stdout == "".join(f"{part}\n" for part in said)


def test_what_the_chat_template_is_told_goes_along() -> None:
    names = module(record({"thinking": False, "chat_template_kwargs": {"tools": None}}))
    assert names["TEMPLATE"] == {"tools": None, "enable_thinking": False, "thinking": False}


def test_a_prompt_of_odd_characters_is_the_same_text_again() -> None:
    assert module(record())["messages"]("?")[0]["content"] == f"? Use{ODD}"

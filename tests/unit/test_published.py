"""A prompt of another program becomes settings under which the same messages are asked."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from greater_ray.assembly import resolve_config
from greater_ray.cli.app import run
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError
from greater_ray.export import export
from greater_ray.published import read_published
from tests.unit.export.records import ODD, PLACED, SHOWN, record, turns_of

PLAIN = " think {{ x }} {% y %} {# z #} \"so\"\n'and' so"


def messages(settings: dict[str, Any], question: str) -> list[dict[str, str]]:
    """Return what a trial with these settings asks."""
    config = TrialConfig.model_validate(
        {"model": {"name": "m"}, "task": {"name": "bbh/navigate"}, "layout": settings["layout"]}
    )
    prompt = settings["method_config"]["initial_prompt"]
    turns = config.make_layout("", "").conversation(question, prompt, system_role=True)
    return [turn._asdict() for turn in turns]


@pytest.mark.parametrize("layout", [*PLACED.values(), {"joint": "\n\n"}], ids=[*PLACED, "lines"])
@pytest.mark.parametrize("form", ["messages", "json", "promptfoo", "lm-eval"])
def test_what_was_exported_is_asked_again(form: str, layout: dict[str, Any], tmp_path: Path) -> None:
    trial = record(layout, text=PLAIN)
    content = export(trial, form)
    file = tmp_path / ("prompt.json" if form in ("messages", "json") else "prompt.yaml")
    if form == "lm-eval":
        (content,) = (text for name, text in content.items() if name.endswith(".yaml"))
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    found = read_published(file)
    assert messages(found.settings(), "Is it?") == turns_of(trial, "Is it?")
    assert found.left_out == 0


def test_a_dspy_program_is_a_system_message_and_examples_are_told(tmp_path: Path) -> None:
    file = tmp_path / "program.json"
    file.write_text(export(record(shown=SHOWN, text=ODD), "dspy")["program.json"])
    found = read_published(file)
    assert (found.prompt, found.placement, found.left_out) == (("Use" + ODD).strip(), "system", 2)
    state = {"self": json.loads(file.read_text())["reason"]}
    file.write_text(json.dumps(state["self"]))
    assert read_published(file) == found, "a single predictor is saved without a name"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", " \n", "is empty"),
        ("a.json", "{", "is not readable JSON"),
        ("a.yaml", "{", "is not readable YAML"),
        ("a.json", "[1]", "is no chat messages"),
        ("a.json", '[{"role": "user", "content": "?"}]', "should hold the question once"),
        ("a.json", '[{"role": "user", "content": "{question}"}]', "has no prompt beside the question"),
        ("a.txt", "A {prompt} {question} b", "which are slots here"),
        ("a.yaml", "prompts: [a, b]", "has 2 prompts"),
        ("a.yaml", "prompts: ['file://x.txt']", "names another file"),
        ("a.yaml", "prompts: ['{{ a }} {{ b }}']", "has: a, b"),
        ("a.yaml", "prompts: ['{% for %}']", "cannot render"),
        ("a.yaml", "prompts: ['{{ q.__class__.__mro__[1].__subclasses__() }}']", "cannot render"),
    ],
)
def test_what_tells_no_prompt_is_refused_in_a_sentence(name: str, text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_published(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_published(tmp_path / "nowhere.json")


def test_the_command_prints_the_prompt_or_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Think about this: {question}\n")
    assert run(["import", str(file)]) == 0
    assert capsys.readouterr().out == "Think about this:\n"
    assert run(["import", str(file), "--settings"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert messages(settings, "why?") == [{"role": "user", "content": "Think about this: why?"}]
    chosen = resolve_config(
        {"model": {"name": "m"}, "task": {"name": "bbh/navigate", "data": "synthetic"}, "method": "opro"} | settings
    )
    assert chosen.method_config["initial_prompt"] == "Think about this:"
    assert chosen.layout.placement == "before"
    file.write_text("Think.")
    assert run(["import", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"prompt": " Think.", "placement": "after", "joint": "", "system": None, "left_out": 0}
    file.with_suffix(".json").write_text(json.dumps(export(record(shown=SHOWN, text=PLAIN), "messages")))
    assert run(["import", str(file.with_suffix(".json"))]) == 0
    assert "2 worked examples are left out" in capsys.readouterr().err
    assert run(["import", str(tmp_path / "none.txt")]) == 2
    assert capsys.readouterr().err.startswith(f"error: FILE: '{tmp_path}/none.txt' cannot be read (No such file")

"""DSPy's program: its state has the form that DSPy saves, and its adapter renders the messages of the search."""

import inspect
import json
import sys
import types
from typing import Any

import pytest

from greater_ray.export import export
from greater_ray.models.endpoint import ASK
from tests.unit.export.records import ODD, PLACED, QUESTION, SHOWN, layout_of, record, turns_of


def program(trial: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names of the module, whose bases are DSPy's and empty here, and the state."""
    bases = {name: type(name, (), {}) for name in ("Adapter", "Module")}
    monkeypatch.setitem(sys.modules, "dspy", types.SimpleNamespace(**bases))
    files = export(trial, "dspy")
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(files["program.py"], "program.py", "exec"), names)
    return names, json.loads(files["program.json"])


@pytest.mark.parametrize("frozen", ["Use", ""])
@pytest.mark.parametrize("shown", [(), SHOWN], ids=["alone", "demonstrations"])
@pytest.mark.parametrize("layout", [*PLACED.values(), {"extractor_turn": True}], ids=[*PLACED, "extractor in a turn"])
@pytest.mark.parametrize("system_role", [True, False])
def test_the_messages_are_those_of_the_search(
    layout: dict[str, Any], shown: Any, system_role: bool, frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = record(layout | {"frozen_prefix": frozen}, shown, model={"system_role": system_role})
    names, state = program(trial, monkeypatch)
    adapter = names["Layout"]()
    sentence = layout_of(trial).extractor.strip()
    told = sentence if layout.get("extractor_turn") else ASK.format(extractor=sentence)
    for part, more in (("reason", []), ("answer", ["so", told])):
        saved = state[part]
        # DSPy's own instructions are a docstring, and cleaned like one.
        signature = types.SimpleNamespace(instructions=inspect.cleandoc(saved["signature"]["instructions"]))
        inputs = {"question": QUESTION} | ({"reasoning": "so"} if more else {})
        turns = adapter.format(signature, saved["demos"], inputs)
        assert [turn["content"] for turn in turns[len(turns) - len(more) :]] == more
        assert turns[: len(turns) - len(more)] == turns_of(trial, QUESTION)


def test_other_instructions_stand_where_the_prompt_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    names, state = program(record({"placement": "system"}), monkeypatch)
    signature = types.SimpleNamespace(instructions="Think.", output_fields={"answer": None})
    adapter = names["Layout"]()
    assert adapter.format(signature, [], {"question": "?"})[0] == {"role": "system", "content": "Think."}
    assert adapter.parse(signature, "Therefore, the  final answer is True.") == {"answer": " True."}
    assert state["reason"]["signature"]["instructions"] == ("Use" + ODD).strip()
    assert state["metadata"] == {"dependency_versions": {}}

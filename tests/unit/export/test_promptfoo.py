"""promptfoo's configuration: rendered as nunjucks renders it, the messages are those of the search."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from greater_ray.errors import ConfigError
from greater_ray.export import export
from greater_ray.export.promptfoo import as_value, check
from greater_ray.models.endpoint import ASK
from greater_ray.tasks import load_task
from greater_ray.types import Example
from tests.unit.export.records import PLACED, QUESTION, SHOWN, layout_of, record, turns_of

# promptfoo takes a prompt that matches this for broken markup, and renders none of it.
PARTIAL = re.compile(r"(\{%[^%]*$|\{\{[^}]*$|\{#[^#]*$)", re.MULTILINE)
SITE = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
SITE.filters["dump"] = lambda value: json.dumps(value, ensure_ascii=False)


def rendered(prompt: str, given: dict[str, str], said: list[str]) -> Any:
    """Do what promptfoo does: values are templates, then the prompt is."""
    assert not PARTIAL.search(prompt)
    with pytest.raises(ValueError):
        json.loads(prompt)
    values = {name: SITE.from_string(value).render() for name, value in given.items()}
    return json.loads(SITE.from_string(prompt).render(**values, _conversation=[{"output": text} for text in said]))


@pytest.mark.parametrize("shown", [(), SHOWN], ids=["alone", "demonstrations"])
@pytest.mark.parametrize("layout", PLACED.values(), ids=PLACED)
def test_the_messages_are_those_of_the_search(layout: dict[str, Any], shown: Any) -> None:
    trial = record(layout, shown)
    ((prompt,), tests) = (yaml.safe_load(export(trial, "promptfoo"))[key] for key in ("prompts", "tests"))
    rows = load_task(trial.config.task).test()
    assert len(tests) == 2 * len(rows)
    for row, first, second in zip(rows, tests[::2], tests[1::2], strict=True):
        asked = turns_of(trial, row.question)
        assert rendered(prompt["raw"], first["vars"], []) == asked
        said = 'So {{ it }}\nis "true".'
        sentence = ASK.format(extractor=layout_of(trial).extractor.strip())
        assert rendered(prompt["raw"], second["vars"], [said]) == [
            *asked, {"role": "assistant", "content": said}, {"role": "user", "content": sentence}]  # fmt: skip
        assert first["metadata"] == second["metadata"] == {"conversationId": row.id}
        assert "assert" not in first
        assert second["assert"][0]["metric"] == "accuracy"
    assert rendered(prompt["raw"], {"question": as_value(QUESTION)}, []) == turns_of(trial, QUESTION)


def test_answers_are_read_by_a_rule_of_the_tasks_form() -> None:
    def of(name: str, label: str) -> dict[str, str]:
        task = load_task(record(config={"task": {"name": name, "data": "synthetic"}}).config.task)
        return check(Example("1", "?", label, label), task)

    assert of("bbh/boolean_expressions", "True")["value"] == (
        r'String((output.match(/(?<!\w)(False|True)(?!\w)/i) || [])[1]).toLowerCase() === "true"'
    )
    number = of("bbh/object_counting", "1,234")["value"]
    assert number.endswith("=== Number('1234')")
    assert of("bbh/object_counting", "-1/3")["value"].endswith("=== Number('-1') / Number('3')")
    assert re.search(re.search(r"/(.*?)/\)", number)[1], "it is 1,234.")[1] == "1,234"  # type: ignore[index]


def test_free_text_holds_a_right_answer_and_graded_text_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "Name {n}?", "answer": "someone {{{{ {n} }}}}"}}\n' for n in range(40)))
    task = {"name": "rows", "rows": str(rows), "answer_type": "text", "train_size": 2, "dev_size": 2, "test_size": 2}
    trial = record(config={"task": task})
    test = yaml.safe_load(export(trial, "promptfoo"))["tests"][1]
    (assertion,) = test["assert"]
    assert assertion["type"] == "icontains-any"
    right = load_task(trial.config.task).test()[0].label
    assert [SITE.from_string(value).render() for value in assertion["value"]] == [right]
    with pytest.raises(ConfigError, match=r"^format: answers of 'rows' are graded by rouge-l, which is no assertion"):
        export(record(config={"task": task | {"metric": "rouge-l"}}), "promptfoo")

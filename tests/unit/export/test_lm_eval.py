"""lm-eval's task: rendered as lm-eval renders it, the messages are those of the search."""

import json
import re
from typing import Any

import jinja2
import pytest
import yaml

from greater_ray.errors import ConfigError
from greater_ray.export import export
from greater_ray.tasks import load_task
from tests.unit.export.records import PLACED, QUESTION, SHOWN, record, turns_of

# As in lm_eval/utils.py.
SITE = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def messages(task: dict[str, Any], row: dict[str, str]) -> list[dict[str, str]]:
    """Return the chat of a row, put together as lm-eval does with a chat template and examples as turns."""
    turns = []
    if task.get("description"):
        turns.append(("system", SITE.from_string(task["description"]).render(**row)))
    shown = task.get("fewshot_config", {"samples": []})
    for sample in shown["samples"][: task["num_fewshot"]]:
        turns.append(("user", SITE.from_string(shown["doc_to_text"]).render(**sample)))
        turns.append(("assistant", SITE.from_string(shown["doc_to_target"]).render(**sample)))
    turns.append(("user", SITE.from_string(task["doc_to_text"]).render(**row)))
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize("shown", [(), SHOWN], ids=["alone", "demonstrations"])
@pytest.mark.parametrize("layout", [*PLACED.values(), {"extractor_turn": True}], ids=[*PLACED, "extractor in a turn"])
@pytest.mark.parametrize("system_role", [True, False])
def test_the_messages_are_those_of_the_search(layout: dict[str, Any], shown: Any, system_role: bool) -> None:
    trial = record(layout, shown, model={"system_role": system_role})
    files = export(trial, "lm-eval")
    name = "greater_ray_bbh_boolean_expressions"
    assert set(files) == {f"{name}.yaml", f"{name}.jsonl"}
    task = yaml.safe_load(files[f"{name}.yaml"])
    rows = [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()]
    assert [(row["id"], row["label"]) for row in rows] == [(r.id, r.label) for r in load_task(trial.config.task).test()]
    for row in [*rows, {"question": QUESTION}]:
        assert messages(task, row) == turns_of(trial, row["question"])


def test_the_answer_is_the_last_one_of_the_reasoning() -> None:
    task = yaml.safe_load(export(record(), "lm-eval")["greater_ray_bbh_boolean_expressions.yaml"])
    (extract, _) = task["filter_list"][0]["filter"]
    found = re.findall(extract["regex_pattern"], "It is true. No: Falsehoods aside, it is FALSE.")
    assert found[extract["group_select"]] == "FALSE"
    assert task["metric_list"][0]["ignore_case"]


def test_free_text_is_refused(tmp_path: Any) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "Name {n}?", "answer": "someone called {n}"}}\n' for n in range(40)))
    task = {"name": "rows", "rows": str(rows), "answer_type": "text", "train_size": 2, "dev_size": 2, "test_size": 2}
    with pytest.raises(ConfigError, match=r"^format: answers of 'rows' are free text"):
        export(record(config={"task": task}), "lm-eval")

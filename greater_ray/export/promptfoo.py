"""A promptfoo configuration: the prompt as a chat, the test rows, and the answer asked for in a second turn."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from greater_ray.errors import ConfigError
from greater_ray.export import Format
from greater_ray.export._reading import ignores_case, pattern_of
from greater_ray.export._turns import prompt_turns
from greater_ray.models.endpoint import ASK
from greater_ray.protocols import Task, metric_of
from greater_ray.records import TrialRecord
from greater_ray.types import Example

_QUESTION = "\x00"
_HEADER = """\
# The prompt of trial {trial_id}, on the test rows of {task}.
# Every row is two tests of one conversation: the model reasons, then states its answer. "accuracy" is of the second.
#     OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... npx promptfoo eval -c THIS_FILE
"""


def promptfoo(record: TrialRecord) -> str:
    """Return YAML: prompt, provider, and two tests for every test row.

    Raises:
        ConfigError: every question has demonstrations of its own, or answers are graded.
        DataError: the rows are gone.
    """
    how = prompt_turns(record, "promptfoo")
    layout, task = how.layout, how.task
    if metric_of(task) != "accuracy":
        why = f"answers of '{task.name}' are graded by {metric_of(task)}, which is no assertion of promptfoo."
        raise ConfigError(why, setting="format", value="promptfoo")
    ask = layout.extractor.strip() if layout.extractor_turn else ASK.format(extractor=layout.extractor.strip())
    turns = [
        f'{{"role": "{turn.role}", "content": {_dumped([p for part in turn.parts for p in (part, _QUESTION)][:-1])}}}'
        for turn in how.turns
    ]
    # What was said before in the conversation of a row: nothing, or the reasoning.
    said = '{"role": "assistant", "content": {{ said.output | dump }}}'
    follow = (
        f'{{% for said in _conversation %}}, {said}, {{"role": "user", "content": {{{{ ask | dump }}}}}}{{% endfor %}}'
    )
    value: dict[str, Any] = {
        "description": f"{record.task.get('task', task.name)}, trial {record.trial_id}",
        "prompts": [{"label": "greater-ray", "raw": f"[{', '.join(turns)}{follow}]"}],
        "providers": [
            {
                "id": f"openai:chat:{record.config.model.name.removeprefix('openai/')}",
                "config": {"temperature": 0, "max_tokens": layout.max_reasoning_tokens},
            }
        ],
        "tests": [test for row in task.test() for test in _tests(row, ask, task)],
    }
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return _HEADER.format(trial_id=record.trial_id, task=task.name) + text


def _tests(row: Example, ask: str, task: Task) -> list[dict[str, Any]]:
    first = {"vars": {"question": as_value(row.question), "ask": ""}, "metadata": {"conversationId": row.id}}
    second = {
        "vars": {"question": as_value(row.question), "ask": as_value(ask)},
        "metadata": {"conversationId": row.id},
        "assert": [check(row, task) | {"metric": "accuracy"}],
    }
    return [{"description": f"{row.id}: reasoning", **first}, {"description": f"{row.id}: answer", **second}]


def check(row: Example, task: Task) -> dict[str, Any]:
    """Return an assertion that an output states a row's label first of all; free text is to hold a right answer."""
    label = row.label
    pattern = pattern_of(task)
    if pattern is None:
        return {"type": "icontains-any", "value": [as_value(text) for text in (label, *row.references)]}
    found = f"(output.match(/{pattern}/{'i' if ignores_case(task) else ''}) || [])[1]"
    if task.answer_type == "number":
        number = f"Number(String({found}).replace(/,/g, ''))"
        # A canonical number may be a fraction, or too long for a float: JavaScript makes of both sides what it can.
        gold = " / ".join(f"Number('{part}')" for part in label.replace(",", "").split("/"))
        return {"type": "javascript", "value": f"{number} === {gold}"}
    said = json.dumps(label.lower(), ensure_ascii=False)
    return {"type": "javascript", "value": f"String({found}).toLowerCase() === {as_value(said)}"}


def as_value(text: str) -> str:
    """Return text that promptfoo renders to itself: values are templates too."""
    return text.replace("{", "{{ '{' }}") if re.search(r"\{[{%#]", text) else text


def _dumped(parts: Sequence[str]) -> str:
    """Return a template of the JSON string that joins texts and the question.

    No brace of a text stands beside what would make it markup: promptfoo looks for that before it parses anything.
    """
    literal = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "{": '{" ~ "', "}": '}" ~ "'}
    terms = []
    for part in parts:
        if part == _QUESTION:
            terms.append("question")
        elif part:
            terms.append('"' + "".join(literal.get(character, character) for character in part) + '"')
    return "{{ (" + (" ~ ".join(terms) or '""') + ") | dump }}"


PLUGIN = Format("a promptfoo configuration with the test rows (YAML)", promptfoo)

"""What every method that lets a model write says to it, rendered on rows of a real task's form."""

import re
from functools import cache
from itertools import count
from typing import NamedTuple

import pytest

from greater_ray.config import TaskConfig, parse
from greater_ray.methods.greater_textual import PLUGIN as GREATER_TEXTUAL
from greater_ray.models._generation import Writer, without_system
from greater_ray.models.engine import Engine
from greater_ray.plugins import load
from greater_ray.protocols import Problem
from greater_ray.tasks import load_task
from greater_ray.types import Conversation, Example
from tests.all_methods import NEEDED, WRITING
from tests.babbler import babble
from tests.families import tiny_model
from tests.letters import LetterModel, read
from tests.scripted import ScriptedWriter

# Works on tokens that words are written for; its own test is in tests/unit/methods/test_greater_textual.py.
METHODS = [name for name in WRITING if load("methods", name) is not GREATER_TEXTUAL]
# They work on the prompts alone and show no rows.
BLIND = {"ape-iterative", "evoprompt-de", "evoprompt-ga"}
# A row that breaks whatever takes a question for a pattern, a format string or a single line.
ODD = Example("odd", "Is {x} < 3 if\n  f'{y!r}' holds in 100 %s of cases?\n\nOptions:\n- Yes\n- No \\1", "Yes", "Yes")


class Said(NamedTuple):
    """What the writer was asked in a few steps, and the rows that could be shown in it."""

    conversations: tuple[Conversation, ...]
    rows: tuple[Example, ...]


@cache
def said(method: str) -> Said:
    plugin = load("methods", method)
    config = parse(plugin.config_type, NEEDED[method]["method_config"] if method in NEEDED else {})
    task = load_task(TaskConfig(name="bbh/object_counting", data="synthetic"))
    rows, draw = (*task.train()[:3], ODD), count()
    writer = ScriptedWriter(lambda conversation, row: babble(conversation, next(draw)).text)
    problem = Problem(rows, LetterModel(), 0, dev=rows, optimizer=writer, read=read)
    state = plugin.start(problem, config)
    for _ in range(6):
        if not state.finished:
            state, _ = plugin.step(problem, config, state)
    return Said(tuple(writer.asked), rows)


@cache
def writer(family: str) -> Writer:
    return Engine(*tiny_model(family))._writer


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_shown_as_they_are(method: str):
    texts = ["\n".join(m.content for m in conversation) for conversation in said(method).conversations]
    shown = {row.id for row in said(method).rows if any(row.question in text for text in texts)}
    assert texts
    assert shown == (set() if method in BLIND else {row.id for row in said(method).rows})


@pytest.mark.parametrize("method", METHODS)
def test_every_slot_is_filled(method: str):
    for conversation in said(method).conversations:
        for message in conversation:
            text = message.content
            for row in said(method).rows:
                text = text.replace(row.question, "")
            assert text.strip()
            assert not re.search(r"\{|\}|\bNone\b|Example\(|Message\(", text)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_it_renders_with_roles_without_a_system_role_and_without_a_template(method: str, family: str):
    of = writer(family)
    for conversation in said(method).conversations[:8]:
        text = of.tokenizer.decode(of.encode(conversation))
        for message in without_system(conversation) if family == "gemma2" else conversation:
            assert message.content.strip() in text

"""A Python file that asks an OpenAI-compatible endpoint as the trial did, with the openai client alone."""

import json
from random import Random
from typing import Any

from greater_ray.export import Format
from greater_ray.export._turns import PromptTurns, Turn, prompt_turns
from greater_ray.models.endpoint import ASK, CONTINUES, pieces
from greater_ray.records import TrialRecord
from greater_ray.types import SWITCHES, Layout

_FILE = '''\
"""Asks a model as trial {trial_id} did: it reasons under the prompt, then states its answer.

pip install openai
export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=...   # any key where the server asks for none
python THIS_FILE "A question"
"""

import functools
import re
import sys

import openai

MODEL = {model!r}  # as the server calls it
MAX_REASONING_TOKENS = {reasoning}
MAX_ANSWER_TOKENS = {answer}
EXTRACTOR = {extractor!r}
# How servers go on with a reply that was begun, by what they call themselves in their list of models. At any other one
# the answer is asked for in a turn of its own.
CONTINUES = {{
{continues}
}}
# What the chat template is told beside the conversation.
TEMPLATE = {template!r}


def messages(question):
    """Return the turns that ask a question."""
    return [
{turns}
    ]


@functools.cache
def way_of(client):
    """Return how the server goes on with a reply, or None."""
    owners = [model.owned_by for model in client.models.list()]
    return next((CONTINUES[owner] for owner in owners if owner in CONTINUES), None)


def ask(client, turns, max_tokens, **extra):
    """Return what the model says next: the likeliest text."""
    if TEMPLATE:
        extra["chat_template_kwargs"] = TEMPLATE
    reply = client.chat.completions.create(
        model=MODEL, messages=turns, max_tokens=max_tokens, temperature=0.0, seed={seed}, extra_body=extra or None
    )
    return reply.choices[0].message.content or ""


def answer(question, client=None):
    """Return the reasoning about a question, and the answer as the model completes the extractor."""
    client = client or openai.OpenAI()
    turns = messages(question)
    reasoning = ask(client, turns, MAX_REASONING_TOKENS)
{stated}

def follow_up(turns, reasoning, text):
    """Return the turns with a further one that asks for the answer."""
    if reasoning:
        return [*turns, {{"role": "assistant", "content": reasoning}}, {{"role": "user", "content": text}}]
    # Two turns of one side in a row are refused by many chat templates.
    return [*turns[:-1], {{"role": "user", "content": turns[-1]["content"] + "\\n\\n" + text}}]


if __name__ == "__main__":
    for part in answer(" ".join(sys.argv[1:])):
        print(part)
'''

_OWN_TURN = """\
    return reasoning, ask(client, follow_up(turns, reasoning, EXTRACTOR.strip()), MAX_ANSWER_TOKENS)
"""

_BEHIND_REASONING = """\
    way = way_of(client)
    if way is not None:
        begun = {{"role": "assistant", "content": reasoning + {glue!r} + EXTRACTOR}}
        return reasoning, ask(client, [*turns, begun], MAX_ANSWER_TOKENS, **way)
    # It may say the sentence again before it completes it.
    text = {ask!r}.format(extractor=EXTRACTOR.strip())
    said = ask(client, follow_up(turns, reasoning, text), MAX_ANSWER_TOKENS + {longer})
    again = re.match(r"\\W*" + r"\\s+".join(map(re.escape, EXTRACTOR.split())), said, re.IGNORECASE)
    return reasoning, said[again.end() :] if again else said
"""


def snippet(record: TrialRecord) -> str:
    """Return the text of a Python file that runs as it is.

    Raises:
        ConfigError: every question has demonstrations of its own.
        DataError: the rows that decide how the extractor reads are gone.
    """
    how = prompt_turns(record, "openai")
    layout = how.layout
    behind = _BEHIND_REASONING.format(glue=layout.glue, ask=ASK, longer=len(pieces(layout.extractor)))
    return _FILE.format(
        trial_id=record.trial_id,
        model=record.config.model.name.removeprefix("openai/"),
        reasoning=layout.max_reasoning_tokens,
        answer=layout.max_answer_tokens,
        extractor=layout.extractor,
        continues="\n".join(f"    {name!r}: {how!r}," for name, how in CONTINUES.items()),
        template=template_arguments(layout),
        turns=_turns(how),
        seed=Random(0).getrandbits(31),
        stated=_OWN_TURN if layout.extractor_turn else behind,
    )


def template_arguments(layout: Layout) -> dict[str, Any]:
    """Return what the chat template is told beside the conversation."""
    given = {name: json.loads(value) for name, value in layout.template_kwargs}
    return given if layout.thinking is None else given | dict.fromkeys(SWITCHES, layout.thinking)


def _turns(how: PromptTurns) -> str:
    return "\n".join(f'        {{"role": {turn.role!r}, "content": {_content(turn)}}},' for turn in how.turns)


def _content(turn: Turn) -> str:
    """Return a Python expression for the text of a turn."""
    texts = [repr(part) if part else "" for part in turn.parts]
    return " + ".join(filter(None, "\nquestion\n".join(texts).split("\n"))) or "''"


PLUGIN = Format("a Python file that asks an endpoint by the openai client", snippet)

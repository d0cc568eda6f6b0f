"""Where the prompt stands: the fixed text around question and prompt, cut out of the rendered conversation."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError, meta

from greater_ray.errors import ConfigError, ModelError, WrongModelError
from greater_ray.types import SWITCHES, TEMPLATE_DATE, Conversation, Layout, Message

_QUESTION, _PROMPT = "greaterquestion", "greaterprompt"
_TODAY = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
# Whatever else a template does with it, but to ask whether it is there.
_ASKS_TODAY = re.compile(r"\bstrftime_now\b(?!\s+is\b)")
_RENDERINGS = 3  # in which a template that draws by chance would hardly write the same
# What rendering a broken template raises, or one that refuses the turns.
BROKEN = (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class Surroundings(NamedTuple):
    """The text before, between and after question and prompt; the frozen prefix ends the one in front of the prompt."""

    opening: str
    between: str
    closing: str
    prompt_first: bool


def surroundings(tokenizer: Any, layout: Layout) -> Surroundings:
    """Return the text that a layout puts around question and prompt.

    Raises:
        ModelError: the chat template does not show both, each once.
        ConfigError: it cannot switch thoughts on or off, and the layout does.
    """
    if layout.thinking is not None and not switches(tokenizer):
        raise ConfigError(
            f"{layout.thinking} is not possible: the model's chat template reads none of {', '.join(SWITCHES)}.",
            setting="layout.thinking",
            value=layout.thinking,
        )
    turns = layout.conversation(_QUESTION, _PROMPT, system_role=shows_system(tokenizer))
    text = _rendered(tokenizer, turns, layout)
    counts = {text.count(_QUESTION), text.count(_PROMPT)}
    if counts != {1}:
        how = "does not show the user's text" if 0 in counts else "shows the user's text more than once"
        raise WrongModelError(f"its chat template {how}.", setting="model.name")
    prompt_first = text.index(_PROMPT) < text.index(_QUESTION)
    first, second = (_PROMPT, _QUESTION) if prompt_first else (_QUESTION, _PROMPT)
    opening, _, rest = text.partition(first)
    between, _, closing = rest.partition(second)
    return Surroundings(opening, between, closing, prompt_first)


def second_turn(tokenizer: Any, layout: Layout) -> str:
    """Return the text behind the reasoning that asks for the answer in a user's turn, up to where the answer begins.

    Raises:
        ModelError: the chat template does not show what the assistant said before.
    """
    turns = (Message("user", "?"), Message("assistant", _PROMPT), Message("user", layout.extractor.strip()))
    _, said, asking = _rendered(tokenizer, turns, layout).partition(_PROMPT)
    if not said or layout.extractor.strip() not in asking:
        why = "its chat template does not show a second question."
        raise ModelError(why, setting="layout.extractor_turn", value=True)
    return asking


def _rendered(tokenizer: Any, turns: Conversation, layout: Layout) -> str:
    """Render turns with the template's arguments that a layout holds.

    Raises:
        ModelError: the chat template refuses them.
    """
    given = {name: json.loads(value) for name, value in layout.template_kwargs}
    if layout.thinking is not None:
        given |= dict.fromkeys(switches(tokenizer), layout.thinking)
    try:
        text, *others = (render(tokenizer, turns, layout.date, given) for _ in range(_RENDERINGS))
    except BROKEN as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
        raise WrongModelError(f"its chat template cannot be used ({reason}).", setting="model.name") from error
    if any(other != text for other in others):
        raise WrongModelError("its chat template writes another text each time it is rendered.", setting="model.name")
    return text


def render(
    tokenizer: Any, turns: Conversation, date: str = TEMPLATE_DATE, given: Mapping[str, Any] | None = None
) -> str:
    """Return the text of a conversation up to where the model's own begins, on a day that the run keeps.

    ``given`` are arguments of the chat template. Raises one of ``BROKEN`` where it cannot be rendered.
    """
    if not tokenizer.chat_template:
        # A question is answered on the next line; all else is a paragraph of its own.
        return "".join(turn.content + ("\n" if turn.role == "user" else "\n\n") for turn in turns)
    messages = [message._asdict() for message in turns]
    template = _dated(tokenizer.get_chat_template(), date)
    text: str = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True, **(given or {})
    )
    return text


def _dated(template: str, date: str) -> str:
    """Write a day into a template where it asks for today's."""
    day = datetime.fromisoformat(date)
    dated = _TODAY.sub(lambda call: repr(day.strftime(call[2])), template)
    if _ASKS_TODAY.search(dated):
        raise ValueError("it writes today's date in a form that is not known beforehand")
    return dated


def turn_end(tokenizer: Any) -> str | None:
    """Return what the chat template writes behind what the assistant said, without blanks; None: nothing."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROMPT}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except BROKEN:
        return None
    return text.partition(_PROMPT)[2].strip() or None


def markup_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return all texts that become control tokens, or marks of turns: no text of a user or a writer may hold them."""
    added = tokenizer.added_tokens_decoder.values()
    template = str(tokenizer.chat_template or "")
    marks = {
        token.content for token in added if token.special or (len(token.content) > 1 and token.content in template)
    }
    return tuple(sorted(mark for mark in {*tokenizer.all_special_tokens, *marks} if mark.strip()))


def switches(tokenizer: Any) -> tuple[str, ...]:
    """Return the variables of the chat template that switch thoughts on or off."""
    if not tokenizer.chat_template:
        return ()
    # transformers' own tags around what the assistant says mean nothing here.
    source = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", tokenizer.get_chat_template())
    read = meta.find_undeclared_variables(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
    return tuple(name for name in SWITCHES if name in read)


def shows_system(tokenizer: Any) -> bool:
    """Tell whether there is a chat template that shows a system message: some refuse it, some drop it."""
    if not tokenizer.chat_template:
        return False
    try:
        return _PROMPT in render(tokenizer, (Message("system", _PROMPT), Message("user", "?")))
    except BROKEN:
        return False

"""Where the prompt stands: the fixed text around question and prompt, cut out of the rendered conversation."""

import re
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError, meta

from greater_ray.errors import ConfigError, ModelError
from greater_ray.types import SWITCHES, Conversation, Layout, Message

_QUESTION, _PROMPT = "greaterquestion", "greaterprompt"


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
    text = render(tokenizer, turns, layout.thinking)
    if text.count(_QUESTION) != 1 or text.count(_PROMPT) != 1:
        raise ModelError("its chat template does not show the user's text.", setting="model.name")
    prompt_first = text.index(_PROMPT) < text.index(_QUESTION)
    first, second = (_PROMPT, _QUESTION) if prompt_first else (_QUESTION, _PROMPT)
    opening, _, rest = text.partition(first)
    between, _, closing = rest.partition(second)
    return Surroundings(opening, between, closing, prompt_first)


def render(tokenizer: Any, turns: Conversation, thinking: bool | None = None) -> str:
    """Return the text of a conversation up to where the model's own begins."""
    if not tokenizer.chat_template:
        return "\n\n".join(message.content for message in turns) + "\n"
    messages = [message._asdict() for message in turns]
    given = {} if thinking is None else dict.fromkeys(switches(tokenizer), thinking)
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    return text


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
    except TemplateError:
        return False

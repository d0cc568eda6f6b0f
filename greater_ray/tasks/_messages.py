"""What another program asked a model, as a question: the last turn of a conversation, and options below a question."""

from collections.abc import Sequence
from typing import Any

from greater_ray.errors import DataError, Place
from greater_ray.tasks._letters import LETTERS


def last_turn(messages: Sequence[Any], setting: str, place: Place) -> str:
    """Return what the user said last; turns that follow each other are one.

    Args:
        messages: mappings with ``role`` and ``content``, a text or a list of parts ``{"type": "text", "text": ...}``.

    Raises:
        DataError: there is no turn of the user, or it holds more than text.
    """
    turns: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, dict) or message.get("role") != "user":
            if turns:
                break
            continue
        turns.insert(0, _text(message.get("content"), setting, place))
    if not turns:
        raise DataError("the messages hold no turn of a user.", setting=setting, place=place)
    return "\n\n".join(turns)


def _text(content: Any, setting: str, place: Place) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            why = f"the user's turn holds a part of type '{kind}'; rows are text alone."
            raise DataError(why, setting=setting, place=place)
        texts.append(part["text"])
    return "\n".join(texts)


def options_below(question: str, options: Sequence[str]) -> str:
    """Return the question with its options in lines below it, each behind its letter."""
    shown = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question}\nOptions:\n{shown}"

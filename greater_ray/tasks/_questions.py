"""One row of a user's own becomes a question and its gold answers."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError, Place, did_you_mean
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._messages import options_below
from greater_ray.tasks._parts import SPLIT_WORDS, Part
from greater_ray.tasks._sources import Row, plain
from greater_ray.tasks._templates import question_from

# Marks that programs leave around a text and nobody sees: byte order mark, zero width, direction.
_INVISIBLE = re.compile("\\A[\\s\ufeff\u200b\u200e\u200f\u2060]+|[\\s\ufeff\u200b\u200e\u200f\u2060]+\\Z")
# Half of a surrogate pair has no form in UTF-8, and no tokenizer reads a NUL.
_NO_TEXT = re.compile("[\ud800-\udfff\x00]")


def cell(part: Part, row: Row, column: str, setting: str) -> str:
    """One value as text; true and 3 in JSON are as good as "True" and "3".

    Raises:
        DataError: there is no such column, or it holds no text.
    """
    if column not in row.values:
        columns = [str(known) for known in row.values]
        why = f"no column '{column}' (§{setting}); columns: {', '.join(columns) or 'none'}."
        raise _wrong(part, row, why + did_you_mean(column, columns), allowed=columns)
    return _text(row.values[column], part, row, column, setting)


def _wrong(part: Part, row: Row, why: str, value: Any = None, allowed: Iterable[str] = ()) -> DataError:
    return DataError(why, setting=part.setting, place=Place(part.place, row.line), value=value, allowed=allowed)


def _text(value: Any, part: Part, row: Row, column: str, setting: str) -> str:
    if not isinstance(value, str | int | float | Decimal | None):
        why = f"'{column}' must be text or a number, not a {type(value).__name__}."
        raise _wrong(part, row, why, value)
    text = plain(value).strip()
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    # Most text is ASCII, in which a NUL is found much faster than by the pattern.
    if (not text.isascii() or "\x00" in text) and (odd := _NO_TEXT.search(text)) is not None:
        why = f"'{column}' holds the character {odd[0]!a}, which is no text; correct the row."
        raise _wrong(part, row, why)
    if not text:
        raise _wrong(part, row, f"'{column}' is empty (§{setting}).")
    return text


def question_and_golds(part: Part, row: Row, config: TaskConfig) -> tuple[str, tuple[str, ...]]:
    """Question and gold answers as text; with options, they stand below the question and the answer is a letter.

    A list in the answer column holds several right answers.

    Raises:
        ConfigError: the template of the question is none.
        DataError: a column is missing or holds no text, or the answer is none of the options.
    """
    question = _question(part, row, config)
    if config.choices_column is None:
        column, setting = config.answer_column, "task.answer_column"
        value = row.values.get(column)
        if isinstance(value, list) and value:
            return question, tuple(dict.fromkeys(_text(each, part, row, column, setting) for each in value))
        return question, (cell(part, row, column, setting),)
    options = _options(part, row, config.choices_column)
    return options_below(question, options), (_letter(part, row, config.answer_column, options),)


def _question(part: Part, row: Row, config: TaskConfig) -> str:
    if config.question_template is None:
        return cell(part, row, config.question_column, "task.question_column")
    question = question_from(config.question_template, row.values, Place(part.place, row.line))
    return _text(question, part, row, "the question", "task.question_template")


def _options(part: Part, row: Row, columns: str) -> list[str]:
    """Options of a choice: those of a column that holds a list, or one from each of several columns."""
    names = [name.strip() for name in columns.split(",")]
    value = row.values.get(names[0])
    if len(names) == 1 and isinstance(value, list):
        options = [
            plain(option).strip() and _text(option, part, row, columns, "task.choices_column") for option in value
        ]
    else:
        options = [cell(part, row, name, "task.choices_column") for name in names]
    if not 2 <= len(options) <= len(LETTERS) or not all(options):
        why = f"'{columns}' must hold a list of 2 to {len(LETTERS)} options, or name columns that hold one each."
        raise DataError(why, setting="task.choices_column", place=Place(part.place, row.line), value=value)
    return options


def _letter(part: Part, row: Row, column: str, options: list[str]) -> str:
    """The letter of the gold option, which a file gives as a letter, as the option's text or as its index from 0."""
    text = cell(part, row, column, "task.answer_column")
    index = int(text) if text.isdecimal() and int(text) < len(options) else None
    by_text = options.index(text) if options.count(text) == 1 else None
    letter = re.fullmatch(r"\(?([A-Z])\)?", text)
    if isinstance(row.values[column], int):
        place = index
    elif letter is not None and LETTERS.index(letter[1]) < len(options):
        place = LETTERS.index(letter[1])
    else:
        if None not in (by_text, index) and by_text != index:
            why = f"the answer {text!r} is the text of one option and the index of another; write its letter."
            raise _wrong(part, row, why, text)
        place = by_text if by_text is not None else index
    if place is None:
        why = f"the answer {text[:60]!r} is none of the {len(options)} options, no letter and no index of one."
        raise _wrong(part, row, why, text)
    return LETTERS[place]


def split_of(part: Part, row: Row, column: str) -> str:
    """The split of a row, as a column tells it.

    Raises:
        DataError: the column is missing or tells no split.
    """
    word = cell(part, row, column, "task.split_column")
    if word.lower() not in SPLIT_WORDS:
        why = f"{word!r} is no split; allowed: {', '.join(SPLIT_WORDS)}."
        raise DataError(why, setting="task.split_column", place=Place(part.place, row.line), value=word)
    return SPLIT_WORDS[word.lower()]


def refuse_unseen_options(part: Part, row: Row, config: TaskConfig) -> None:
    """Refuse to read answers to a choice whose options the model would not be shown.

    Raises:
        ConfigError: there are columns with options, and neither the options nor the answer type are set.
    """
    if config.choices_column is not None or config.answer_type is not None:
        return
    values = row.values
    found = next((name for name in ("choices", "options") if name in values), None)
    if found is None and {"A", "B"} <= values.keys():
        found = ",".join(letter for letter in LETTERS if letter in values)
    if found is not None:
        raise ConfigError(
            f"'{part.place}' has options in '{found}', which the model would not be shown; set §task.choices_column to "
            f"'{found}', or §task.answer_type to read the answers without them.",
            setting="task.choices_column",
        )

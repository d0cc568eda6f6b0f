"""Samples files of lm-evaluation-harness as rows: every doc is a row once, however many filters read its answer."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from greater_ray.errors import DataError, Place
from greater_ray.tasks._files import jsonl_rows
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._messages import last_turn, options_below
from greater_ray.tasks._sources import Row, plain

TOLD = (
    "samples of lm-eval; a doc's question is the part of what was asked that its fields fill, with its options below "
    "where they are not in it; the answer is its target; filters count once"
)
_KEYS = {"doc_id", "doc", "target", "arguments"}
_PUNCTUATION = "?.!)]\"'»”’"


class _Asked(NamedTuple):
    """What a doc's model was asked: the text, and the answers that were compared, where there were some."""

    text: str
    choices: tuple[str, ...]


def holds_samples(path: Path) -> bool:
    """Tell whether the first line of a file is a sample; what cannot be read is none."""
    try:
        with path.open("rb") as lines:
            first = json.loads(next((line for line in lines if line.strip()), b""))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.keys() >= _KEYS


def lm_eval_rows(path: Path, setting: str, *, question: bool = True, answer: bool = True) -> Iterator[Row]:
    """Read the docs of a samples file, in the order of their first samples.

    Columns are ``question`` and ``answer`` (where asked for), ``doc`` and ``doc.<name>``. A line is that of the sample.

    Raises:
        DataError: the file cannot be read, a line is no sample, or what was asked holds no question to be told.
    """
    docs: dict[tuple[str, str], tuple[int, Mapping[str, Any], _Asked]] = {}
    for row in jsonl_rows(path, setting, numbers=True):
        place = Place(str(path), row.line)
        if not row.values.keys() >= _KEYS:
            missing = ", ".join(sorted(_KEYS - row.values.keys()))
            raise DataError(
                f"is no sample of lm-eval as the first line is: no {missing}.", setting=setting, place=place
            )
        doc = row.values["doc"]
        name = (str(row.values["doc_id"]), json.dumps(doc, default=str, sort_keys=True))
        if name not in docs:
            asked = _asked(row.values["arguments"], setting, place) if question or answer else _Asked("", ())
            docs[name] = (row.line, row.values, asked)
    labels = len({asked.choices for _, _, asked in docs.values()}) == 1
    for index, (line, sample, asked) in enumerate(docs.values()):
        place = Place(str(path), line)
        doc = sample["doc"] if isinstance(sample["doc"], dict) else {"text": sample["doc"]}
        values: dict[str, Any] = {"doc": doc, **{f"doc.{name}": value for name, value in doc.items()}}
        found = _part_of_doc(asked.text, doc, sample["target"])
        shown = labels or all(_within(choice, found) for choice in asked.choices)
        if question:
            values["question"] = found if shown else options_below(found, asked.choices)
        if answer and asked.choices:
            right = _right(sample["target"], asked.choices, doc, setting, place)
            values["answer"] = asked.choices[right] if shown else LETTERS[right]
        elif answer:
            values["answer"] = sample["target"]
        yield Row(index, line, values)


def _asked(arguments: Any, setting: str, place: Place) -> _Asked:
    """Read what was asked: ``{"gen_args_0": {"arg_0": context, "arg_1": continuation or settings}}``, or lists."""
    calls = list(arguments.values()) if isinstance(arguments, dict) else arguments
    pairs = [
        list(call.values()) if isinstance(call, dict) else call for call in (calls if isinstance(calls, list) else ())
    ]
    if not pairs or not all(isinstance(pair, list) and pair and isinstance(pair[0], str) for pair in pairs):
        raise DataError("what was asked (arguments) is no text.", setting=setting, place=place)
    if all(len(pair) < 2 for pair in pairs):
        raise DataError("the sample measures how likely a text is; it has no answer.", setting=setting, place=place)
    choices = tuple(pair[1].strip() for pair in pairs if len(pair) > 1 and isinstance(pair[1], str))
    if choices and len({pair[0] for pair in pairs}) > 1:
        if len(set(choices)) > 1:
            # The same continuations behind an empty context: how likely answers are on their own.
            pairs = [pair for pair in pairs if pair[0] == pairs[0][0]]
            choices = tuple(pair[1].strip() for pair in pairs)
        else:
            why = (
                "the options are texts in front of the same words, so no part is the question; put it together from "
                "the doc's fields by §task.question_template, and name its answer by §task.answer_column."
            )
            raise DataError(why, setting=setting, place=place)
    if len(choices) > len(LETTERS):
        raise DataError(f"has {len(choices)} options; at most {len(LETTERS)}.", setting=setting, place=place)
    return _Asked(_conversation(pairs[0][0], setting, place), choices if len(choices) > 1 else ())


def _conversation(text: str, setting: str, place: Place) -> str:
    """Return the user's last turn of chat messages in JSON; other text as it is."""
    if text.lstrip().startswith("["):
        try:
            messages = json.loads(text)
        except ValueError:
            return text
        if isinstance(messages, list) and messages and all(isinstance(m, dict) and "role" in m for m in messages):
            return last_turn(messages, setting, place)
    return text


def _part_of_doc(text: str, doc: Mapping[str, Any], target: Any) -> str:
    """Return the part of what was asked that the doc's fields fill; all of it where they fill none.

    Descriptions, worked examples, words such as "Answer:" and a chat template's markup stand outside of it. The
    target is no part of a question: "no" may stand in "Answer yes or no:" behind it.
    """
    spans = [span for value in _texts(doc) if value != target and (span := _last(value, text)) is not None]
    if not spans:
        return text.strip()
    begin, end = anchor = max(spans, key=lambda span: span[1] - span[0])
    for left, right in sorted(spans, reverse=True):
        # A field in front begins a line, or stands behind its name: not a word within a description.
        line = text[text.rfind("\n", 0, left) + 1 : left].strip()
        if left < begin and begin - right <= _NEAR and (not line or line.endswith(":")):
            begin = left
    end = max([right for left, right in spans if left >= anchor[0]])
    while end < len(text) and text[end] in _PUNCTUATION:
        end += 1
    return text[begin:end].strip()


_NEAR = 40  # characters between two fields of a question: a name such as "Question:" and line ends


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _last(value: str, text: str) -> tuple[int, int] | None:
    """Return where a text stands last, as words of their own."""
    spans = [found.span() for found in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text)]
    return spans[-1] if spans else None


def _within(choice: str, question: str) -> bool:
    return _last(choice, question) is not None


def _right(target: Any, choices: Sequence[str], doc: Mapping[str, Any], setting: str, place: Place) -> int:
    """Return the index of the right option: a target is its index or its text, and both are written as text.

    Raises:
        DataError: it is none of them, or cannot be told.
    """
    text = plain(target).strip() if isinstance(target, str | int) else ""
    index = int(text) if text.isdecimal() and int(text) < len(choices) else None
    by_text = choices.index(text) if choices.count(text) == 1 else None
    if index is None and by_text is None:
        why = f"the target {str(target)[:40]!r} is neither the number nor the text of one of {len(choices)} options."
        raise DataError(why, setting=setting, place=place, value=target)
    if by_text is None or index == by_text:
        return int(text)
    if index is None:
        return by_text
    as_index = any(value == index and type(value) is int for value in doc.values())
    as_text = any(value == text for value in doc.values())
    if as_index == as_text:
        why = f"the target {text!r} is the text of one option and the number of another; name the answer's field by "
        raise DataError(why + "§task.answer_column (doc.NAME).", setting=setting, place=place, value=target)
    return index if as_index else by_text

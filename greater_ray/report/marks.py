"""What has changed between two texts of a prompt."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

# A part of a text: kept ("="), new ("+") or gone ("-").
Part = tuple[str, str]

# Longer texts are compared as wholes: the comparison of words takes their number squared.
_LONGEST = 2000
# Texts that share fewer of their words are two texts: marks among them would tell nothing.
_LEAST_SHARED = 0.4


def token_change(old: str, new: str, token: str) -> list[Part]:
    """Return the parts of a prompt of which one token was replaced by ``token``, or appended.

    What both texts begin and end with is kept; the new part is grown to the whole token, since a token may share
    letters with the one that it replaced.
    """
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    stop = len(new) - end
    first = max(0, stop - len(token))
    at = next((k for k in range(first, begin + 1) if new.startswith(token, k) and k + len(token) >= stop), None)
    if token and at is not None:
        shift = at + len(token) - stop
        begin, stop, end = at, at + len(token), end - shift
    return _joined([("=", new[:begin]), ("-", old[begin : len(old) - end]), ("+", new[begin:stop]), ("=", new[stop:])])


def word_changes(old: str, new: str) -> list[Part]:
    """Return the parts of a rewritten prompt, word by word; of one that shares little with the old one, both whole."""
    before, after = _words(old), _words(new)
    if len(before) * len(after) > _LONGEST**2:
        return _joined([("-", old), ("+", new)])
    parts = list(_parts(before, after))
    kept = sum(len(re.findall(r"\w+", text)) for kind, text in parts if kind == "=")
    if kept < _LEAST_SHARED * max(len(re.findall(r"\w+", old)), len(re.findall(r"\w+", new))):
        return _joined([("-", old), ("+", new)])
    return _joined(parts)


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def _parts(before: list[str], after: list[str]) -> Iterator[Part]:
    gone = new = ""
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        text = "".join(after[c:d])
        # A blank between two changes belongs to them: words that changed side by side are one change.
        if kind == "equal" and not (text.isspace() and (gone or new) and d < len(after)):
            yield from (("-", gone), ("+", new), ("=", text))
            gone = new = ""
        else:
            gone, new = gone + "".join(before[a:b]), new + text
    yield from (("-", gone), ("+", new))


def _joined(parts: Iterator[Part] | list[Part]) -> list[Part]:
    return [part for part in parts if part[1]]

"""What has changed between two texts of a prompt."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

# A part of a text: kept ("="), new ("+") or gone ("-").
Part = tuple[str, str]

# Longer texts are compared as wholes: the comparison of words takes their number squared.
_LONGEST = 2000


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
    """Return the parts of a rewritten prompt, word by word."""
    before, after = _words(old), _words(new)
    if len(before) * len(after) > _LONGEST**2:
        return _joined([("-", old), ("+", new)])
    return _joined(_parts(before, after))


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def _parts(before: list[str], after: list[str]) -> Iterator[Part]:
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "=", "".join(after[c:d])
        else:
            yield "-", "".join(before[a:b])
            yield "+", "".join(after[c:d])


def _joined(parts: Iterator[Part] | list[Part]) -> list[Part]:
    return [part for part in parts if part[1]]

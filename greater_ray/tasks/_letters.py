"""Reading the letter of an option, past brackets, marks and the English words "A" and "I"."""

import re
from collections.abc import Iterable, Iterator

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# "A" and "I" are also English words: before a blank and a small-letter word they are read as a letter only if that word
# is one that follows a name ("A is correct", "I because ..."), not in "A good answer" or "I think".
_AFTER_A_NAME = r"(?:is|was|because|since|and|or|as|with|which|for|in|are)\b"
_NOT_AN_ARTICLE = rf"(?![^\S\n]+(?!{_AFTER_A_NAME})[a-z])"
_LETTER_END = r"(?![A-Za-z0-9_'’])"
_LEADING = re.compile(rf"[\W_]*([A-Z])(?![A-Za-z0-9'’]){_NOT_AN_ARTICLE}")
_LEADING_SMALL = re.compile(r"[\W_]*([a-z])(?:[^\S\n]*[)\]}.:,*$]|\s*\Z)")
_BRACKETED = re.compile(r"[(\[{][\s*$]*([A-Z])[\s*$]*[)\]}]")
_BRACKETED_SMALL = re.compile(r"[(\[{][\s*$]*([a-z])[\s*$]*[)\]}]")
_MARKED = re.compile(r"\b(?i:answer|option|choice)\b(?i:\s+is)?\s*:?[\s*$(\[]*([A-Za-z])(?:[)\]}.:,*$]|\s*\Z)")
_ALONE = re.compile(rf"(?<![A-Za-z0-9_'’])([A-Z]){_LETTER_END}{_NOT_AN_ARTICLE}")

_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|rather than|instead of|unlike)|n['’]t)\s+"
    r"(?:(?:be|the|an?|option|answer|choice)\s+){0,3}[\s*$(\[{]*\Z",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"[\s*$)\]}]*\s(?:is|are|was|can|must|seems)(?:not|n['’]t)?\s+(?:(?:clearly|also|be|simply|definitely)\s+)*"
    r"(?:wrong|incorrect|false|impossible|eliminated|excluded|ruled out|"
    r"not\s+(?:correct|right|true|the|possible|it))\b",
    re.IGNORECASE,
)
_DOUBLE = re.compile(
    r"[\s*$)\]}]*\s\w+(?:not|n['’]t)\b|[\s*$)\]}]*\s(?:is|are) not (?:wrong|incorrect|false)", re.IGNORECASE
)


def _denied(text: str, start: int, end: int) -> bool:
    if _DENIED_BEFORE.search(text[max(0, start - 60) : start]):
        return True
    return bool(_DENIED_BEHIND.match(text, end)) and not _DOUBLE.match(text, end)


def _stated(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """Yield the letters that a pattern finds, but those that are denied: "not A", "(A) is wrong"."""
    for found in pattern.finditer(text):
        if not _denied(text, *found.span(1)):
            yield found[1]


def read_letter(text: str, letters: Iterable[str]) -> str | None:
    """Read the first option letter of an answer; the first rule that applies decides.

    1. A capital letter on its own at the start, whatever brackets, ``$`` or ``*`` stand before it. If it is none of
       ``letters`` the answer is unreadable. A small letter counts before a closing mark or the end: ``b)``, ``b``.
    2. The first letter in brackets: ``(B)``, ``[B]``, ``\\boxed{B}``; capitals before small letters.
    3. The first letter after "answer", "answer is", "option" or "choice", before a closing mark or the end.
    4. The first capital letter on its own, "A" and "I" not where they are English words.

    A letter that is denied does not count: "not A, but B", "(A) is wrong".
    """
    allowed = set(letters)
    for pattern in (_LEADING, _LEADING_SMALL):
        found = pattern.match(text)
        if found and not _denied(text, *found.span(1)):
            return found[1].upper() if found[1].upper() in allowed else None
    for pattern in (_BRACKETED, _BRACKETED_SMALL, _MARKED, _ALONE):
        for letter in _stated(pattern, text):
            if letter.upper() in allowed:
                return letter.upper()
    return None


def last_letter(text: str, letters: Iterable[str]) -> str | None:
    """Read the last capital letter of ``letters`` in brackets: ``(B)``, ``[B]``, ``\\boxed{B}``, ``($B$)``."""
    allowed = set(letters)
    found = [letter for letter in _stated(_BRACKETED, text) if letter in allowed]
    return found[-1] if found else None


def gold_letter(text: str, letters: Iterable[str]) -> str | None:
    """Read a gold answer that is nothing but a letter: ``A``, ``(A)``, ``[A]``, ``A)``, ``A.``, ``a``."""
    found = re.fullmatch(r"[(\[{]?\s*([A-Za-z])\s*[)\]}]?\s*[.:]?", text.strip())
    return found[1].upper() if found and found[1].upper() in set(letters) else None

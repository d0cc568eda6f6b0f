"""Reading free text, and folding what does not matter in it."""

import re
import unicodedata
from functools import lru_cache

_MARKER = re.compile(r"answer(?:\s+is)?\s*:?", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\s,;]+")
_WORD_CHARACTER = re.compile(r"[^\W_]")


@lru_cache(maxsize=1024)  # a text is often folded several times in a row
def normalize_text(text: str) -> str:
    """Fold what does not matter in a free answer: case, blanks, commas between words, quotes and marks around it.

    Where no letter or digit is left (bracket sequences), blanks do not matter at all. An accented letter of two
    characters is that of one.
    """
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    folded = _BETWEEN_WORDS.sub(" ", text).strip(" .:!?*`\"'“”‘’$_").casefold()
    return folded if _WORD_CHARACTER.search(folded) else folded.replace(" ", "")


def lightly_folded(text: str) -> str:
    """Fold what data sets write now this way, now that way: case, blanks, quotes around it and a full stop."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)
    return re.sub(r"\s+", " ", text).strip(" \"'“”‘’`").rstrip(". ").casefold()


def lines(text: str) -> list[str]:
    """Return the lines that hold something, without blanks around them."""
    return [line.strip() for line in text.splitlines() if normalize_text(line)]


def read_text(text: str) -> str | None:
    """Read the first line that holds something."""
    found = lines(text)
    return found[0] if found else None


def last_text(text: str) -> str | None:
    """Read what follows the last "answer is" or "answer:" on its line, else the last line that holds something."""
    marks = list(_MARKER.finditer(text))
    after = read_text(text[marks[-1].end() :]) if marks else None
    found = lines(text)
    return after if after is not None else found[-1] if found else None

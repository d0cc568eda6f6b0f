"""Reading answers: what a model wrote, turned into a label or into None when no answer can be read.

Two readings of one reply (paper App. A; the authors' own scorer is not public, so the rules are stated here):

* ``read``: the text after the extractor, where the answer comes *first*;
* ``read_last``: the reasoning alone, where the answer comes *last* (strict, comparable with other evaluations).

Every function accepts any text and never raises.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from greater_ray.config import AnswerType

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORD_CHOICES: dict[str, tuple[str, str]] = {
    "boolean": ("True", "False"),
    "yes-no": ("Yes", "No"),
    "valid-invalid": ("valid", "invalid"),
}

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

_SIGN = r"(?:(?<![\w)\]])[-−–+]|\b[Nn]egative\s+)"
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(rf"({_SIGN})?(?:\\?[$€£]\s?)?({_SIGN})?({_DIGITS})")
_ONLY_NUMBER = re.compile(rf"\s*([-−–+])?\s*(?:[$€£]\s?)?({_DIGITS})\s*%?\s*\.?\s*")
# A sign with a blank behind it counts only at the very start: elsewhere it is a bullet or an operator.
_SPACED_SIGN = re.compile(r"^([^\S\n]*[$*(\\]*)[-−–][^\S\n]+(?=[$\\]*[0-9])")
_GROUPING = re.compile(r"(?<=[0-9])(?:\{,\}|\\,|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
_ARITHMETIC = "0123456789 \t.,$()+-−–*/×÷·"
_OPERATION = re.compile(r"[0-9][)\s]*[+\-−–*/×÷·][($\s\-−–]*[0-9]")

# fmt: off -- one word a line tells a reader nothing
_UNITS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_TENS_WORD = rf"({'|'.join(_TENS)})(?:[-\s]({'|'.join(_UNITS[1:10])}))?"
_NUMBER_WORD = re.compile(rf"(?<!\w)(?ai:{_TENS_WORD}|({'|'.join(_UNITS)}))(?!\w)")
_WORD_VALUES = {word: i for i, word in enumerate(_UNITS)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}

_NEGATION = re.compile(r"(?:\bnot|n['’]t)\s+(?:(?:a|an|deductively|logically|formally)\s+){0,2}\Z", re.IGNORECASE)
_TEXT_MARKER = re.compile(r"answer(?:\s+is)?\s*:?", re.IGNORECASE)


def read_letter(text: str, letters: Iterable[str]) -> str | None:
    """Read the first option letter of an answer; the first rule that applies decides.

    1. A capital letter on its own at the start, whatever brackets, ``$`` or ``*`` stand before it. If it is none of
       ``letters`` the answer is unreadable. A small letter counts before a closing mark or the end: ``b)``, ``b``.
    2. The first letter in brackets: ``(B)``, ``[B]``, ``\\boxed{B}``; capitals before small letters.
    3. The first letter after "answer", "answer is", "option" or "choice", before a closing mark or the end.
    4. The first capital letter on its own, "A" and "I" not where they are English words.
    """
    allowed = set(letters)
    for pattern in (_LEADING, _LEADING_SMALL):
        found = pattern.match(text)
        if found:
            return found[1].upper() if found[1].upper() in allowed else None
    for pattern in (_BRACKETED, _BRACKETED_SMALL, _MARKED, _ALONE):
        for found in pattern.finditer(text):
            if found[1].upper() in allowed:
                return found[1].upper()
    return None


def last_letter(text: str, letters: Iterable[str]) -> str | None:
    """Read the last capital letter of ``letters`` in brackets: ``(B)``, ``[B]``, ``\\boxed{B}``, ``($B$)``."""
    allowed = set(letters)
    found = [letter for letter in _BRACKETED.findall(text) if letter in allowed]
    return found[-1] if found else None


def _choices_found(text: str, choices: tuple[str, ...]) -> Iterator[str]:
    """Every choice in order of appearance; "not valid" counts as "invalid", "not true" as "false"."""
    folded = [choice.lower() for choice in choices]
    can_be_negated = "yes" not in folded  # "not yes" is nobody's way to say no
    # "a": otherwise, ignoring case, a dotless i would match an i, and be no key of anything.
    for found in re.finditer(rf"(?<![^\W_])((?ai:{'|'.join(folded)}))(?![^\W_])", text):
        index, end = folded.index(found[1].lower()), found.start()
        while can_be_negated and (negation := _NEGATION.search(text, max(0, end - 40), end)):
            index, end = 1 - index, negation.start()
        yield choices[index]


def read_word(text: str, choices: tuple[str, ...]) -> str | None:
    """Read the first of two words, in any case and as a whole word."""
    return next(_choices_found(text, choices), None)


def last_word(text: str, choices: tuple[str, ...]) -> str | None:
    """Read the last of two words, in any case and as a whole word."""
    found = list(_choices_found(text, choices))
    return found[-1] if found else None


def canonical_number(text: str) -> str:
    """Write a decimal numeral so that equal numbers are equal strings: ``"+03.50"`` is ``"3.5"``, ``"-0"`` is ``"0"``.

    Done on the string: a model may write more digits than an int may be parsed from.
    """
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("+-").replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if negative and value != "0" else value


def _numbers(text: str) -> list[tuple[int, str]]:
    """Every number with the position where it ends. Exponents and fractions are not put together."""
    result = []
    for found in _NUMBER.finditer(text):
        sign = found[1] or found[2] or ""
        minus = "-" if sign[:1] in ("-", "−", "–", "n", "N") else ""
        result.append((found.end(), canonical_number(minus + found[3])))
    return result


def _after_arithmetic(line: str) -> str:
    """Drop a leading calculation: of ``"5 + 3 = 8 apples"`` keep ``"8 apples"``; ``"24 = 4 * 6"`` stays as it is."""
    while "=" in line:
        left, _, right = line.partition("=")
        words = left.rstrip(_ARITHMETIC)
        is_calculation = _OPERATION.search(left[len(words) :]) and not re.search("[0-9]", words)
        if not is_calculation or not _NUMBER.search(right):
            break
        line = right
    return line


def read_number(text: str) -> str | None:
    """Read the first signed number of an answer, without commas, currency or percent: ``"−$1,234.50"`` is ``-1234.5``.

    A calculation is read by its result (``"16 - 3 = 13"`` is 13) if the result is there. Without any digit, number
    words up to ninety-nine count (``"twenty-four"``).
    """
    text = _SPACED_SIGN.sub(r"\1-", _GROUPING.sub("", text), count=1)
    first_line, newline, rest = text.lstrip().partition("\n")
    found = _numbers(_after_arithmetic(first_line) + newline + rest)
    if found:
        return found[0][1]
    word = _NUMBER_WORD.search(text)
    if word is None:
        return None
    return str(sum(_WORD_VALUES[part.lower()] for part in word.groups() if part))


def last_number(text: str) -> str | None:
    """Read the last signed number written in digits."""
    found = _numbers(_GROUPING.sub("", text))
    return found[-1][1] if found else None


def normalize_text(text: str) -> str:
    """Fold what does not matter in a free answer: case, blanks, commas between words, quotes and marks around it.

    Where no letter or digit is left (bracket sequences), blanks do not matter at all.
    """
    folded = re.sub(r"[\s,;]+", " ", text).strip(" .:!?*`\"'“”‘’$_").casefold()
    return folded if re.search(r"[^\W_]", folded) else folded.replace(" ", "")


def read_text(text: str) -> str | None:
    """Read the first line that holds something."""
    lines = [line.strip() for line in text.splitlines() if normalize_text(line)]
    return lines[0] if lines else None


def last_text(text: str) -> str | None:
    """Read what follows the last "answer is" or "answer:" on its line, else the last line that holds something."""
    marks = list(_TEXT_MARKER.finditer(text))
    after = read_text(text[marks[-1].end() :]) if marks else None
    if after is not None:
        return after
    lines = [line.strip() for line in text.splitlines() if normalize_text(line)]
    return lines[-1] if lines else None


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the answers of one task look: its type, and the letters or words it allows (empty for numbers and text).

    ``number`` says which numbers the answers are, for the wording of an extractor: ``"positive"``, ``"signed"`` or
    ``"any"``.
    """

    type: AnswerType
    choices: tuple[str, ...] = ()
    number: str = "any"

    @property
    def kind(self) -> str:
        """The key of this form in a table of extractors: letter, word, text or number-positive, -signed, -any."""
        if self.type in WORD_CHOICES:
            return "word"
        return f"number-{self.number}" if self.type == "number" else self.type

    def label(self, target: str) -> str | None:
        """Turn a gold answer into the text that is scored, or None if it is no answer of this form."""
        target = target.strip()
        if self.type == "letter":
            found = re.fullmatch(r"\(?\s*([A-Za-z])\s*\)?", target)
            return found[1].upper() if found and found[1].upper() in self.choices else None
        if self.type in WORD_CHOICES:
            return next((choice for choice in self.choices if choice.lower() == target.lower()), None)
        if self.type == "number":
            number = _ONLY_NUMBER.fullmatch(target)
            minus = "-" if number and number[1] in ("-", "−", "–") else ""
            return canonical_number(minus + number[2]) if number else None
        return target or None

    def read(self, text: str) -> str | None:
        """Read an answer that stands at the start of ``text`` (after the extractor)."""
        if self.type == "letter":
            return read_letter(text, self.choices)
        if self.type in WORD_CHOICES:
            return read_word(text, self.choices)
        return read_number(text) if self.type == "number" else read_text(text)

    def read_last(self, text: str) -> str | None:
        """Read an answer that stands at the end of ``text`` (the reasoning alone)."""
        if self.type == "letter":
            return last_letter(text, self.choices)
        if self.type in WORD_CHOICES:
            return last_word(text, self.choices)
        return last_number(text) if self.type == "number" else last_text(text)

    def same(self, prediction: str | None, label: str) -> bool:
        """Tell whether a prediction equals the gold label, both normalized the same way."""
        if prediction is None:
            return False
        if self.type == "text":
            return normalize_text(prediction) == normalize_text(label)
        return prediction == self.label(label)


def letter_form(letters: str | int) -> AnswerForm:
    """Form of a multiple-choice task with the given letters, or with the first so many."""
    return AnswerForm("letter", tuple(LETTERS[:letters] if isinstance(letters, int) else letters))


def default_form(answer_type: AnswerType) -> AnswerForm:
    """Form of a task of which only the answer type is known."""
    if answer_type == "letter":
        return letter_form(LETTERS)
    return AnswerForm(answer_type, WORD_CHOICES.get(answer_type, ()))

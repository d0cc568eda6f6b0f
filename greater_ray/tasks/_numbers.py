"""Reading numbers: grouped digits, currency, percent, fractions, powers of ten, LaTeX, digits of any script, words.

A number is returned as the one string that stands for its value: a plain decimal (``"-1234.5"``), or a reduced fraction
where no decimal ends (``"1/3"``). It is done on strings: a model may write more digits than an int may be parsed from.
"""

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

_SIGN = r"(?:(?<![\w)\]])[-−–+]|\b(?:[Nn]egative|[Mm]inus)\s+)"
_DECIMAL = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_RATIO = r"(?:([0-9]{1,3})[^\S\n]+)?([0-9]+)/([0-9]+)(?![0-9/])"
_NUMBER = re.compile(
    rf"({_SIGN})?(?:\\?[$€£₹¥]\s?)?({_SIGN})?(?:(?<![0-9/.]){_RATIO}|({_DECIMAL})(?:[eE]([+\-−]?[0-9]{{1,3}})(?![0-9A-Za-z]))?)"
)
_DIGIT = re.compile("[0-9]")
_GOLD_CLOTHES = re.compile(r"\\boxed\s*\{(.*)\}|\\text\s*\{(.*)\}", re.DOTALL)
# A sign with a blank behind it counts only at the very start: elsewhere it is a bullet or an operator.
_SPACED_SIGN = re.compile(r"^([^\S\n]*[$*(\\]*)[-−–][^\S\n]+(?=[$\\]*[0-9])")

_FRACTION = re.compile(
    r"([0-9])?\s*\\[dtc]?frac\s*(?:\{\s*([-−–]?[0-9.]+)\s*\}|([0-9]))\s*(?:\{\s*([0-9.]+)\s*\}|([0-9]))"
)
_REWRITES = (
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "×"),
    (re.compile(r"\\div(?![a-zA-Z])"), "÷"),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\!"), ""),
    (re.compile(r"(?<=[0-9])(?:\{,\}|\\,|[\u00a0\u2009\u202f'’_])(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(r"(?<![0-9.,])([0-9]{1,3})((?:,[0-9]{3})+)(?![0-9])"), ""),
    (re.compile(r"(?<![0-9.,])([0-9]{1,2})((?:,[0-9]{2})+,[0-9]{3})(?![0-9])"), ""),
    (re.compile(r"(?<![0-9.,/] )(?<![0-9.,/])([1-9][0-9]{0,2})((?: [0-9]{3})+)(?![0-9,/]| [0-9])"), ""),
    (re.compile(r"(?<=[0-9])\s*[xX]\s*(?=[$]?[0-9])"), " × "),
)
_POWER = re.compile(
    r"(?:(?<![\w.])([0-9]+(?:\.[0-9]+)?)\s*[×*·]\s*)?(?<![\w.])10\s*(?:\^|\*\*)\s*\{?\s*([-−–]?[0-9]{1,3})\s*\}?"
)

_UNIT_WORDS = r"(?:[^\S\n]+[a-zA-Z]+){0,3}"
_TERM = rf"[($\s\-−–]*[0-9][0-9.,/%]*{_UNIT_WORDS}[)\s]*"
_CALCULATION = re.compile(rf"(?:\A|[:;,.=]|\b[a-zA-Z]+)\s*{_TERM}(?:[+\-−–*/×÷·]{_TERM})+\Z")
_EQUALS = re.compile(r"\s(?:equals|is equal to|makes|gives)\s|=>|→|≈")
_MARKED = re.compile(r"\banswer\b[^\S\n]*(?:is|would be|should be|=|:|→)+", re.IGNORECASE)

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
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_WORD_VALUES = {word: i for i, word in enumerate(_UNITS)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_WORD = rf"(?:{'|'.join([*_UNITS, *_TENS, *_SCALES])})"
_NUMBER_WORDS = re.compile(
    rf"(?<!\w)(?ai:(negative\s+|minus\s+)?((?:half\s+a\s+|an?\s+)(?={'|'.join(_SCALES)}))?({_WORD}(?:(?:[-\s]+|\s+and\s+){_WORD})*))(?!\w)"
)


class Found(NamedTuple):
    """A number in a text that was rewritten: where it begins and ends, and its canonical form."""

    start: int
    end: int
    value: str


def canonical_number(text: str) -> str:
    """Write a decimal numeral so that equal numbers are equal strings: ``"+03.50"`` is ``"3.5"``, ``"-0"`` ``"0"``."""
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("+-").replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if negative and value != "0" else value


def _shifted(decimal: str, exponent: int) -> str:
    """Move the decimal point of an unsigned numeral."""
    whole, _, fraction = decimal.partition(".")
    digits, point = whole + fraction, len(whole) + exponent
    if point <= 0:
        return "0." + "0" * -point + digits
    digits += "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def _ratio(whole: str | None, above: str, below: str) -> str | None:
    """Write a fraction as a decimal where one ends; None where it is none."""
    if max(map(len, (above, below))) > 40 or not Fraction(below):
        return None
    value = Fraction(above) / Fraction(below) + int(whole or 0)
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    return canonical_number(_shifted(str(int(value * 10**digits)), -digits))


def _plain(text: str) -> str:
    """Rewrite digits of other scripts, LaTeX, groups and powers of ten as plain numerals."""
    text = "".join(map(_ascii_digit, text)) if not text.isascii() else text
    text = _FRACTION.sub(lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", text)
    for pattern, replacement in _REWRITES:
        if pattern.groups:
            text = pattern.sub(lambda m: m[1] + re.sub("[, ]", "", m[2]), text)
        else:
            text = pattern.sub(replacement, text)
    return _POWER.sub(lambda m: f"{m[1] or 1}e{m[2].replace('−', '-').replace('–', '-')}", text)


def _ascii_digit(character: str) -> str:
    if character.isascii():
        return character
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    parts = unicodedata.normalize("NFKC", character) if unicodedata.category(character) == "No" else ""
    if "\u2044" in parts:  # a fraction in one character
        return " " + parts.replace("\u2044", "/")
    return "/" if character == "\u2044" else character


def _numbers(text: str) -> list[Found]:
    """Every number of a rewritten text; those inside words, as in ``H2O``, only if there are no others."""
    alone: list[Found] = []
    inside: list[Found] = []
    for match in _NUMBER.finditer(text):
        first, second, whole, above, below, decimal, exponent = match.groups()
        sign = (first or second or "").strip()
        minus = "-" if sign[:1] in ("-", "−", "–", "n", "N", "m", "M") else ""
        value = _ratio(whole, above, below) if above else _shifted(decimal, int((exponent or "0").replace("−", "-")))
        if value is None:
            continue
        begin = match.start(4 if above and not whole else 3 if above else 6)
        found = Found(match.start(), match.end(), value if "/" in value else canonical_number(minus + value))
        if "/" in value and minus:
            found = found._replace(value="-" + value)
        (inside if begin and text[begin - 1].isalpha() else alone).append(found)
    return alone or inside


def _after_arithmetic(line: str) -> str:
    """Drop a leading calculation: of ``"5 + 3 = 8 apples"`` keep ``"8 apples"``; ``"24 = 4 * 6"`` stays as it is."""
    line = _EQUALS.sub(" = ", line)
    while "=" in line:
        left, _, right = line.partition("=")
        calculation = _CALCULATION.search(left)
        if not calculation or re.search("[0-9]", left[: calculation.start()]) or not _NUMBER.search(right):
            break
        line = right
    return line


def read_number(text: str) -> str | None:
    """Read the first number of an answer, without groups, currency or percent: ``"−$1,234.50"`` is ``-1234.5``.

    A calculation is read by its result (``"16 - 3 = 13"`` is 13) if the result is there, and a sentence that marks its
    answer by what follows the mark ("... the answer is 12."). Without any digit, number words count.
    """
    # GSM8K's own mark of the answer, which models that have seen it write, too.
    text = text.partition("####")[2] or text
    text = _SPACED_SIGN.sub(r"\1-", _plain(text), count=1)
    first_line, newline, rest = text.lstrip().partition("\n")
    text = _after_arithmetic(first_line) + newline + rest
    if re.match(r"[\W_]*[0-9]", text) is None:
        marked = [found for mark in _MARKED.finditer(text) if (found := _numbers(text[mark.end() :]))]
        if marked:
            return marked[0][0].value
    found = _numbers(text)
    return found[0].value if found else _number_in_words(text)


def last_number(text: str) -> str | None:
    """Read the last signed number written in digits; without any, the last one in words."""
    found = _numbers(_plain(text))
    return found[-1].value if found else _number_in_words(text, last=True)


def _number_in_words(text: str, last: bool = False) -> str | None:
    matches = list(_NUMBER_WORDS.finditer(text))
    if not matches:
        return None
    match = matches[-1 if last else 0]
    total, group = 0, 0
    half = (match[2] or "").lower().startswith("half")
    for word in re.findall(r"[a-z]+", match[3].lower()):
        if word == "and":
            continue
        if word not in _SCALES:
            group += _WORD_VALUES[word]
        elif word in ("dozen", "hundred"):
            group = (group or 1) * _SCALES[word]
        else:
            total, group = total + (group or 1) * _SCALES[word], 0
    value = total + group
    if half:
        value //= 2
    return f"-{value}" if match[1] and value else str(value)


def gold_number(text: str) -> str | None:
    """Read a gold answer that is nothing but a number, in the dress that data sets give it; None if it is more."""
    text = text.rpartition("####")[2].strip()
    # Sentences are told from numbers before they are rewritten, which takes its time.
    if text.isascii() and (
        _DIGIT.search(text) is None or ("\\" not in text and sum(map(str.isalpha, text[:200])) > 16)
    ):
        return None
    while clothes := _GOLD_CLOTHES.fullmatch(text.strip("$ ")):
        text = clothes[1] if clothes[1] is not None else clothes[2]
    text = _SPACED_SIGN.sub(r"\1-", _plain(text.strip()), count=1).strip()
    match = _NUMBER.match(text)
    if match is None or match.start() or re.fullmatch(r"\s*\\?%?\s*\$?\s*\.?\s*", text[match.end() :]) is None:
        return None
    found = _numbers(text)
    return found[0].value if found else None


def equal_numbers(first: str, second: str, tolerance: float = 0.0) -> bool:
    """Tell whether two canonical numbers are equal, or no further apart than ``tolerance``.

    The tolerance is absolute for numbers below 1 and relative above.
    """
    if first == second or not tolerance:
        return first == second
    if max(len(first), len(second)) > 300:
        return False
    a, b = Fraction(first), Fraction(second)
    return abs(a - b) <= Fraction(tolerance) * (abs(b) if abs(b) > 1 else 1)

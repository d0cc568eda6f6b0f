"""Reading one of a closed set of labels: word pairs such as yes and no, and a user's own labels of any words.

Case, quotes, markup and the blanks between words do not matter; the longest label that stands at a place is meant. A
label that is negated is not meant: of two opposites the other one is, of several labels none.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

# How the words of a pair are also written.
SHORT_FORMS = {"true": "t", "false": "f", "yes": "y", "no": "n"}

_LATEX = re.compile(r"\\[a-zA-Z]+\s*(?=\{)|\\[()\[\]]")
_MARKUP = re.compile(r"[*_`\"“”„«»$~#{}()\[\]<>|\\]|(?<!\w)['‘’]|['‘’](?!\w)")
_BLANKS = re.compile(r"[^\S\n]+")
_BETWEEN_WORDS = r"[ \-–/&,]{1,3}"

# Words that may stand between a negation and what is negated: "not, in fact, a valid argument" denies "valid".
_FILLERS = (
    "a|an|the|be|been|being|any|at all|in fact|of course|quite|very|so|really|too|it|it's|is|that|this|to|of|for|in|as|"
    "about|related|considered|called|deemed|classified|labelled|labeled|think|believe|consider|say|conclude|seem|seems|look|looks|"
    "appear|appears|sound|sounds|argument|statement|answer|conclusion|sentence|claim|expression"
)
_NEGATORS = (
    r"\b(?:not(?! (?:only|just|merely)\b)|never|cannot|hardly|scarcely|no longer|anything but|far from|rather than|"
    r"instead of|without being|unlike)\b|\bnon(?=-)|n't\b"
)
_NEGATION = re.compile(rf"(?:{_NEGATORS})(?:[ ,\-]+(?:\w+ly|{_FILLERS})(?!\w)){{0,5}}[ ,\-]*\Z")
_NEITHER = re.compile(r"\b(?:neither|nor)(?: (?:a|an|the|is|be|it))*[ ,]*\Z")
# Behind "no" they continue an answer; before any other word "no" denies that word: "no doubt: yes".
_AFTER_AN_ANSWER = re.compile(
    r"(?:it|its|it's|the|this|that|these|those|they|he|she|we|i|i'm|you|there|because|since|as|a|an|not|so|but|and|or|if|in|"
    r"his|her|their|my|our|your|who|what|when|where|why|how|is|are|was|were|according|based|sir|for|from|with|one)"
)


@dataclass(frozen=True, slots=True)
class ChoiceReader:
    """Finds labels in text. ``exact`` compares marks too, for labels that differ in nothing else: "C" and "C++"."""

    labels: tuple[str, ...]
    forms: Mapping[str, int]
    pattern: re.Pattern[str]
    exact: bool
    opposites: bool

    def found(self, text: str) -> Iterator[str]:
        """Yield the labels that a text states, in order; those that may have another meaning only if no other does."""
        sure: list[int] = []
        doubtful: list[int] = []
        text = _lowered(text) if self.exact else fold(text)
        for match in self.pattern.finditer(text):
            index: int | None = self.forms[self._form(match[0])]
            before = text[max(0, match.start() - 80) : match.start()]
            while index is not None and (negation := _NEGATION.search(before)) and self._can_be_negated(index):
                index = 1 - index if self.opposites else None
                before = before[: negation.start()]
            if index is None or (self._can_be_negated(index) and _NEITHER.search(before)):
                continue
            (doubtful if match[0] == "no" and _denies_another_word(text, match.end()) else sure).append(index)
        yield from (self.labels[index] for index in sure or doubtful)

    def _form(self, matched: str) -> str:
        return " ".join(matched.split() if self.exact else _words(matched))

    def _can_be_negated(self, index: int) -> bool:
        return self.labels[index].lower() not in ("yes", "y", "no", "n")  # "not yes" is nobody's way to say no


def _denies_another_word(text: str, end: int) -> bool:
    following = re.match(r" ([\w']+)", text[end:])
    return following is not None and _AFTER_AN_ANSWER.fullmatch(following[1]) is None


_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("’"): "'"}


def _lowered(text: str) -> str:
    """Fold case, but no letters of other scripts or times into English ones."""
    return unicodedata.normalize("NFC", text).translate(_FULL_WIDTH).lower()


def fold(text: str) -> str:
    """Fold case, markup and blanks; sentence marks and line breaks stay."""
    text = _lowered(text)
    return _BLANKS.sub(" ", _MARKUP.sub(" ", _LATEX.sub(" ", text)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", fold(text))


def same_label(first: str, second: str) -> bool:
    """Tell whether two labels differ in nothing that a reader keeps apart: in case or blanks alone."""
    return spelled(first) == spelled(second)


def spelled(label: str) -> str:
    """Fold case and blanks of a label."""
    return " ".join(_lowered(label).split())


@cache
def choice_reader(labels: tuple[str, ...], opposites: bool) -> ChoiceReader:
    """Return a reader of ``labels``, which differ by more than case and blanks.

    Args:
        labels: as they are returned.
        opposites: whether to deny one of the two means the other.
    """
    folded = [" ".join(_words(label)) for label in labels]
    own = {
        words: tuple(re.split(r"\w+", fold(label).strip())[1:-1]) for words, label in zip(folded, labels, strict=True)
    }
    exact = not all(folded) or len(set(folded)) < len(folded)
    forms = {
        spelled(label) if exact else words: index
        for index, (label, words) in enumerate(zip(labels, folded, strict=True))
    }
    short = {SHORT_FORMS[form]: index for form, index in forms.items() if form in SHORT_FORMS} if opposites else {}
    long = {word: forms[letter] for word, letter in SHORT_FORMS.items() if letter in forms} if opposites else {}
    alternatives = [_pattern(form, exact, own.get(form, ())) for form in sorted([*forms, *long], key=len, reverse=True)]
    # A single letter is an answer only where nothing else stands: "t" is no "true" in "don't".
    alternatives += [rf"(?<!\S){letter}(?=[ ]*(?:[.,;:!?]|\n|\Z))" for letter in short]
    return ChoiceReader(labels, {**short, **long, **forms}, re.compile("|".join(alternatives)), exact, opposites)


def _pattern(form: str, exact: bool, own: Sequence[str]) -> str:
    """The pattern of a label; ``own`` is what it has between its words: "10:30", "St. Louis"."""
    if exact:
        body = r"\s+".join(map(re.escape, form.split(" ")))
        # A label of marks stands wherever it is written; one that ends in a letter does not end inside a word.
        return (r"(?<!\w)" if form[0].isalnum() else "") + body + (r"(?!\w)" if form[-1].isalnum() else "")
    first, *others = map(re.escape, form.split(" "))
    between = [f"(?:{_BETWEEN_WORDS}|{re.escape(mark)})" if mark.strip() else _BETWEEN_WORDS for mark in own]
    between = between if len(between) == len(others) else [_BETWEEN_WORDS] * len(others)
    body = first + "".join(gap + word for gap, word in zip(between, others, strict=True))
    return rf"(?<![\w']){body}(?!\w|'\w)"


def first_choice(text: str, labels: Sequence[str], opposites: bool = False) -> str | None:
    """Read the first of ``labels`` in a text."""
    return next(choice_reader(tuple(labels), opposites).found(text), None)


def last_choice(text: str, labels: Sequence[str], opposites: bool = False) -> str | None:
    """Read the last of ``labels`` in a text."""
    found = list(choice_reader(tuple(labels), opposites).found(text))
    return found[-1] if found else None

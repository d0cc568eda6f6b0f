"""What the answers of a task look like: how a gold answer, a reply and free reasoning are read, and how they score.

Two readings of one reply (paper App. A; the authors' own scorer is not public, so the rules are stated here):

* ``read``: the text after the extractor, where the answer comes *first*;
* ``read_last``: the reasoning alone, where the answer comes *last* (strict, comparable with other evaluations).

Every reader accepts any text and never raises.
"""

from dataclasses import dataclass
from typing import Any

from greater_ray.config import AnswerType
from greater_ray.tasks._choices import SHORT_FORMS, first_choice, fold, last_choice, same_label
from greater_ray.tasks._letters import LETTERS, gold_letter, last_letter, read_letter
from greater_ray.tasks._metrics import EXACT, Metric
from greater_ray.tasks._numbers import equal_numbers, gold_number, last_number, read_number
from greater_ray.tasks._texts import last_text, read_text

WORD_CHOICES: dict[str, tuple[str, str]] = {
    "boolean": ("True", "False"),
    "yes-no": ("Yes", "No"),
    "valid-invalid": ("valid", "invalid"),
}
_LONGEST_WORD = max(len(word) for words in WORD_CHOICES.values() for word in words)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the answers of one task look: its type, and the letters, words or labels it allows (empty for the others).

    ``number`` says which numbers the answers are, for the wording of an extractor: ``"positive"``, ``"signed"`` or
    ``"any"``. ``tolerance`` is how far a number may be off: absolute below 1, relative above. ``metric`` scores text.
    """

    type: AnswerType
    choices: tuple[str, ...] = ()
    number: str = "any"
    tolerance: float = 0.0
    metric: Metric = EXACT

    @property
    def kind(self) -> str:
        """The key of this form in a table of extractors: letter, word, choice, text, number-positive, -signed, -any."""
        if self.type in WORD_CHOICES:
            return "word"
        return f"number-{self.number}" if self.type == "number" else self.type

    def label(self, target: str) -> str | None:
        """Turn a gold answer into the text that is scored, or None if it is no answer of this form."""
        target = target.strip()
        if self.type == "letter":
            return gold_letter(target, self.choices)
        if self.type == "number":
            return gold_number(target)
        if self.type == "choice":
            return next((choice for choice in self.choices if same_label(choice, target)), None)
        if self.type in WORD_CHOICES:
            if "\\" not in target and sum(map(str.isalnum, target[:200])) > _LONGEST_WORD:
                return None  # all that is left of it would be too long; folding a long text takes its time
            bare = fold(target).strip(" .!")
            return next((c for c in self.choices if bare in (c.casefold(), *_short_and_long(c.casefold()))), None)
        return target or None

    def read(self, text: str) -> str | None:
        """Read an answer that stands at the start of ``text`` (after the extractor)."""
        if self.type == "letter":
            return read_letter(text, self.choices)
        if self.type == "number":
            return read_number(text)
        if self.choices:
            return first_choice(text, self.choices, opposites=len(self.choices) == 2)
        return read_text(text) if self.metric.by_line else text.strip() or None

    def read_last(self, text: str) -> str | None:
        """Read an answer that stands at the end of ``text`` (the reasoning alone)."""
        if self.type == "letter":
            return last_letter(text, self.choices)
        if self.type == "number":
            return last_number(text)
        if self.choices:
            return last_choice(text, self.choices, opposites=len(self.choices) == 2)
        return last_text(text)

    def score(self, prediction: str | None, label: str, references: tuple[str, ...] = (), row: Any = None) -> float:
        """Score a prediction against the gold label, from 0 to 1; ``references`` are further right answers.

        ``row`` is what a metric of a user's own gets beside the text.

        Raises:
            ConfigError: a user's own metric fails, or returns no number from 0 to 1.
        """
        if prediction is None:
            return 0.0
        if self.type == "text":
            return self.metric.score(prediction, (label, *references), row)
        if self.type == "number":
            return float(equal_numbers(prediction, gold_number(label) or "", self.tolerance))
        return float(prediction == self.label(label))

    def reads_itself(self, label: str) -> bool:
        """Tell whether a reply that is nothing but the gold label would be read and be right."""
        read = self.read(label)
        return read is not None and (not self.metric.by_line or self.score(read, label) == 1.0)


def _short_and_long(word: str) -> tuple[str, ...]:
    """Return how else a word of a pair is written: true and t."""
    long = {short: word for word, short in SHORT_FORMS.items()}
    return tuple(other for other in (SHORT_FORMS.get(word), long.get(word)) if other is not None)


def letter_form(letters: str | int) -> AnswerForm:
    """Form of a multiple-choice task with the given letters, or with the first so many."""
    return AnswerForm("letter", tuple(LETTERS[:letters] if isinstance(letters, int) else letters))


def default_form(answer_type: AnswerType) -> AnswerForm:
    """Form of a task of which only the answer type is known."""
    if answer_type == "letter":
        return letter_form(LETTERS)
    return AnswerForm(answer_type, WORD_CHOICES.get(answer_type, ()))

"""Finding the form of a user's own answers: the configured one, or the one that all answers have."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from greater_ray.config import AnswerType, TaskConfig
from greater_ray.errors import ConfigError, DataError, Place
from greater_ray.tasks._choices import same_label, spelled
from greater_ray.tasks._forms import WORD_CHOICES, AnswerForm, default_form, letter_form
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._metrics import EXACT, metric
from greater_ray.tasks._texts import lightly_folded, lines, normalize_text

# In this order: T, F, Y and N are letters too.
_INFERRED: tuple[AnswerType, ...] = ("boolean", "yes-no", "valid-invalid", "letter", "number")
_OPTION_LINE = re.compile(r"^\s*\(([A-Z])\)", re.MULTILINE)
# Answers are taken for a closed set of labels where there are no more of them, each is met so often on average, and
# none is longer.
MAX_LABELS, ROWS_PER_LABEL, MAX_LABEL_LENGTH = 20, 5, 60


def answer_form(
    config: TaskConfig,
    questions: Sequence[str],
    answers: Sequence[str],
    places: Sequence[Place],
    *,
    several: bool = False,
) -> tuple[AnswerForm, str]:
    """Return the form of all answers, and where it is from in words.

    Args:
        answers: the gold answers as text, aligned with the questions.
        places: where each row stands, for errors.
        several: whether some rows have more than one right answer.

    Raises:
        ConfigError: the type is ambiguous, or settings contradict each other.
    """
    asked = config.answer_type
    if asked is None and config.choices is not None:
        asked = "choice"
    if asked is None and (config.metric is not None or several):
        asked = "text"
    if asked is None and config.tolerance:
        asked = "number"
    if several and asked != "text":
        why = f"answers of type '{asked}' have one right answer, but rows of '{places[0].file}' have several."
        raise ConfigError(why, setting="task.answer_type", value=asked)
    _refuse_contradictions(config, asked)
    if asked is not None:
        return _of_type(asked, config, questions, answers), "configured"
    different = Counter(answers)
    fits = {name: _fitting(name, different) for name in _INFERRED}
    for name in _INFERRED:
        if len(fits[name]) == len(different):
            return _narrowed(name, questions, answers), f"inferred: all {len(answers)} answers are '{name}'"
    counts = _labels(answers)
    labels = tuple(sorted(counts))
    mixed = next((name for name in _INFERRED if fits[name]), None)
    # Where some answers are letters or numbers, a label that is met once is likelier a mistake.
    few = 2 <= len(labels) <= min(MAX_LABELS, len(answers) // ROWS_PER_LABEL)
    if few and (mixed is None or min(counts.values()) >= ROWS_PER_LABEL) and all(map(_is_short, labels)):
        shown = ", ".join(labels)
        return AnswerForm("choice", labels), f"inferred: each of {len(answers)} answers is one of {shown}"
    if mixed is not None:
        yes = next(index for index, answer in enumerate(answers) if answer in fits[mixed])
        no = next(index for index, answer in enumerate(answers) if answer not in fits[mixed])
        raise ConfigError(
            f"'{places[yes].file}' is ambiguous: the answer on line {places[yes].line} is a '{mixed}', "
            f"the one on line {places[no].line} ({answers[no][:40]!r}) is not; set §task.answer_type.",
            setting="task.answer_type",
        )
    return AnswerForm("text"), "inferred: no answer is a letter, a number or one of the word pairs"


def _fitting(answer_type: AnswerType, answers: Iterable[str]) -> set[str]:
    """Return the answers that are of a type."""
    form = default_form(answer_type)
    return {answer for answer in answers if form.label(answer) is not None}


def _is_short(label: str) -> bool:
    return len(label) <= MAX_LABEL_LENGTH and len(label.splitlines()) == 1


def _refuse_contradictions(config: TaskConfig, asked: AnswerType | None) -> None:
    for setting, given, goes_with in (
        ("choices", config.choices, "choice"),
        ("metric", config.metric, "text"),
        ("tolerance", config.tolerance or None, "number"),
    ):
        if given is not None and asked not in (goes_with, None):
            why = f"goes with §task.answer_type {goes_with}, not with '{asked}'."
            raise ConfigError(why, setting=f"task.{setting}", value=given)


def _of_type(asked: AnswerType, config: TaskConfig, questions: Sequence[str], answers: Sequence[str]) -> AnswerForm:
    if asked == "choice":
        return AnswerForm(
            "choice", _given_labels(config.choices) if config.choices else tuple(sorted(_labels(answers)))
        )
    if asked == "text":
        return AnswerForm("text", metric=EXACT if config.metric is None else metric(config.metric))
    form = _narrowed(asked, questions, answers)
    return replace(form, tolerance=config.tolerance) if asked == "number" else form


def _given_labels(given: Sequence[str]) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in given)
    if len(labels) < 2 or not all(labels):
        raise ConfigError("needs two labels or more, none of them empty.", setting="task.choices", value=list(given))
    for index, label in enumerate(labels):
        twin = next((other for other in labels[:index] if same_label(other, label)), None)
        if twin is not None:
            why = f"{twin!r} and {label!r} are the same label; case and blanks do not tell labels apart."
            raise ConfigError(why, setting="task.choices", value=list(given))
    return labels


def _labels(answers: Sequence[str]) -> Counter[str]:
    """Count the different labels, each in the way of writing that comes first."""
    written: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for answer, count in Counter(answers).items():  # in the order of their first row
        counts[written.setdefault(spelled(answer), answer.strip())] += count
    return counts


def _narrowed(answer_type: AnswerType, questions: Sequence[str], answers: Sequence[str]) -> AnswerForm:
    """Fit letters to those in use, and words to the way in which the rows write them."""
    if answer_type == "letter":
        form = default_form("letter")
        used = {label for answer in set(answers) if (label := form.label(answer))}
        used |= {letter for question in questions for letter in _OPTION_LINE.findall(question)}
        return letter_form(max([LETTERS.index(letter) + 1 for letter in used] + [2]))
    if answer_type in WORD_CHOICES:
        words = WORD_CHOICES[answer_type]
        form = default_form(answer_type)
        first = next((a.strip(" .!") for a in answers if form.label(a) is not None), words[0])
        if len(first) == 1:
            words = (words[0][0], words[1][0])
        style = str.lower if first.islower() else str.upper if first.isupper() else str.capitalize
        return AnswerForm(answer_type, tuple(style(word) for word in words))
    return default_form(answer_type)


def gold_label(form: AnswerForm, target: str, place: Place) -> str:
    """Return the label of a gold answer; it must read as itself.

    Raises:
        DataError: it is no answer of this form, or a reply that is nothing but this answer would not be read as it.
    """
    label = form.label(target)
    if label is None:
        allowed = f" ({', '.join(form.choices)})" if form.choices and form.type != "letter" else ""
        why = f"the answer {target[:60]!r} is not a '{form.type}'{allowed}; correct it or set §task.answer_type."
        raise DataError(why, setting="task.rows", place=place, value=target)
    if form.type == "text" and (fault := form.metric.fault(label)) is not None:
        why = f"the answer {target[:60]!r} can never be right under §task.metric {form.metric.name}: {fault}."
        raise DataError(why, setting="task.rows", place=place, value=target)
    if form.metric.by_line and form.type in ("text", "choice"):
        if len(lines(label)) > 1 or len(label.splitlines()) > 1:
            why = (
                f"the answer {target[:60]!r} has several lines, but a reply ends with its line: it can never be right."
            )
            more = " Shorten it, or set §task.metric to one that reads the whole reply, for instance contains."
            raise DataError(why + more, setting="task.rows", place=place, value=target)
        if not form.reads_itself(label):
            why = f"the answer {target[:60]!r} can never be right: it is not read as itself."
            more = " Correct it, or set §task.choices or §task.metric."
            raise DataError(why + more, setting="task.rows", place=place, value=target)
    return label


def refuse_equal_golds(form: AnswerForm, answers: Sequence[str], places: Sequence[Place]) -> None:
    """Refuse different gold answers that the reading of text takes for one.

    Raises:
        DataError: two answers differ, but only in marks that reading passes over.
    """
    if form.type != "text" or form.metric.name != "exact":
        return
    seen: dict[str, int] = {}
    known: set[str] = set()
    for index, answer in enumerate(answers):
        if answer in known:
            continue
        known.add(answer)
        first = seen.setdefault(normalize_text(answer), index)
        if first != index and lightly_folded(answers[first]) != lightly_folded(answer):
            raise DataError(
                f"the answers {answers[first][:40]!r} (line {places[first].line}) and {answer[:40]!r} are read as the "
                "same text; write them so that they differ in more than marks, or set §task.choices.",
                setting="task.rows",
                place=places[index],
                value=answer,
            )

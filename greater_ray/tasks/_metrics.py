"""How free text is scored against reference answers: a number from 0 to 1, the best over the references."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from greater_ray.errors import ConfigError, unknown_name
from greater_ray.plugins import load
from greater_ray.tasks._numbers import equal_numbers, gold_number
from greater_ray.tasks._texts import normalize_text

_ROUGE = "rouge_score.rouge_scorer"
# Gets the answer and one reference.
Compare = Callable[[str, str], float]


def _no_fault(reference: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to score text.

    ``by_line`` tells that an answer is one line of the reply, and that a reference must score 1 against itself; else it
    is the whole reply. ``mean`` takes the mean over the references in place of the best. ``own`` is a user's function,
    ``library`` a module that must be there. ``fault`` says of a reference why it can never be right, or None.
    """

    name: str
    compare: Compare | None = None
    by_line: bool = False
    mean: bool = False
    own: Callable[[str, Any], Any] | None = None
    library: str | None = None
    fault: Callable[[str], str | None] = _no_fault

    def score(self, text: str, references: Sequence[str], row: Any = None) -> float:
        """Score a text.

        Raises:
            ConfigError: a user's own metric fails, or returns no number from 0 to 1.
        """
        if self.own is not None:
            return self._own_score(text, row)
        assert self.compare is not None
        scores = [self.compare(text, reference) for reference in references]
        return math.fsum(scores) / len(scores) if self.mean else max(scores)

    def _own_score(self, text: str, row: Any) -> float:
        assert self.own is not None
        where = f"row '{row['id']}'" if isinstance(row, dict) and "id" in row else "a row"
        try:
            score = float(self.own(text, row))
        except Exception as error:
            why = f"'{self.name}' fails on {where} ({type(error).__name__}: {error})."
            raise ConfigError(why, setting="task.metric", value=self.name) from error
        if not 0 <= score <= 1:
            why = f"'{self.name}' gives {score} for {where}; a score is a number from 0 to 1."
            raise ConfigError(why, setting="task.metric", value=self.name)
        return score


def _exact(text: str, reference: str) -> float:
    return float(normalize_text(text) == normalize_text(reference))


def _contains(text: str, reference: str) -> float:
    """As whole words, wherever they stand."""
    inner = re.escape(normalize_text(reference))
    return float(re.search(rf"(?<!\w){inner}(?!\w)", normalize_text(text)) is not None)


def _marks_alone(reference: str) -> str | None:
    """Marks are passed over, so that nothing would be left that a text has to contain."""
    return None if normalize_text(reference) else "it is nothing but marks, which are passed over"


def _no_pattern(reference: str) -> str | None:
    try:
        re.compile(reference)
    except (re.error, OverflowError, RecursionError) as error:
        return f"it is no regular expression ({error})"
    return None


def _regex(text: str, reference: str) -> float:
    return float(re.search(reference, text) is not None)


def _squad_tokens(text: str) -> list[str]:
    return re.sub(r"\b(?:a|an|the)\b", " ", re.sub(r"[^\w\s]|_", "", text.lower())).split()


def _token_f1(text: str, reference: str) -> float:
    """SQuAD's token F1: without case, punctuation and articles."""
    said, wanted = _squad_tokens(text), _squad_tokens(reference)
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return float(said == wanted)
    return 2 * common / (len(said) + len(wanted))


@cache
def _rouge() -> Any:
    return _needed(_ROUGE, "rouge-l").RougeScorer(["rougeL"], use_stemmer=False)


def _rouge_l(text: str, reference: str) -> float:
    """F measure of the longest common subsequence, by the library ``rouge-score`` without a stemmer."""
    return float(_rouge().score(reference, text)["rougeL"].fmeasure)


def _no_rouge_words(reference: str) -> str | None:
    """The library knows words of the letters a to z and digits alone."""
    return None if re.search("[a-z0-9]", reference.lower()) else "it has no letter a to z and no digit, all that counts"


def _chrf(text: str, reference: str) -> float:
    """Sentence chrF2, by the library ``sacrebleu``."""
    return float(_needed("sacrebleu", "chrf").sentence_chrf(text, [reference]).score) / 100


def _bleu(text: str, reference: str) -> float:
    """Sentence BLEU with exponential smoothing and effective order, by the library ``sacrebleu``."""
    return min(1.0, float(_needed("sacrebleu", "bleu").sentence_bleu(text, [reference]).score) / 100)


def _needed(module: str, metric: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        why = f"'{metric}' needs further packages; pip install 'greater-ray[metrics]'."
        raise ConfigError(why, setting="task.metric", value=metric) from error


_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def _json(text: str, reference: str) -> float:
    """Share of the fields of the reference that the text's JSON object has with an equal value.

    Whatever stands around the first object or list of the text is passed over. Numbers are equal by value. Fields that
    the reference has not are counted as wrong.
    """
    said, wanted = _first_json(text), _first_json(reference)
    if not isinstance(wanted, dict) or not isinstance(said, dict):
        return float(said is not _NOTHING and _equal(said, wanted))
    fields = wanted.keys() | said.keys()
    right = sum(k in said and k in wanted and _equal(said[k], wanted[k]) for k in fields)
    return right / len(fields) if fields else 1.0


_NOTHING = object()


def _no_json(reference: str) -> str | None:
    return "it holds no JSON" if _first_json(reference) is _NOTHING else None


def _first_json(text: str) -> Any:
    fenced = _FENCE.search(text)
    text = fenced[1] if fenced else text
    decoder = json.JSONDecoder()
    for start in [0, *(m.start() for m in re.finditer(r"[{\[]", text))][:50]:
        try:
            return decoder.raw_decode(text[start:].lstrip())[0]
        except (ValueError, RecursionError):
            continue
    return _NOTHING


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(second, bool) or first is None or second is None:
        return first is second
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    numbers = gold_number(str(first)), gold_number(str(second))
    if None not in numbers:
        return equal_numbers(str(numbers[0]), str(numbers[1]))
    return normalize_text(str(first)) == normalize_text(str(second))


EXACT = Metric("exact", _exact, by_line=True)
METRICS = {
    metric.name: metric
    for metric in (
        EXACT,
        Metric("contains", _contains, fault=_marks_alone),
        Metric("regex", _regex, fault=_no_pattern),
        Metric("f1", _token_f1),
        Metric("rouge-l", _rouge_l, library=_ROUGE, fault=_no_rouge_words),
        Metric("rouge-l-mean", _rouge_l, mean=True, library=_ROUGE, fault=_no_rouge_words),
        Metric("chrf", _chrf, library="sacrebleu"),
        Metric("bleu", _bleu, library="sacrebleu"),
        Metric("json", _json, fault=_no_json),
    )
}


def metric(name: str) -> Metric:
    """Return a metric by its name, or a user's own by ``package.module:function``.

    The function gets the text of the answer and the row: a mapping of the row's columns, with its ``id``.

    Raises:
        ConfigError: no such metric, or what it needs is not installed.
    """
    if ":" in name:
        function = load("metrics", name)
        if not callable(function):
            raise ConfigError(f"'{name}' is no function.", setting="task.metric", value=name)
        return Metric(name, own=function)
    if name not in METRICS:
        raise unknown_name("task.metric", name, METRICS)
    found = METRICS[name]
    if found.library is not None:  # asked for before a model is loaded
        _needed(found.library, name)
    return found

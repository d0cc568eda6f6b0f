"""Wrong answers to learn from: finding them among the train rows, and showing them to the writer."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.protocols import Problem
from greater_ray.records import ExampleRecord
from greater_ray.types import Example, TokenIds

CUT = " [...] "


class Failure(NamedTuple):
    """A row that was answered wrongly, and the answer."""

    example: Example
    record: ExampleRecord


class Search(NamedTuple):
    """The wrong answers that were found, and the share of right ones among the ``num_rows`` rows looked at."""

    failures: tuple[Failure, ...]
    accuracy: float
    num_rows: int


def failures_in(examples: Sequence[Example], records: Sequence[ExampleRecord]) -> list[Failure]:
    """Return the rows that were answered wrongly."""
    return [Failure(e, r) for e, r in zip(examples, records, strict=True) if not r.correct]


def shuffled_train(problem: Problem) -> list[Example]:
    """Return the train rows in the trial's own order, the same in every step."""
    return problem.rng(0, "train order").sample(problem.examples, len(problem.examples))


def find_failures(problem: Problem, prompt: TokenIds, needed: int, chunk: int) -> Search:
    """Answer train rows, ``chunk`` at a time, until ``needed`` answers are wrong or all rows are used."""
    rows = shuffled_train(problem)
    found: list[Failure] = []
    seen = 0
    while seen < len(rows) and len(found) < needed:
        part = rows[seen : seen + chunk]
        (records,) = problem.score([prompt], part)
        found += failures_in(part, records)
        seen += len(part)
    return Search(tuple(found), 1 - len(found) / seen, seen)


def draw(rng: random.Random, failures: Sequence[Failure], size: int) -> list[Failure]:
    """Draw ``size`` failures without replacement, or all of them where there are fewer."""
    return rng.sample(list(failures), min(size, len(failures)))


def shortened(text: str, limit: int) -> str:
    """Cut the middle out of a text of more than ``limit`` characters, and mark the place."""
    text = text.strip()
    if len(text) <= limit:
        return text
    kept = max(limit - len(CUT), 0)
    return text[: kept - kept // 2] + CUT + text[len(text) - kept // 2 :]


def answer_of(record: ExampleRecord) -> str:
    """Return what the model answered: as it was read, or else as it was written."""
    return record.prediction or record.answer_text.strip() or "(no answer)"

"""Does the method do what it says: the gradient's order against the re-evaluated one, steps that got worse, fluency."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greater_ray.records import EvaluationRecord, StepRecord, TrialRecord
from greater_ray.statistics.intervals import mean

# An interval needs this many cells: with fewer, resampling knows too little of others.
_FEWEST_CELLS = 5


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties by mean ranks; None where one of both is constant."""
    a, b = _ranks(first), _ranks(second)
    middle = (len(a) + 1) / 2
    spread = math.sqrt(sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))
    if spread == 0:
        return None
    return sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)) / spread


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda k: values[k])
    ranks, begin = [0.0] * len(values), 0
    while begin < len(order):
        end = begin
        while end < len(order) and values[order[end]] == values[order[begin]]:
            end += 1
        for k in order[begin:end]:
            ranks[k] = (begin + 1 + end) / 2
        begin = end
    return ranks


@dataclass
class _Seen:
    """What was seen of one method; ``correlations`` are (cell, step, position, value)."""

    steps: int = 0
    worse: int = 0
    measured: int = 0
    unchanged: int = 0
    ranked: int = 0
    first: float = 0.0
    chance: float = 0.0
    histogram: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    expected: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    correlations: list[tuple[str, int, int, float]] = field(default_factory=list)
    fluency: list[tuple[float, float, float, float]] = field(default_factory=list)


class MethodPage:
    """Collects over cells what the page on the method shows."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = defaultdict(_Seen)

    def add(self, method: str, cell: str, steps: Iterable[StepRecord], record: TrialRecord | None) -> None:
        """Take in the steps of a cell, and its record where there is one."""
        seen = self._seen[method]
        loss = record.initial.loss if record else None
        previous = record.initial.ids if record else None
        for step in steps:
            seen.steps += 1
            seen.unchanged += step.prompt_ids == previous
            if loss is not None and step.loss is not None:
                seen.measured += 1
                seen.worse += step.loss > loss
            previous, loss = step.prompt_ids, step.loss if step.loss is not None else loss
            self._rank(seen, cell, step)
        if record is not None:
            parts = fluency_parts(record)
            if parts is not None:
                seen.fluency.append(parts)

    @staticmethod
    def _rank(seen: _Seen, cell: str, step: StepRecord) -> None:
        pairs = [
            (c["gradient"], c["loss"])
            for c in step.candidates
            if c["gradient"] is not None and c["loss"] is not None and math.isfinite(c["loss"])
        ]
        if len(pairs) < 2:
            return
        gradients, losses = [g for g, _ in pairs], [loss for _, loss in pairs]
        order = sorted(range(len(pairs)), key=lambda k: gradients[k])
        best = [rank for rank, k in enumerate(order, 1) if losses[k] == min(losses)]
        # Of candidates that are equally good, each has a share: the gradient is not to blame for the tie.
        for rank in best:
            seen.histogram[rank] += 1 / len(best)
        for rank in range(1, len(pairs) + 1):
            seen.expected[rank] += 1 / len(pairs)
        seen.ranked += 1
        seen.first += (1 in best) / len(best)
        seen.chance += 1 / len(pairs)
        value = rank_correlation(gradients, losses)
        if value is not None:
            position = step.position if step.position is not None else -1
            seen.correlations.append((cell, step.step, position, value))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the figures of every method that took a step."""
        return [{"method": method, **_figures(seen)} for method, seen in self._seen.items() if seen.steps]


def _figures(seen: _Seen) -> dict[str, Any]:
    by_cell: dict[str, list[float]] = defaultdict(list)
    by_step: dict[int, list[float]] = defaultdict(list)
    by_position: dict[int, list[float]] = defaultdict(list)
    for cell, step, position, value in seen.correlations:
        by_cell[cell].append(value)
        by_step[step].append(value)
        by_position[position].append(value)
    # Steps of one cell depend on each other, cells do not.
    means = [sum(values) / len(values) for values in by_cell.values()]
    estimate = mean(means) if len(means) >= _FEWEST_CELLS else None
    return {
        "steps": seen.steps,
        "worse": seen.worse,
        "measured": seen.measured,
        "unchanged": seen.unchanged,
        "ranked": seen.ranked,
        "first": seen.first,
        "chance": seen.chance,
        "histogram": _filled(seen.histogram, seen.expected),
        "expected": _filled(seen.expected, seen.expected),
        "correlation": sum(means) / len(means) if means else None,
        "interval": [estimate.low, estimate.high] if estimate else None,
        "cells": len(means),
        "byStep": _means(by_step),
        "byPosition": _means(by_position),
        "fluency": [sum(part) / len(seen.fluency) for part in zip(*seen.fluency, strict=True)]
        if seen.fluency
        else None,
        "fluencyCells": len(seen.fluency),
    }


def _filled(values: dict[int, float], ranks: dict[int, float]) -> list[float]:
    return [values.get(rank, 0.0) for rank in range(1, max(ranks, default=0) + 1)]


def _means(groups: dict[int, list[float]]) -> list[list[float]]:
    return [[key, sum(values) / len(values), len(values)] for key, values in sorted(groups.items()) if key >= 0]


def fluency_parts(record: TrialRecord) -> tuple[float, float, float, float] | None:
    """Return label's and fluency's terms of the loss under the start prompt, then under the found one (GReaTer, Eq. 6).

    Means over the rows of the first evaluated split that has both prompts, in the loss's own weights; None where the
    method's loss has no term of fluency, or the model tells no likelihoods.
    """
    options = record.config.method_config
    form, weight = options.get("fluency"), options.get("fluency_weight")
    if form not in ("exp", "nll") or not isinstance(weight, int | float):
        return None
    for split in record.config.evaluation.splits:
        pair = [record.evaluation(split, prompt) for prompt in (record.initial, record.best)]
        terms = [_terms(evaluation, form, weight) for evaluation in pair if evaluation is not None]
        if len(terms) == 2 and terms[0] is not None and terms[1] is not None:
            return (*terms[0], *terms[1])
    return None


def _terms(evaluation: EvaluationRecord, form: str, weight: float) -> tuple[float, float] | None:
    pairs = [(e.label_ce, e.prompt_nll) for e in evaluation.examples]
    labels = [label for label, _ in pairs if label is not None]
    nlls = [math.exp(nll) if form == "exp" else nll for _, nll in pairs if nll is not None]
    if not pairs or len(labels) < len(pairs) or len(nlls) < len(pairs):
        return None
    return math.fsum(labels) / len(pairs), weight * math.fsum(nlls) / len(pairs)

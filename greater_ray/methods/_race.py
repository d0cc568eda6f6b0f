"""Races of prompts on the same rows: all are answered anew, and those that are behind beyond noise stop early.

Successive halving (Karnin et al., ICML 2013) with paired differences: prompts are compared row by row, so that what
makes a row hard for all of them is no noise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.protocols import Problem
from greater_ray.records import ExampleRecord
from greater_ray.types import Example, Shown, TokenIds


class Runner(NamedTuple):
    """A prompt and the demonstrations that it is asked with; ``under`` is the prompt that these are asked under."""

    prompt: TokenIds
    shown: Shown = Shown()
    under: TokenIds = ()

    def view(self, problem: Problem) -> Problem:
        """Return the problem as this prompt sees it."""
        return problem.showing(self.shown, self.under or self.prompt)


class Lead(NamedTuple):
    """A paired difference of losses: its mean (below zero is better) and the standard error of that."""

    mean: float
    error: float

    def beyond(self, margin: float) -> bool:
        """Tell whether it is better by more than ``margin`` standard errors; equal rows are no lead."""
        return self.mean < 0 and self.mean <= -margin * self.error


def row_loss(example: Example, record: ExampleRecord, weight: float) -> float:
    """Return what one answer costs: whether it is wrong as the task reads it, and how unlikely the label is.

    The first term is one minus the score, so an answer that is cut off or cannot be read costs what a wrong one does.
    The second is one minus the label's share among the choices where these were compared, else one minus its
    likelihood per token, times ``weight``. Both are from 0 to 1: no single row decides.
    """
    if not weight or record.label_ce is None:
        return 1 - record.score
    if record.choice_nlls is not None:
        share = math.exp(-record.choice_nlls[example.label]) / math.fsum(
            math.exp(-nll) for nll in record.choice_nlls.values()
        )
    else:
        share = math.exp(-record.label_ce)
    return 1 - record.score + weight * (1 - share)


def lead(own: Sequence[float], other: Sequence[float]) -> Lead:
    """Return how far ``own`` is ahead of ``other`` on the same rows."""
    differences = [a - b for a, b in zip(own, other, strict=True)]
    num = len(differences)
    mean = math.fsum(differences) / num
    spread = math.fsum((d - mean) ** 2 for d in differences)
    return Lead(mean, math.sqrt(spread / (num * max(1, num - 1))))


def losses(problem: Problem, runner: Runner, rows: Sequence[Example], weight: float) -> list[float]:
    """Answer rows under a prompt and return what each costs; rows that are known are not answered again."""
    (records,) = runner.view(problem).score([runner.prompt], rows)
    return [row_loss(example, record, weight) for example, record in zip(rows, records, strict=True)]


def race(
    problem: Problem,
    runners: Sequence[Runner],
    rows: Sequence[Example],
    *,
    first: int,
    margin: float,
    weight: float,
) -> dict[int, list[float]]:
    """Run until all rows are answered, and return the losses of those that have answered them all, by their place.

    After ``first`` rows, and after twice as many each time, the better half of the runners stays at most, and none that
    is behind the leader by more than ``margin`` standard errors.
    """
    running = {place: losses(problem, runner, rows[:first], weight) for place, runner in enumerate(runners)}
    done = min(first, len(rows))
    while done < len(rows):
        order = sorted(running, key=lambda place: (math.fsum(running[place]), place))
        leader = running[order[0]]
        near = [place for place in order if not lead(leader, running[place]).beyond(margin)]
        kept = near[: max(2, math.ceil(len(order) / 2))]
        more = rows[done : 2 * done]
        running = {p: running[p] + losses(problem, runners[p], more, weight) for p in sorted(kept)}
        done += len(more)
    return running

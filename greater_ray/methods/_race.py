"""Races of prompts on the same rows: all answer in heats, and those that are behind beyond noise stop early.

Successive halving (Karnin et al., ICML 2013) with paired differences: prompts are compared row by row, so that what
makes a row hard for all of them is no noise.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from greater_ray.protocols import Problem
from greater_ray.types import Answer, Example, Shown, TokenIds
from greater_ray.work import Answers

# So many stay after the first heat, and later: ten rows are little to go by.
LEAST_AT_FIRST, LEAST = 4, 2


class Runner(NamedTuple):
    """A prompt and the demonstrations that it is asked with; ``under`` is the prompt that these are asked under."""

    prompt: TokenIds
    shown: Shown = Shown()
    under: TokenIds = ()

    def view(self, problem: Problem) -> Problem:
        """Return the problem as this prompt sees it."""
        return problem.showing(self.shown, self.under or self.prompt)

    @property
    def gives_away(self) -> frozenset[str]:
        """The rows whose answers stand in front of every question; the nearest rows to a question leave it out."""
        return frozenset() if self.shown.nearest else frozenset(row.id for row in self.shown.rows)


class Lead(NamedTuple):
    """A paired difference of losses: its mean (below zero is better) and the standard error of that."""

    mean: float
    error: float

    def beyond(self, margin: float) -> bool:
        """Tell whether it is better by more than ``margin`` standard errors; equal rows are no lead."""
        return self.mean < 0 and self.mean <= -margin * self.error


def row_loss(problem: Problem, example: Example, answer: Answer, weight: float) -> float:
    """Return what one answer costs: whether it is wrong as the task reads it, and how unlikely the label is.

    The first term is one minus the score, so an answer that is cut off or cannot be read costs what a wrong one does.
    The second is one minus the label's share among the task's choices, each of which counts by its likelihood per
    token; where answers are no closed set, one minus the label's likelihood per token; times ``weight``. Both are from
    0 to 1: no single row decides.
    """
    assert problem.read is not None, "a race needs a reader of answers"
    wrong = 1 - problem.read(example, answer).score
    if answer.choice_nlls is not None:
        likelihoods = [math.exp(-nll) for nll in answer.choice_nlls]
        share = likelihoods[problem.choices.index(example.label)] / math.fsum(likelihoods)
    elif answer.rollout.label_ce is not None:
        share = math.exp(-answer.rollout.label_ce)
    else:
        return wrong
    return wrong + weight * (1 - share)


def asked(problem: Problem, prompts: Sequence[TokenIds], rows: Sequence[Example]) -> list[list[Answer]]:
    """Answer rows under prompts; on a closed set the choices are scored, too."""
    return problem.model.ask(Answers(rows, prompts, score_choices=bool(problem.choices)))


# What a runner has lost on every row that it has answered, by the row's id.
Losses = dict[str, float]


def lead(own: Losses, other: Losses) -> Lead:
    """Return how far ``own`` is ahead of ``other`` on the rows that both have answered.

    Raises:
        ValueError: there is none.
    """
    differences = [value - other[row] for row, value in own.items() if row in other]
    num = len(differences)
    if not num:
        raise ValueError("no row was answered by both")
    mean = math.fsum(differences) / num
    spread = math.fsum((d - mean) ** 2 for d in differences)
    return Lead(mean, math.sqrt(spread / (num * max(1, num - 1))))


def cut(rows: Sequence[Example], size: int) -> list[Sequence[Example]]:
    """Return heats of ``size`` rows, the last one of fewer. A prompt never answers the same heat again."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def losses(problem: Problem, runners: Sequence[Runner], rows: Sequence[Example], weight: float) -> list[Losses]:
    """Answer rows under every prompt and return what each costs, those with the same demonstrations together.

    A row that a runner gives away costs it nothing and gains it nothing: it is left out.
    """
    together = defaultdict(list)
    for place, runner in enumerate(runners):
        together[runner.shown, (runner.under or runner.prompt) if runner.shown else ()].append(place)
    found: list[Losses] = [{} for _ in runners]
    for places in together.values():
        given = runners[places[0]].gives_away
        answers = asked(runners[places[0]].view(problem), [runners[place].prompt for place in places], rows)
        for place, own in zip(places, answers, strict=True):
            pairs = [(row, answer) for row, answer in zip(rows, own, strict=True) if row.id not in given]
            found[place] = {row.id: row_loss(problem, row, answer, weight) for row, answer in pairs}
    return found


def race(
    problem: Problem,
    runners: Sequence[Runner],
    heats: Sequence[Sequence[Example]],
    *,
    margin: float,
    weight: float,
) -> dict[int, Losses]:
    """Run through all heats; return the losses of the first runner, and of those that have answered them all.

    After one heat, and after twice as many each time, the better half of the runners stays at most (four after the
    first heat), and none that is behind the leader by more than ``margin`` standard errors. The first runner runs to
    the end in any place: it is what the others are compared with, each on the rows that neither of the two gives away.
    """
    running: dict[int, Losses] = {place: {} for place in range(len(runners))}
    halving_at = {2**k for k in range(len(heats).bit_length())} - {len(heats)}
    for number, rows in enumerate(heats, 1):
        found = losses(problem, [runners[place] for place in running], rows, weight)
        for place, own in zip(running, found, strict=True):
            running[place] |= own
        if number in halving_at:
            least = LEAST_AT_FIRST if number == 1 else LEAST
            running = {place: running[place] for place in sorted({0, *_near(running, margin, least)})}
    return running


def order(running: Mapping[int, Losses]) -> list[int]:
    """Return the runners that share rows with the first one by how far they are ahead of it, the first one included."""
    first = running[0]
    ahead = {place: lead(own, first).mean for place, own in running.items() if own.keys() & first.keys()}
    return sorted(ahead, key=lambda place: (ahead[place], place))


def _near(running: Mapping[int, Losses], margin: float, least: int) -> Collection[int]:
    """Return the better half of the runners, ``least`` at least, without those behind the leader beyond noise."""
    ranked = order(running)
    if not ranked:
        return running.keys()
    leader = running[ranked[0]]
    near = [
        place
        for place in ranked
        if not (running[place].keys() & leader.keys() and lead(leader, running[place]).beyond(margin))
    ]
    return near[: max(least, math.ceil(len(ranked) / 2))]

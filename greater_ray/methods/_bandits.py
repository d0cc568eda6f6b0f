"""Choosing the best of many prompts with few answers: the evaluators of ProTeGi (Pryzant et al., 2023, Section 3.2).

An arm is a prompt; a pull answers some rows with it. Everything here is pure: ``next_pull`` says what to try,
``pulled`` takes in what came out, ``ranking`` orders the arms. The tally is JSON. Rows are drawn by the caller.
"""

import math
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel

# How often an arm that was never tried counts as tried, for its bonus.
UNSEEN = 1e-3
# A phase of successive rejects answers at least so many rows.
FEWEST_ROWS = 4
Evaluator = Literal["brute-force", "ucb", "ucb-e", "successive-rejects"]


class Plan(NamedTuple):
    """What an evaluator may spend, and how many arms it has to ``keep``.

    The whole budget is ``rounds * arms_per_round * rows_per_pull`` answers; ``exploration`` is c in the bonus.
    """

    evaluator: Evaluator
    keep: int
    rounds: int = 8
    arms_per_round: int = 8
    rows_per_pull: int = 32
    exploration: float = 1.0

    @property
    def budget(self) -> int:
        """How many answers may be computed."""
        return self.rounds * self.arms_per_round * self.rows_per_pull


class Tally(BaseModel, frozen=True, extra="forbid"):
    """What is known of the arms: rows answered, the sum of their scores; ``alive`` are those not rejected.

    ``latest`` is the share of right answers in an arm's last phase, by which successive rejects ranks; ``turn``
    counts pulls from 0.
    """

    counts: tuple[int, ...]
    rights: tuple[float, ...]
    alive: tuple[int, ...]
    latest: tuple[float, ...]
    turn: int = 0

    @property
    def means(self) -> list[float]:
        """The share of right answers of every arm, 0 for one that was never tried."""
        return [right / count if count else 0.0 for right, count in zip(self.rights, self.counts, strict=True)]


class Pull(NamedTuple):
    """The arms to try next, each on the same ``num_rows`` rows; ``draw`` numbers the sample of rows."""

    arms: tuple[int, ...]
    num_rows: int
    draw: int


def empty_tally(num_arms: int) -> Tally:
    """Return the tally before anything was tried."""
    return Tally(
        counts=(0,) * num_arms, rights=(0.0,) * num_arms, alive=tuple(range(num_arms)), latest=(0.0,) * num_arms
    )


def bonuses(plan: Plan, counts: Sequence[int], turn: int) -> list[float]:
    """Return what is added to each mean, so that arms seldom tried get their chance.

    UCB adds c * sqrt(ln t / N), with t counted from 0 as in the released code; so in the second turn (t = 1) it adds
    nothing. UCB-E adds c * sqrt(c / N).
    """
    c = plan.exploration
    above = c if plan.evaluator == "ucb-e" else math.log(max(turn, 1))
    return [c * math.sqrt(above / (count or UNSEEN)) for count in counts]


def rejection_sizes(num_arms: int, keep: int, budget: int) -> list[int]:
    """Return how many rows each phase of successive rejects answers anew; a phase drops one arm.

    With K arms to reject, logbar = 1/2 + sum of 1/i for i = 2..K, and n_r = (budget - K) / (logbar * (K + 1 - r)), the
    phase r answers max(4, floor(n_r - n_(r-1))) rows.
    """
    rejected = num_arms - keep
    logbar = 0.5 + math.fsum(1 / i for i in range(2, rejected + 1))
    sizes, before = [], 0.0
    for phase in range(1, rejected + 1):
        upto = (budget - rejected) / (logbar * (rejected + 1 - phase))
        sizes.append(max(FEWEST_ROWS, math.floor(upto - before)))
        before = upto
    return sizes


def next_pull(plan: Plan, tally: Tally, rng: random.Random) -> Pull | None:
    """Return what to try next, None when the evaluator is done. Only the first turn of the bandits is random."""
    num, turn = len(tally.counts), tally.turn
    if plan.evaluator == "brute-force":
        # All on one sample; a few arms at a time, so that a step stays small.
        arms = tuple(range(num))[turn * plan.arms_per_round : (turn + 1) * plan.arms_per_round]
        return Pull(arms, max(plan.budget // num, 1), 0) if arms else None
    if plan.evaluator == "successive-rejects":
        # Where nothing has to be rejected, one phase still tells the order.
        sizes = rejection_sizes(num, plan.keep, plan.budget) or [plan.rows_per_pull]
        return Pull(tally.alive, sizes[turn], turn) if turn < len(sizes) else None
    if turn >= plan.rounds:
        return None
    size = min(plan.arms_per_round, num)
    if turn == 0:
        return Pull(tuple(rng.sample(range(num), size)), plan.rows_per_pull, turn)
    values = [mean + bonus for mean, bonus in zip(tally.means, bonuses(plan, tally.counts, turn), strict=True)]
    best = sorted(range(num), key=lambda arm: -values[arm])[:size]
    return Pull(tuple(best), plan.rows_per_pull, turn)


def most_pulls(plan: Plan, num_arms: int) -> int:
    """Return how many pulls the evaluator takes for at most so many arms."""
    if plan.evaluator == "brute-force":
        return -(-num_arms // plan.arms_per_round)
    if plan.evaluator == "successive-rejects":
        return max(1, num_arms - plan.keep)
    return plan.rounds


def pulled(plan: Plan, tally: Tally, pull: Pull, outcomes: Sequence[Sequence[float]]) -> Tally:
    """Take in the outcomes of a pull, one list of scores per arm; successive rejects drops the worst arm.

    As in the released code, a phase ranks by its own rows only. Of equally bad arms the last one is dropped.
    """
    counts, rights, latest = list(tally.counts), list(tally.rights), list(tally.latest)
    for arm, results in zip(pull.arms, outcomes, strict=True):
        counts[arm] += len(results)
        rights[arm] += sum(results)
        latest[arm] = sum(results) / len(results)
    alive = tally.alive
    if plan.evaluator == "successive-rejects" and len(alive) > plan.keep:
        worst = min(alive, key=lambda arm: (latest[arm], -arm))
        alive = tuple(arm for arm in alive if arm != worst)
    return Tally(counts=tuple(counts), rights=tuple(rights), alive=alive, latest=tuple(latest), turn=tally.turn + 1)


def ranking(plan: Plan, tally: Tally) -> list[tuple[int, float]]:
    """Return the best ``keep`` arms with their scores, best first, the earlier one first among equals.

    An arm's score is its share of right answers; for successive rejects that of its last phase.
    """
    scores = list(tally.latest) if plan.evaluator == "successive-rejects" else tally.means
    # An arm that was tried and never right is known to be no worse than one that was not tried.
    order = sorted(tally.alive, key=lambda arm: (-scores[arm], tally.counts[arm] == 0, arm))
    return [(arm, scores[arm]) for arm in order[: plan.keep]]

"""Intervals of one list of numbers: shares, scores and means.

Written out, because every run and every cell ends with some: ``scipy.stats``, which gives the same bytes, takes most of
a second of processor time to import.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

_RESAMPLES = 2000
_Z = 1.959963984540054  # of a normal distribution, the 97.5 % quantile


class Interval(NamedTuple):
    """An estimate with its 95 % confidence limits."""

    estimate: float
    low: float
    high: float


def right_or_wrong(scores: Collection[float]) -> bool:
    """Tell whether every score is 0 or 1."""
    return all(score in (0, 1) for score in scores)


def accuracy(correct: Sequence[bool]) -> Interval:
    """Share of successes with its Wilson score interval (Newcombe 1998, method 3).

    Raises:
        ValueError: there are none to count.
    """
    hits, num = sum(map(bool, correct)), len(correct)
    if not num:
        raise ValueError("an interval needs at least one score, not 0")
    share = hits / num
    width = 2 * (num + _Z**2)
    center = (2 * num * share + _Z**2) / width
    delta = _Z / width * math.sqrt(4 * num * share * (1 - share) + _Z**2)
    return Interval(share, 0.0 if hits == 0 else center - delta, 1.0 if hits == num else center + delta)


def score_interval(scores: Sequence[float]) -> Interval:
    """Mean of scores from 0 to 1 with its interval: Wilson's where all are 0 or 1, else the bootstrap of ``mean``.

    Raises:
        ValueError: there are no scores, or one is not from 0 to 1.
    """
    if not len(scores):
        raise ValueError("an interval needs at least one score, not 0")
    for score in scores:
        if not 0 <= score <= 1:  # NaN too
            raise ValueError(f"a score is a number from 0 to 1, not {score}")
    return accuracy([score == 1 for score in scores]) if right_or_wrong(scores) else mean(scores)


def mean(values: Sequence[float]) -> Interval:
    """Mean with its percentile bootstrap interval, resampled with a fixed seed."""
    import numpy as np

    found = np.asarray(values, dtype=float)
    estimate = float(np.mean(found))
    if len(set(values)) < 2:
        return Interval(estimate, estimate, estimate)
    drawn = np.random.default_rng(0).integers(0, len(found), (_RESAMPLES, len(found)))
    means = np.sort(np.mean(found[drawn], axis=-1)).tolist()
    tail = (1 - 0.95) / 2
    return Interval(estimate, _quantile(means, tail), _quantile(means, 1 - tail))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile between two neighbours, in proportion (Hyndman and Fan 1996, type 7)."""
    place = share * len(ordered) + (1 - share) - 1
    below = int(place)
    part = place - below
    return (1 - part) * ordered[below] + part * ordered[below + 1]

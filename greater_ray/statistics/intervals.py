"""Intervals of one list of numbers: shares, scores and means."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

_RESAMPLES = 2000


class Interval(NamedTuple):
    """An estimate with its 95 % confidence limits."""

    estimate: float
    low: float
    high: float


def right_or_wrong(scores: Collection[float]) -> bool:
    """Tell whether every score is 0 or 1."""
    return all(score in (0, 1) for score in scores)


def accuracy(correct: Sequence[bool]) -> Interval:
    """Share of successes with its Wilson score interval."""
    from scipy.stats import binomtest

    result = binomtest(sum(correct), len(correct))
    low, high = result.proportion_ci(method="wilson")
    return Interval(sum(correct) / len(correct), float(low), float(high))


def score_interval(scores: Sequence[float]) -> Interval:
    """Mean of scores from 0 to 1 with its interval: Wilson's where all are 0 or 1, else the bootstrap of ``mean``.

    Raises:
        ValueError: there are no scores, or one is not from 0 to 1.
    """
    if not len(scores):
        raise ValueError("an interval needs at least one score")
    for score in scores:
        if not 0 <= score <= 1:  # NaN too
            raise ValueError(f"a score is a number from 0 to 1, not {score}")
    return accuracy([score == 1 for score in scores]) if right_or_wrong(scores) else mean(scores)


def mean(values: Sequence[float]) -> Interval:
    """Mean with its percentile bootstrap interval, resampled with a fixed seed."""
    import numpy as np
    from scipy.stats import bootstrap

    estimate = float(np.mean(values))
    if len(set(values)) < 2:
        return Interval(estimate, estimate, estimate)
    limits = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(estimate, float(limits.low), float(limits.high))

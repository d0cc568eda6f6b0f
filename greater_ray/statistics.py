"""What is noise: intervals for accuracies, losses and paired differences. scipy does the arithmetic."""

from collections.abc import Sequence
from typing import NamedTuple

_RESAMPLES = 2000


class Interval(NamedTuple):
    """An estimate with its 95 % confidence limits."""

    estimate: float
    low: float
    high: float


class Paired(NamedTuple):
    """The mean of paired differences with limits, and the exact McNemar p-value for paired successes."""

    difference: Interval
    wins: int
    losses: int
    p_value: float


def accuracy(correct: Sequence[bool]) -> Interval:
    """Share of successes with its Wilson score interval."""
    from scipy.stats import binomtest

    result = binomtest(sum(correct), len(correct))
    low, high = result.proportion_ci(method="wilson")
    return Interval(sum(correct) / len(correct), float(low), float(high))


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


def paired(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Compare two prompts on the same examples: difference in accuracy and exact McNemar test.

    Raises:
        ValueError: the two are not of the same length.
    """
    from scipy.stats import binomtest

    pairs = list(zip(before, after, strict=True))
    wins = sum(b and not a for a, b in pairs)
    losses = sum(a and not b for a, b in pairs)
    p_value = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Paired(mean([float(b) - float(a) for a, b in pairs]), wins, losses, p_value)

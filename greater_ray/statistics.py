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
    """The mean of paired differences with limits, the rows that won and lost, and the p-value of no difference."""

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


def score_interval(scores: Sequence[float]) -> Interval:
    """Mean of scores from 0 to 1: with the Wilson interval where each is 0 or 1, else with that of ``mean``."""
    if set(scores) <= {0.0, 1.0}:
        return accuracy([score == 1.0 for score in scores])
    return mean(scores)


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


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """Compare two prompts on the same examples.

    Where every score is 0 or 1 the test is McNemar's, exact; else the permutation test that flips the signs of the
    differences, exact for few of them and with a fixed seed otherwise.

    Raises:
        ValueError: the two are not of the same length.
    """
    from scipy.stats import binomtest

    pairs = [(float(a), float(b)) for a, b in zip(before, after, strict=True)]
    changes = [b - a for a, b in pairs]
    wins, losses = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    if not wins + losses:
        p_value = 1.0
    elif all({a, b} <= {0.0, 1.0} for a, b in pairs):
        p_value = float(binomtest(wins, wins + losses).pvalue)
    else:
        p_value = _sign_flips([change for change in changes if change])
    return Paired(mean(changes), wins, losses, p_value)


def _sign_flips(changes: Sequence[float]) -> float:
    import numpy as np
    from scipy.stats import permutation_test

    result = permutation_test(
        (np.asarray(changes),), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)

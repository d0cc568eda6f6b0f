"""Two prompts on the same rows: a paired difference with its interval and an exact test."""

from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.statistics.intervals import Interval, mean, right_or_wrong

_COUNTED_OUT = 16
# Signs drawn where there are too many to be counted out: p near 0.05 is known to 0.004 (two standard errors).
_FLIPS = 9999
_PORTION = 1000


class Paired(NamedTuple):
    """The mean of paired differences with limits; rows where one score is higher; a p-value that supposes no shape.

    The p-value is McNemar's exact one where all scores are 0 or 1, else that of the sign-flip test.
    """

    difference: Interval
    wins: int
    losses: int
    p_value: float


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """Compare two prompts by their scores on the same rows, ``after`` minus ``before``.

    A win is a row where ``after`` is higher.

    Raises:
        ValueError: the two are not of the same length.
    """
    pairs = list(zip(before, after, strict=True))
    wins = sum(bool(b > a) for a, b in pairs)
    losses = sum(bool(a > b) for a, b in pairs)
    differences = [float(b) - float(a) for a, b in pairs]
    exact = right_or_wrong(before) and right_or_wrong(after)
    p_value = mcnemar(wins, losses) if exact else sign_flip(differences)
    return Paired(mean(differences), wins, losses, p_value)


def mcnemar(wins: int, losses: int) -> float:
    """Return McNemar's exact two-sided p-value: whether discordant rows fall to either side like a fair coin."""
    num, fewer = wins + losses, min(wins, losses)
    if wins == losses:
        return 1.0
    # Whole numbers, so the quotient is right to the last digit.
    ways = tail = 1
    for k in range(fewer):
        ways = ways * (num - k) // (k + 1)
        tail += ways
    return float(2 * tail / 2**num)


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the paired permutation test: could the signs of the differences be chance?

    The statistic is the sum, so differences may carry weights. All combinations of signs are counted out for 16
    differences other than 0 or fewer. Beyond, 9,999 are drawn with a fixed seed, and the given one counts as drawn too
    (Phipson and Smyth 2010).

    Raises:
        ValueError: a difference is not a finite number.
    """
    import numpy as np

    found = np.asarray(differences, dtype=float)
    if not np.isfinite(found).all():
        wrong = found[~np.isfinite(found)][0]
        raise ValueError(f"the differences of two scores must be finite numbers, not {wrong}")
    found = found[found != 0]
    num = len(found)
    # Sums that are equal but for rounding are equal.
    least = abs(found.sum()) - 1e-12 * np.abs(found).sum()
    if num <= _COUNTED_OUT:
        flipped = np.arange(2**num)[:, None] >> np.arange(num) & 1
        return float(np.mean(np.abs(found.sum() - 2 * (flipped @ found)) >= least))
    # One random byte flips eight signs: the sum of what a byte flips is looked up.
    eights = np.pad(found, (0, -num % 8)).reshape(-1, 8)
    flipped_sums = eights @ np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).T
    rng, extreme = np.random.default_rng(0), 1
    for begin in range(0, _FLIPS, _PORTION):
        flips = rng.integers(256, size=(min(_PORTION, _FLIPS - begin), len(eights)), dtype=np.uint8)
        flipped = flipped_sums[np.arange(len(eights)), flips].sum(1)
        extreme += int(np.count_nonzero(np.abs(found.sum() - 2 * flipped) >= least))
    return extreme / (_FLIPS + 1)

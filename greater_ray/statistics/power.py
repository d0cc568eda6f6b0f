"""What a number of rows can resolve, and how many would do: the power of the paired tests.

Two prompts are told apart by the rows on which they differ. Of those, ``discordance`` is the share of all rows, from an
earlier comparison on such rows: (wins + losses) / rows. Where scores are graded, it is the mean of the squared
differences, which is the same number for scores of 0 and 1. ``difference`` is that of the mean scores, in either
direction. Power is the probability of p < alpha when the difference is as large as that.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from greater_ray.statistics.comparison import Spread
from greater_ray.statistics.tables import ALPHA

POWER = 0.8
# About a million: who has more can show anything.
_MOST_ROWS = 2**20


def mcnemar_power(rows: int, difference: float, discordance: float, alpha: float = ALPHA) -> float:
    """Return the power of McNemar's exact test, by summing over all numbers of discordant rows.

    Raises:
        ValueError: there is no row, or the difference is larger than the discordance, or a share is out of range.
    """
    from scipy.stats import binom

    _check(alpha, difference, discordance)
    if rows < 1:
        raise ValueError(f"power needs at least one row, not {rows}")
    if discordance == 0:
        return 0.0
    # All but 1e-12 of the numbers of discordant rows.
    low, high = binom.ppf([1e-12, 1 - 1e-12], rows, discordance)
    discordant = np.arange(max(0, low), high + 1)
    # The most losses (or wins) that are still significant: twice their probability is below alpha. -1 is none.
    most = binom.ppf(alpha / 2, discordant, 0.5) - 1
    wins = (1 + abs(difference) / discordance) / 2
    rejects = binom.cdf(most, discordant, wins) + binom.sf(discordant - most - 1, discordant, wins)
    return float(binom.pmf(discordant, rows, discordance) @ rejects)


def rows_needed(difference: float, discordance: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Return how many rows give the exact test this power for a difference; None where a million do not.

    The power of a test of whole numbers goes down at single steps on its way up; where it is reached first counts, to
    within such steps.

    Raises:
        ValueError: as for ``mcnemar_power``, or a probability is not between 0 and 1.
    """
    _check(alpha, difference, discordance, power)
    return _fewest(1, lambda rows: mcnemar_power(rows, difference, discordance, alpha) >= power)


def detectable_difference(rows: int, discordance: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """Return the smallest difference of means that the exact test finds with this power on so many rows.

    None where no difference is found so often: even if all discordant rows fell to one side, they would be too few.

    Raises:
        ValueError: as for ``rows_needed``.
    """
    from scipy.optimize import brentq

    _check(alpha, 0.0, discordance, power)
    if mcnemar_power(rows, discordance, discordance, alpha) < power:
        return None
    return float(brentq(lambda d: mcnemar_power(rows, d, discordance, alpha) - power, 0.0, discordance, xtol=1e-6))


class Resolution(NamedTuple):
    """What so many rows can resolve, and how many would do for a difference that is looked for.

    Attributes:
        rows: rows there are.
        detectable: smallest difference that they show, as ``detectable_difference`` tells.
        difference: the one that is looked for.
        needed: rows that it needs, as ``rows_needed`` tells.
    """

    rows: int
    detectable: float | None
    difference: float
    needed: int | None

    @property
    def enough(self) -> bool:
        """Whether the rows there are do for the difference that is looked for."""
        return self.needed is not None and self.needed <= self.rows

    def __str__(self) -> str:
        """Say it in one sentence, differences in points (hundredths of the score)."""
        if self.detectable is None:
            shown = f"{self.rows:,} rows are too few to show any difference"
        else:
            shown = f"{self.rows:,} rows show differences from {100 * self.detectable:.1f} points"
        need = f"more than {_MOST_ROWS:,}" if self.needed is None else f"{self.needed:,}"
        return f"{shown}; {100 * abs(self.difference):.1f} points need {need} rows."


def resolution(
    rows: int, difference: float, discordance: float, alpha: float = ALPHA, power: float = POWER
) -> Resolution:
    """Tell before a comparison of two prompts what its rows can resolve.

    Raises:
        ValueError: as for ``rows_needed``.
    """
    return Resolution(
        rows,
        detectable_difference(rows, discordance, alpha, power),
        difference,
        rows_needed(difference, discordance, alpha, power),
    )


def methods_detectable_difference(
    spread: Spread, rows: int, seeds: int, *, tasks: int = 1, alpha: float = ALPHA, power: float = POWER
) -> float:
    """Return the smallest difference between methods that ``compare_over_tasks`` finds with this power.

    Args:
        spread: the parts of the uncertainty, from an earlier comparison; parts below zero count as zero.
        rows, seeds: per task, the same for both methods.
        tasks: the number of tasks.
        alpha, power: of the t-test.

    Raises:
        ValueError: fewer than two rows or two seeds, no task, or a probability is not between 0 and 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    _check(alpha, 0.0, 0.0, power)
    if rows < 2 or seeds < 2 or tasks < 1:
        raise ValueError(f"two rows, two seeds and a task are the least, not {rows}, {seeds} and {tasks}")
    rows_part = max(0.0, spread.rows) / rows
    seeds_part = (max(0.0, spread.seeds) + max(0.0, spread.noise) / rows) / seeds
    variance = rows_part + seeds_part
    if variance == 0:
        return 0.0
    # Both methods have half of what seeds make.
    freedom = tasks * variance**2 / (seeds_part**2 / (2 * (seeds - 1)) + rows_part**2 / (rows - 1))
    least = float(t.isf(alpha / 2, freedom))
    error = math.sqrt(variance / tasks)
    return error * float(brentq(lambda d: float(nct.sf(least, freedom, d)) - power, 0.0, 4 * least + 10))


def methods_rows_needed(
    spread: Spread, difference: float, seeds: int, *, tasks: int = 1, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """Return how many rows per task show a difference between methods; None where more rows alone do not.

    Rows take nothing off what seeds make: where their part is too large, only more seeds or more tasks help.

    Raises:
        ValueError: as for ``methods_detectable_difference``.
    """

    def enough(rows: int) -> bool:
        found = methods_detectable_difference(spread, rows, seeds, tasks=tasks, alpha=alpha, power=power)
        return found <= abs(difference)

    return _fewest(2, enough)


def _fewest(least: int, enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number that is enough, found by doubling and halving; None beyond ``_MOST_ROWS``."""
    high = least
    while not enough(high):
        high *= 2
        if high > _MOST_ROWS:
            return None
    low = high // 2 if high > least else least - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(alpha: float, difference: float, discordance: float, power: float = POWER) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha and power are probabilities, alpha the smaller one, not {alpha} and {power}")
    if not abs(difference) <= discordance <= 1:
        raise ValueError(
            f"discordance is a share of rows, and no smaller than the difference: {discordance} for {difference}"
        )

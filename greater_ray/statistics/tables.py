"""Many comparisons side by side: p-values that hold for all of them, and wins, draws and losses."""

from collections.abc import Sequence
from typing import NamedTuple

ALPHA = 0.05


class Tally(NamedTuple):
    """Comparisons that were won, lost, or are not significant and so a draw."""

    wins: int
    draws: int
    losses: int


def verdict(p_value: float, alpha: float = ALPHA) -> str:
    """Say in words what a p-value means; to be printed beside every difference."""
    return "significant" if p_value < alpha else "not significant"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of one table (Holm 1979): below alpha, at most alpha is the chance of any false alarm in it.

    Raises:
        ValueError: one is not from 0 to 1.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:  # NaN too
            raise ValueError(f"a p-value is a number from 0 to 1, not {p_value}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = largest
    return adjusted


def tally(differences: Sequence[float], p_values: Sequence[float], alpha: float = ALPHA) -> Tally:
    """Count wins (above zero), losses and draws; a draw is a difference that is not significant.

    With p-values as they are, noise alone makes alpha x (number of comparisons) wins and losses on average; with
    ``holm``'s, all draws in 1 - alpha of all tables.

    Raises:
        ValueError: the two are not of the same length.
    """
    told = [(d, p < alpha) for d, p in zip(differences, p_values, strict=True)]
    wins, losses = sum(d > 0 and sure for d, sure in told), sum(d < 0 and sure for d, sure in told)
    return Tally(wins, len(told) - wins - losses, losses)

"""Intervals and tests against numbers worked out by hand or printed in textbooks."""

import random

import pytest

from greater_ray import statistics


def test_wilson_interval_by_hand():
    # p = 8/10, z = 1.959964: centre (p + z²/2n) / (1 + z²/n) = 0.716738, half width 0.226580.
    estimate, low, high = statistics.accuracy([True] * 8 + [False] * 2)
    assert (estimate, low, high) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)


def test_wilson_interval_stays_inside_at_the_ends():
    # No success in n: the upper limit is z² / (n + z²) = 3.841459 / 13.841459.
    assert statistics.accuracy([False] * 10) == pytest.approx((0.0, 0.0, 0.277533), abs=1e-5)
    assert statistics.accuracy([True] * 10) == pytest.approx((1.0, 0.722467, 1.0), abs=1e-5)
    assert statistics.accuracy([True]) == pytest.approx((1.0, 0.206543, 1.0), abs=1e-5)


@pytest.mark.parametrize(
    ("wins", "losses", "p_value"),
    [
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (6, 1, 2 * 8 / 128),  # twice P(X <= 1) of 7 fair coins
        (9, 1, 2 * 11 / 1024),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_exact_mcnemar_by_hand(wins: int, losses: int, p_value: float):
    before = [False] * wins + [True] * losses + [True] * 4 + [False] * 3
    after = [True] * wins + [False] * losses + [True] * 4 + [False] * 3
    result = statistics.paired(before, after)
    assert (result.wins, result.losses) == (wins, losses)
    assert result.p_value == pytest.approx(p_value)
    assert result.difference.estimate == pytest.approx((wins - losses) / (wins + losses + 7))
    assert result.difference.low <= result.difference.estimate <= result.difference.high


def test_pairs_must_be_of_one_length():
    with pytest.raises(ValueError, match="argument"):
        statistics.paired([True], [True, False])


def test_bootstrap_is_the_same_every_time_and_follows_the_spread():
    rng = random.Random(0)
    values = [rng.gauss(3.0, 1.0) for _ in range(100)]
    first, second = statistics.mean(values), statistics.mean(list(values))
    assert first == second
    assert first.low < first.estimate < first.high
    # The normal interval is 2 * 1.96 * s / 10, with s near 1.
    spread = (sum((v - first.estimate) ** 2 for v in values) / 99) ** 0.5
    assert first.high - first.low == pytest.approx(2 * 1.96 * spread / 10, rel=0.15)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    rng = random.Random(7)
    covered = 0
    for _ in range(60):
        interval = statistics.mean([rng.gauss(0.0, 1.0) for _ in range(40)])
        covered += interval.low <= 0.0 <= interval.high
    assert covered >= 51, "95 % of 60 is 57; fewer than 51 has a chance of one in a thousand"


def test_constant_values_have_no_spread():
    assert statistics.mean([2.5, 2.5, 2.5]) == (2.5, 2.5, 2.5)
    assert statistics.mean([4.0]) == (4.0, 4.0, 4.0)

"""Power and numbers of rows, against hand counts, a textbook's approximation and simulations of the tests."""

import itertools
import math

import numpy as np
import pytest

from greater_ray.statistics.comparison import Spread, compare_methods
from greater_ray.statistics.pairs import mcnemar, sign_flip
from greater_ray.statistics.power import (
    detectable_difference,
    mcnemar_power,
    methods_detectable_difference,
    methods_rows_needed,
    resolution,
    rows_needed,
)


def slow_power(rows: int, difference: float, discordance: float) -> float:
    """Sum over every number of wins and losses."""
    win, lose = (discordance + difference) / 2, (discordance - difference) / 2
    total = 0.0
    for wins, losses in itertools.product(range(rows + 1), repeat=2):
        if wins + losses <= rows and mcnemar(wins, losses) < 0.05:
            ways = math.comb(rows, wins) * math.comb(rows - wins, losses)
            total += ways * win**wins * lose**losses * (1 - discordance) ** (rows - wins - losses)
    return total


@pytest.mark.parametrize(("rows", "difference", "discordance"), [(5, 0.2, 0.5), (12, -0.4, 0.6), (30, 0.3, 0.4)])
def test_power_is_the_sum_over_all_outcomes(rows, difference, discordance):
    assert mcnemar_power(rows, difference, discordance) == pytest.approx(slow_power(rows, difference, discordance))


def test_six_discordant_rows_on_one_side_are_the_least():
    # 2 / 2^6 is the first below 5 %.
    assert mcnemar_power(5, 1.0, 1.0) == 0.0
    assert mcnemar_power(6, 1.0, 1.0) == pytest.approx(1.0)
    assert rows_needed(1.0, 1.0) == 6
    assert detectable_difference(5, 1.0) is None
    assert mcnemar_power(50, 0.0, 0.0) == 0.0


def test_without_a_difference_power_is_at_most_alpha():
    for rows in (10, 50, 200, 1000):
        assert mcnemar_power(rows, 0.0, 0.3) < 0.05
    assert mcnemar_power(10_000, 0.0, 0.3) == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.2), (0.1, 0.3), (0.02, 0.1)])
def test_rows_needed_are_a_little_more_than_the_approximation_says(difference, discordance):
    # Connor (Biometrics 43, 1987): (z_alpha sqrt(psi) + z_beta sqrt(psi - d^2))^2 / d^2, without continuity correction.
    root = 1.959964 * math.sqrt(discordance) + 0.841621 * math.sqrt(discordance - difference**2)
    needed = rows_needed(difference, discordance)
    assert needed is not None
    assert 1.0 < needed / (root / difference) ** 2 < 1.15
    assert mcnemar_power(needed, difference, discordance) >= 0.8
    assert mcnemar_power(int(0.97 * needed), difference, discordance) < 0.8


def test_what_rows_can_detect_needs_these_rows():
    found = detectable_difference(200, 0.25)
    assert found is not None
    assert mcnemar_power(200, found, 0.25) == pytest.approx(0.8, abs=1e-3)
    needed = rows_needed(found, 0.25)
    assert needed is not None
    assert needed == pytest.approx(200, rel=0.02)
    assert rows_needed(0.0001, 0.3) is None


def test_graded_scores_have_about_the_power_of_their_squared_differences():
    rng = np.random.default_rng(0)
    sizes, shares = np.array([-0.5, -0.25, 0.0, 0.25, 0.5, 0.75]), [0.08, 0.1, 0.5, 0.14, 0.1, 0.08]
    difference, squared = float(sizes @ shares), float(sizes**2 @ shares)
    found = np.mean([sign_flip(rng.choice(sizes, p=shares, size=150)) < 0.05 for _ in range(500)])
    assert found == pytest.approx(mcnemar_power(150, difference, squared), abs=0.07)


def test_a_table_says_what_it_can_resolve_and_what_would_do():
    told = resolution(100, 0.05, 0.2)
    assert str(told) == "100 rows show differences from 12.8 points; 5.0 points need 658 rows."
    assert not told.enough
    assert resolution(1000, 0.05, 0.2).enough
    assert str(resolution(5, 0.1, 0.3)).startswith("5 rows are too few to show any difference; 10.0 points need")
    assert str(resolution(100, 0.0, 0.2)).endswith("0.0 points need more than 1,048,576 rows.")


def test_power_between_methods_is_what_comparisons_find():
    spread, rng = Spread(rows=0.02, seeds=0.005, noise=0.2), np.random.default_rng(1)
    difference = methods_detectable_difference(spread, 50, 4)
    found = 0
    for _ in range(400):
        row = rng.normal(0, math.sqrt(spread.rows / 2), (2, 1, 50))
        seed = rng.normal(0, math.sqrt(spread.seeds / 2), (2, 4, 1))
        before, after = row + seed + rng.normal(0, math.sqrt(spread.noise / 2), (2, 4, 50))
        found += compare_methods(before, after + difference).p_value < 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_rows_do_not_make_up_for_seeds():
    spread = Spread(rows=0.03, seeds=0.006, noise=0.35)
    assert methods_rows_needed(spread, 0.05, 3) is None
    needed = methods_rows_needed(spread, 0.05, 3, tasks=21)
    assert needed is not None
    assert methods_detectable_difference(spread, needed, 3, tasks=21) <= 0.05
    assert methods_detectable_difference(spread, needed - 1, 3, tasks=21) > 0.05
    assert methods_detectable_difference(spread, 100, 10) < methods_detectable_difference(spread, 100, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mcnemar_power(0, 0.1, 0.2),
        lambda: mcnemar_power(10, 0.3, 0.2),
        lambda: rows_needed(0.1, 1.2),
        lambda: rows_needed(0.1, 0.2, power=1.0),
        lambda: detectable_difference(10, 0.2, alpha=0.0),
        lambda: methods_detectable_difference(Spread(0.1, 0.1, 0.1), 100, 1),
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"row|seeds|discordance|probabilities"):
        wrong()

"""Intervals and tests against numbers worked out by hand or printed in textbooks."""

import random

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, permutation_test

from greater_ray import statistics
from greater_ray.statistics.pairs import mcnemar, sign_flip

# Darwin's maize: the height of cross-fertilized less that of self-fertilized plants, in eighths of an inch.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_wilson_interval_by_hand():
    # p = 8/10, z = 1.959964: centre (p + z²/2n) / (1 + z²/n) = 0.716738, half width 0.226580.
    estimate, low, high = statistics.accuracy([True] * 8 + [False] * 2)
    assert (estimate, low, high) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)


def test_wilson_interval_stays_inside_at_the_ends():
    # No success in n: the upper limit is z² / (n + z²) = 3.841459 / 13.841459.
    assert statistics.accuracy([False] * 10) == pytest.approx((0.0, 0.0, 0.277533), abs=1e-5)
    assert statistics.accuracy([True] * 10) == pytest.approx((1.0, 0.722467, 1.0), abs=1e-5)
    assert statistics.accuracy([True]) == pytest.approx((1.0, 0.206543, 1.0), abs=1e-5)


def test_intervals_and_mcnemar_equal_those_of_scipy():
    rng = random.Random(0)
    for _ in range(100):
        num, share = rng.randint(1, 300), rng.choice((0.0, 0.2, 0.9, 1.0))
        right = [rng.random() < share for _ in range(num)]
        theirs = binomtest(sum(right), num).proportion_ci(method="wilson")
        assert statistics.accuracy(right)[1:] == pytest.approx((theirs.low, theirs.high), rel=1e-12, abs=1e-15)
        wins, losses = rng.randint(0, 40), rng.randint(1, 40)
        assert mcnemar(wins, losses) == pytest.approx(float(binomtest(wins, wins + losses).pvalue), rel=1e-12)
    for _ in range(20):
        values = [rng.choice((rng.gauss(1.0, 2.0), float(rng.randint(0, 3)))) for _ in range(rng.randint(4, 80))]
        drawn = {"n_resamples": 2000, "method": "percentile", "rng": np.random.default_rng(0)}
        limits = bootstrap((np.asarray(values),), np.mean, **drawn).confidence_interval
        assert statistics.mean(values)[1:] == pytest.approx((limits.low, limits.high), rel=1e-12, abs=1e-14)


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


def test_scores_of_0_and_1_have_wilsons_interval_and_others_the_bootstraps():
    assert statistics.score_interval([1.0] * 8 + [0.0] * 2) == statistics.accuracy([True] * 8 + [False] * 2)
    assert statistics.score_interval([True] * 8 + [False] * 2) == statistics.accuracy([True] * 8 + [False] * 2)
    graded = [0.0, 0.25, 0.5, 1.0, 1.0]
    assert statistics.score_interval(graded) == statistics.mean(graded)


@pytest.mark.parametrize("scores", [[], [0.5, 1.2], [-0.1], [float("nan")]])
def test_what_is_no_score_is_refused(scores):
    with pytest.raises(ValueError, match="score"):
        statistics.score_interval(scores)


def test_right_or_wrong_compares_the_same_as_numbers_and_as_truth_values():
    rng = random.Random(0)
    before, after = ([rng.random() < p for _ in range(80)] for p in (0.4, 0.6))
    as_numbers = statistics.paired([float(b) for b in before], [int(a) for a in after])
    assert as_numbers == statistics.paired(before, after)
    assert as_numbers.p_value == mcnemar(as_numbers.wins, as_numbers.losses)


def test_graded_scores_are_compared_by_the_size_of_their_differences():
    before, after = [0.5, 0.25, 0.5, 0.75, 1.0], [1.0, 0.5, 0.75, 1.0, 1.0]
    result = statistics.paired(before, after)
    assert (result.wins, result.losses) == (4, 0)
    assert result.difference.estimate == pytest.approx(0.25)
    assert result.p_value == 2 / 2**4
    with pytest.raises(ValueError, match="finite"):
        statistics.paired([0.5, float("nan")], [0.5, 0.5])


def test_sign_flip_of_darwins_maize():
    # Fisher (The Design of Experiments, section 21) counts 863 of 2^15 sums as large or larger: p = 5.267 %.
    assert sign_flip(DARWIN) == 2 * 863 / 2**15


def test_sign_flip_is_the_exact_mcnemar_where_all_differences_are_of_one_size():
    assert sign_flip([0.1] * 9 + [-0.1] * 3 + [0.0] * 20) == pytest.approx(mcnemar(9, 3))
    # Drawn signs: within three standard errors.
    assert sign_flip([1.0] * 40 + [-1.0] * 23) == pytest.approx(mcnemar(40, 23), abs=0.006)


@pytest.mark.parametrize("num", [2, 9, 40, 200])
def test_sign_flip_agrees_with_scipy(num):
    values = np.random.default_rng(num).normal(0.2, 1.0, num).round(1)
    reference = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=9999, rng=1).pvalue
    assert sign_flip(values) == sign_flip(values.tolist()) == pytest.approx(reference, abs=1e-12 if num < 13 else 0.02)


def test_equal_prompts_are_rarely_called_different():
    rng = np.random.default_rng(0)
    # Graded: most rows equal, the others differ by quarters.
    graded = rng.choice([0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75], p=[0.4] + [0.1] * 6, size=(1000, 100))
    assert np.mean([sign_flip(row) < 0.05 for row in graded]) == pytest.approx(0.05, abs=0.015)
    # An exact test of whole numbers stays below 5 %, and comes near with many discordant rows.
    wins = rng.binomial(240, 0.5, size=1000)
    assert np.mean([mcnemar(int(w), 240 - int(w)) < 0.05 for w in wins]) == pytest.approx(0.05, abs=0.015)

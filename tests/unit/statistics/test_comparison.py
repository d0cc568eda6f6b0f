"""Two methods over seeds, rows and tasks: against scipy where it has the special case, and against slow sums."""

import itertools

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from greater_ray import statistics
from greater_ray.statistics.comparison import compare_methods, compare_over_tasks


def answers(rng, tasks, seeds, rows, *, seed_effect, row_effect):
    """Draw scores of two equal methods, shape (tasks, 2, seeds, rows): rows differ in difficulty, in how they suit a
    method and a single prompt; seeds in how good a prompt they find."""
    logits = rng.normal(0.0, 1.5, (tasks, 1, 1, rows))
    logits = logits + rng.normal(0.0, 1.0, (tasks, 2, 1, rows)) * row_effect
    logits = logits + rng.normal(0.0, 1.0, (tasks, 2, seeds, 1)) * seed_effect
    logits = logits + rng.normal(0.0, 0.7, (tasks, 2, seeds, rows))
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def test_one_seed_is_a_paired_comparison_of_two_prompts():
    (before,), (after,) = answers(np.random.default_rng(0), 1, 1, 80, seed_effect=0.3, row_effect=0.5)[0]
    result, prompts = compare_methods([before], [after]), statistics.paired(before, after)
    assert result.freedom is None
    assert result.seeds == (1, 1)
    assert result.difference.estimate == pytest.approx(prompts.difference.estimate)
    assert result.p_value == result.prompts_p_value == pytest.approx(prompts.p_value, abs=0.01)
    limits = ttest_rel(after, before).confidence_interval()
    assert result.difference[1:] == pytest.approx((limits.low, limits.high))


def test_a_method_without_seeds_may_be_given_once_or_repeated():
    before, after = answers(np.random.default_rng(1), 1, 3, 60, seed_effect=0.3, row_effect=0.5)[0]
    once, repeated = compare_methods(before[:1], after), compare_methods(np.repeat(before[:1], 3, axis=0), after)
    assert repeated.difference == pytest.approx(once.difference)
    assert repeated.p_value == pytest.approx(once.p_value)
    both = compare_methods(np.repeat(before[:1], 3, axis=0), np.repeat(after[:1], 3, axis=0))
    assert both.freedom is None
    assert both.p_value == both.prompts_p_value


def test_where_only_seeds_differ_it_is_welchs_test():
    rng = np.random.default_rng(2)
    rows = rng.uniform(0.3, 0.6, 50)
    first, second = rng.uniform(-0.2, 0.2, 3), rng.uniform(-0.2, 0.3, 4)
    result = compare_methods(rows + first[:, None], rows + second[:, None])
    welch = ttest_ind(second, first, equal_var=False)
    assert result.p_value == pytest.approx(welch.pvalue)
    assert result.difference[1:] == pytest.approx(welch.confidence_interval()[:])
    assert result.freedom == pytest.approx(welch.df)


@pytest.mark.parametrize("seed", range(3))
def test_variance_is_that_of_obuchowski_and_rockette(seed):
    # Slow twin: variances of seeds' means, and covariances of every two prompts over rows.
    before, after = answers(np.random.default_rng(seed), 1, 3, 40, seed_effect=0.3, row_effect=1.5)[0]
    within = sum(
        np.mean([np.cov(x[i], x[j])[0, 1] for i, j in itertools.combinations(range(3), 2)]) for x in (before, after)
    )
    across = np.mean([np.cov(b, a)[0, 1] for b in before for a in after])
    shared = max(0.0, (within - 2 * across) / 40)
    parts = [np.var(x.mean(1), ddof=1) / 3 for x in (before, after)]
    result = compare_methods(before, after)
    assert shared > 0
    assert result.error**2 == pytest.approx(sum(parts) + shared)
    hillis = (sum(parts) + shared) ** 2 / (sum(p**2 / 2 for p in parts) + shared**2 / 39)
    assert result.freedom == pytest.approx(hillis)
    # The parts of the error add up to it.
    rows, seeds, noise = result.spread
    assert rows / 40 + seeds / 3 + noise / (40 * 3) == pytest.approx(result.error**2)


def test_the_parts_of_the_spread_are_found_again():
    rng = np.random.default_rng(3)
    spreads = []
    for _ in range(400):
        row, seed = rng.normal(0, 0.3, (2, 1, 50)), rng.normal(0, 0.1, (2, 3, 1))
        before, after = 0.5 + row + seed + rng.normal(0, 0.4, (2, 3, 50))
        spreads.append(compare_methods(before, after).spread)
    assert np.mean(spreads, axis=0) == pytest.approx((2 * 0.3**2, 2 * 0.1**2, 2 * 0.4**2), rel=0.1)


def test_tasks_weigh_the_same_whatever_their_rows():
    few, many = np.array([[1.0, 0.0]]), np.zeros((1, 100))
    result = compare_over_tasks([np.zeros((1, 2)), many], [few, many])
    assert result.difference.estimate == pytest.approx(0.25)
    assert (result.tasks, result.rows) == (2, 102)


def test_the_mean_over_tasks_is_surer_than_one_task():
    before, after = answers(np.random.default_rng(4), 21, 3, 100, seed_effect=0.3, row_effect=0.7).swapaxes(0, 1)
    single = [compare_methods(b, a) for b, a in zip(before, after, strict=True)]
    result = compare_over_tasks(list(before), list(after))
    assert result.difference.estimate == pytest.approx(np.mean([s.difference.estimate for s in single]))
    assert result.error == pytest.approx(np.sqrt(sum(s.error**2 for s in single)) / 21, rel=0.1)
    assert result.spread == pytest.approx(np.mean([s.spread for s in single], axis=0))


def test_seeds_that_differ_are_no_rows():
    # Every prompt of one method is better on every row but one; the prompts differ without doubt, the methods may not.
    first, second = np.zeros((2, 40)), np.zeros((2, 40))
    second[0, :30], second[1, :2] = 1.0, 1.0
    result = compare_methods(first, second)
    assert result.prompts_p_value < 1e-3
    assert result.p_value > 0.2
    assert result.difference.low < 0 < result.difference.high


def test_no_difference_at_all_is_no_difference():
    same = np.ones((3, 10))
    result = compare_methods(same, same)
    assert result.difference == (0.0, 0.0, 0.0)
    assert result.p_value == result.prompts_p_value == 1.0


def test_few_rows_that_are_all_won_are_not_certainty():
    result = compare_methods(np.zeros((3, 5)), np.ones((3, 5)))
    assert result.p_value == 2 / 2**5


def test_other_units_change_nothing_but_the_unit():
    before, after = answers(np.random.default_rng(6), 1, 3, 50, seed_effect=0.3, row_effect=0.5)[0]
    scores, hundredfold = compare_methods(before, after), compare_methods(100 * before, 100 * after)
    assert hundredfold.p_value == pytest.approx(scores.p_value)
    assert hundredfold.prompts_p_value == scores.prompts_p_value
    assert hundredfold.difference == pytest.approx([100 * x for x in scores.difference])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([[0.0, 1.0]], [[0.0, 1.0, 1.0]], "2 and 3"),
        ([0.0, 1.0], [0.0, 1.0], "seeds, rows"),
        ([[1.0]], [[0.0]], "two rows"),
        ([[1.0, float("nan")]], [[0.0, 1.0]], "finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        compare_methods(before, after)


def test_a_mean_over_no_tasks_is_refused():
    with pytest.raises(ValueError, match="at least one task"):
        compare_over_tasks([], [])


@pytest.mark.parametrize(
    ("tasks", "seeds", "rows", "seed_effect", "row_effect"),
    [(1, 3, 60, 0.0, 0.7), (1, 3, 60, 0.3, 0.7), (1, 3, 60, 1.0, 0.7), (6, 3, 25, 0.5, 0.7)],
)
def test_equal_methods_are_rarely_called_different(tasks, seeds, rows, seed_effect, row_effect):
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(1000):
        drawn = answers(rng, tasks, seeds, rows, seed_effect=seed_effect, row_effect=row_effect)
        result = compare_over_tasks(drawn[:, 0], drawn[:, 1])
        assert (result.p_value < 0.05) == (not result.difference.low <= 0 <= result.difference.high)
        alarms.append((result.p_value < 0.05, result.prompts_p_value < 0.05))
    methods, prompts = np.mean(alarms, axis=0)
    assert methods == pytest.approx(0.05, abs=0.015)
    if seed_effect == 0:
        # Equal prompts but for the rows that suit them.
        assert prompts == pytest.approx(0.05, abs=0.015)
    elif seed_effect == 1.0:
        assert prompts > 0.3, "the prompts of equal methods do differ, which is why the two are told apart"

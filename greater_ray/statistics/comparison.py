"""Two methods on the same rows, over seeds: one task, or the mean over tasks.

A method run under another seed finds another prompt, and that prompt meets the same rows. So a table of seeds x rows
holds two kinds of chance, and its cells are not independent. Rows and seeds are both taken as random here, tasks as
fixed. Seed k of one method has nothing to do with seed k of another: seeds are not paired, rows are.

The variance of the difference is estimated from moments, not by resampling: three seeds resampled with replacement
know of no fourth one. It is the estimate of Obuchowski and Rockette for readers x cases, with seeds for readers and the
degrees of freedom of Hillis (Statistics in Medicine 26, 2007), carried to means over tasks by Satterthwaite's formula.
How often each way of counting raises a false alarm stands in docs/statistics.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greater_ray.statistics.intervals import Interval
from greater_ray.statistics.pairs import sign_flip

CONFIDENCE = 0.95

Scores: TypeAlias = NDArray[np.float64]


class Spread(NamedTuple):
    """Where the uncertainty of a difference between two methods comes from: variances, in squared score.

    With n rows and s seeds of each method, the difference on one task has the variance rows / n + seeds / s +
    noise / (n s). Each part may be below zero by chance, as unbiased estimates may.

    Attributes:
        rows: of a row's expected difference: some rows suit one method, others the other.
        seeds: of the expected score of the prompts that a method finds, both methods together.
        noise: what is left: of a row under one prompt, both methods together.
    """

    rows: float
    seeds: float
    noise: float


class Compared(NamedTuple):
    """The difference between two methods, second minus first.

    Attributes:
        difference: mean difference with its 95 % interval; rows and seeds random, tasks fixed. With few seeds its
            limits may lie beyond what scores can reach.
        p_value: two-sided: are the *methods* different, on new rows and under new seeds?
        prompts_p_value: two-sided, exact (sign flips of whole rows): are the *prompts found* different, on new rows?
        error: standard error of the difference.
        freedom: degrees of freedom of the error; few where few seeds differ much. None where no seeds differ: each
            method has one seed, or uses none. Then rows alone are random, ``p_value`` is ``prompts_p_value``, and
            nothing is said about other seeds.
        spread: the parts of the error, mean over tasks. Seeds and noise are 0 where ``freedom`` is None.
        seeds: the number of seeds of each method, the smallest of all tasks.
        rows: the number of rows, of all tasks together.
        tasks: the number of tasks.
    """

    difference: Interval
    p_value: float
    prompts_p_value: float
    error: float
    freedom: float | None
    spread: Spread
    seeds: tuple[int, int]
    rows: int
    tasks: int


class _Method(NamedTuple):
    """Moments of one method on one task, scores of shape (seeds, rows)."""

    seeds: int
    between: float  # variance of the seeds' mean scores: of seeds, and of noise over rows
    noise: float  # variance of a score about its row's and its seed's mean


class _Task(NamedTuple):
    rows: int
    row_differences: Scores  # (rows,): mean over the seeds of each method
    methods: tuple[_Method, _Method]

    @property
    def rows_part(self) -> float:
        """Variance of the mean difference that rows alone make; unbiased, so it may be below zero."""
        return self.all_rows_part - sum(m.noise / m.seeds for m in self.methods) / self.rows

    @property
    def all_rows_part(self) -> float:
        """The same with the noise of the prompts at hand."""
        return float(self.row_differences.var(ddof=1)) / self.rows

    @property
    def seeds_part(self) -> float:
        """Variance of the mean difference that seeds make, with their noise."""
        return sum(m.between / m.seeds for m in self.methods)


def compare_methods(before: ArrayLike, after: ArrayLike) -> Compared:
    """Compare two methods on one task.

    Args:
        before, after: scores (or losses) of shape (seeds, rows); rows in the same order. The numbers of seeds may
            differ, and a method that uses no seed has one.

    Raises:
        ValueError: the rows are not the same number, fewer than two, or a score is missing or not finite.
    """
    return compare_over_tasks([before], [after])


def compare_over_tasks(before: Sequence[ArrayLike], after: Sequence[ArrayLike]) -> Compared:
    """Compare two methods by the mean of their differences over tasks, every task with the same weight.

    The interval holds for these tasks: it says nothing about tasks that were not tried.

    Args:
        before, after: per task, scores of shape (seeds, rows) as for ``compare_methods``; seeds and rows may differ in
            number between tasks.

    Raises:
        ValueError: as for ``compare_methods``; or there is no task, or not the same number of tasks.
    """
    tasks = [_moments(*pair) for pair in zip(before, after, strict=True)]
    if not tasks:
        raise ValueError("before, after: a comparison needs at least one task, not 0")
    num = len(tasks)
    estimate = sum(float(t.row_differences.mean()) for t in tasks) / num
    prompts_p_value = sign_flip(np.concatenate([t.row_differences / (t.rows * num) for t in tasks]).tolist())
    variance, freedom = _variance(tasks)
    error = math.sqrt(variance) / num
    low, high, p_value = _limits(estimate, error, freedom or sum(t.rows - 1 for t in tasks))
    return Compared(
        difference=Interval(estimate, low, high),
        p_value=prompts_p_value if freedom is None else p_value,
        prompts_p_value=prompts_p_value,
        error=error,
        freedom=freedom,
        spread=_spread(tasks),
        seeds=(min(t.methods[0].seeds for t in tasks), min(t.methods[1].seeds for t in tasks)),
        rows=sum(t.rows for t in tasks),
        tasks=num,
    )


def _moments(before: ArrayLike, after: ArrayLike) -> _Task:
    first, second = _scores(before), _scores(after)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"methods are compared on the same rows, not on {first.shape[1]} and {second.shape[1]}")
    return _Task(first.shape[1], second.mean(0) - first.mean(0), (_method(first), _method(second)))


def _scores(values: ArrayLike) -> Scores:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"scores have the shape (seeds, rows) with at least two rows, not {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"every score must be a finite number, not {scores[~np.isfinite(scores)][0]}")
    return scores


def _method(scores: Scores) -> _Method:
    seeds, rows = scores.shape
    if seeds == 1:
        return _Method(1, 0.0, 0.0)
    residuals = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    noise = float(np.square(residuals).sum()) / ((seeds - 1) * (rows - 1))
    return _Method(seeds, float(scores.mean(1).var(ddof=1)), noise)


def _variance(tasks: Sequence[_Task]) -> tuple[float, float | None]:
    """Return the variance of the sum over tasks of the differences, and its degrees of freedom."""
    seeds_part = sum(t.seeds_part for t in tasks)
    # Rounding aside, seeds with one mean: either they are one, or nothing can be learned about others.
    if seeds_part <= 1e-20:
        return sum(t.all_rows_part for t in tasks), None
    # Cut at zero for all tasks together: cut task by task, the chance of each would add up.
    rows_part = max(0.0, sum(t.rows_part for t in tasks))
    parts = [(m.between / m.seeds, m.seeds - 1) for t in tasks for m in t.methods if m.seeds > 1]
    parts += [(t.rows_part, t.rows - 1) for t in tasks if rows_part > 0]
    return seeds_part + rows_part, _freedom(seeds_part + rows_part, parts, unbiased=len(tasks) > 1)


def _freedom(variance: float, parts: Sequence[tuple[float, int]], *, unbiased: bool) -> float:
    """Return the degrees of freedom of a sum of variances, each with its own (Satterthwaite).

    The square of a variance with f degrees of freedom is too large by the factor (f + 2) / f on average. With many
    parts this halves the sum's degrees of freedom when f is 2, so it is taken off; with the two of a single task the
    correction is too uncertain itself, and Hillis's formula is the plain one.
    """
    if unbiased:
        found = variance**2 / sum(part**2 / (f + 2) for part, f in parts) - 2
    else:
        found = variance**2 / sum(part**2 / f for part, f in parts)
    # Parts below zero can pull it under that of the least known part, which is the least a sum can have.
    return max(found, min(f for _, f in parts))


def _limits(estimate: float, error: float, freedom: float) -> tuple[float, float, float]:
    """Return the limits of Student's interval and the two-sided p-value."""
    from scipy.stats import t

    if error == 0:
        return estimate, estimate, float(estimate == 0)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p_value = 2 * float(t.sf(abs(estimate) / error, freedom))
    return estimate - reach, estimate + reach, p_value


def _spread(tasks: Sequence[_Task]) -> Spread:
    """Return the mean over tasks of the variances of one task."""
    rows = [t.rows_part * t.rows for t in tasks]
    seeds = [sum(m.between - m.noise / t.rows for m in t.methods) for t in tasks]
    noise = [sum(m.noise for m in t.methods) for t in tasks]
    return Spread(*(sum(part) / len(tasks) for part in (rows, seeds, noise)))

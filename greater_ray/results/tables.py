"""Results as a notebook shows them: one line per cell, the first ones of a large grid."""

from collections import Counter
from collections.abc import Sequence

from greater_ray.grid.config import AXES
from greater_ray.results.cells import CellResult, Results
from greater_ray.results.scores import SPLITS_SHOWN, SplitScore
from greater_ray.shown import block, foreign, line, percent, percents, points, table

# Every cell that is shown is read.
_MOST = 25
_FIGURES = ("start", "found", "95 % interval", "change", "p", "tokens")


def results_html(results: Results) -> str:
    """Return cells with their scores on test rows, or else on the rows there are, and what each has cost."""
    shown = results.cells[:_MOST]
    counts = Counter(cell.state for cell in results.cells)
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    problems = [f"failed: {foreign(cell.title)}: {foreign(cell.problem)}" for cell in shown if cell.problem is not None]
    more = len(results.cells) - len(shown)
    return block(
        line(f"<b>{foreign(results.name)}</b>: {states or 'no cells'}"),
        table((*AXES, "", "split", *_FIGURES), [_row(cell) for cell in shown], words=len(AXES) + 2),
        *map(line, problems),
        *([line(f"and {more:,} more cells in .cells and .cell_frame()", dim=True)] if more > 0 else []),
    )


def _row(cell: CellResult) -> Sequence[str]:
    labels = [foreign(cell.labels.get(axis, "-"), 60, wrap=False) for axis in AXES]
    if cell.problem is not None or not cell.done:
        return [*labels, "failed" if cell.problem is not None else cell.state, "-", *["-"] * len(_FIGURES)]
    cost = f"{sum(usage.tokens for usage in cell.costs.values()):,}"
    what = f"from {foreign(cell.source_model, 60, wrap=False)}" if cell.source_model is not None else ""
    score = min(cell.scores, key=lambda s: SPLITS_SHOWN.index(s.split), default=None)
    figures = _figures(score) if score is not None else ["-"] * len(_FIGURES)
    return [*labels, what, *figures, cost]


def _figures(score: SplitScore) -> list[str]:
    found = [f"<b>{percent(score.after)}</b>", percents(score.interval)]
    if score.change is None or score.p_value is None:
        return [score.split, "-", *found, "-", "-"]
    return [score.split, percent(score.before), *found, points(score.change), f"{score.p_value:.2g}"]

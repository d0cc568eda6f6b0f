"""What a search costs: accuracy over its tokens with the Pareto front, and losses while the tokens are spent."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from greater_ray.drawing import line_style
from greater_ray.errors import ConfigError
from greater_ray.plots._figure import heading, legend, name, new_figure, percents, thousands, tidy
from greater_ray.plots._given import Row, cells_of, counted, grouped, mean, on_split, read, rows_of
from greater_ray.report.curves import CurvePoint, curve
from greater_ray.results import CellResult, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from greater_ray.results.frames import Frame

_FEW_CURVES = 24
# Parts of a power of ten that have a tick, and the ratio below which ticks are evenly spaced.
_PARTS = {True: (1.0,), False: (1.0, 2.0, 5.0)}
_NEAR = 4
_MEASURES = {
    "loss": "Loss of the right answer, nats",
    "accuracy": "Share of training rows hit",
    "criterion": "The method's own criterion",
}


class Spent(NamedTuple):
    """A method's mean cost and accuracy; ``complete`` where it was measured on every task and model."""

    method: str
    tokens: float
    accuracy: float
    complete: bool


def by_cost(rows: Sequence[Row]) -> list[Spent]:
    """Return every method's means over its tasks and models, each pair of them with the same weight."""
    pairs = {(row["task"], row["model"]) for row in rows}
    found = []
    for method, own in grouped(rows, lambda row: row["method"]).items():
        groups = list(grouped(own, lambda row: (row["task"], row["model"])).values())
        tokens = mean([mean([row["search_tokens"] + row["writer_tokens"] for row in group]) for group in groups])
        score = mean([mean([row["after"] for row in group]) for group in groups])
        found.append(Spent(method, tokens, score, len(groups) == len(pairs)))
    return found


def front(marks: Sequence[Spent]) -> list[Spent]:
    """Return the methods that no other one beats for as little, among those that are complete; cheapest first."""
    kept: list[Spent] = []
    for mark in sorted((m for m in marks if m.complete), key=lambda m: (m.tokens, -m.accuracy)):
        if not kept or mark.accuracy > kept[-1].accuracy:
            kept.append(mark)
    return kept


def costs(cells: "Results | Sequence[CellResult] | Frame", split: str | None = None) -> "Figure":
    """Draw accuracy over the tokens of search and writer, one mark per method, and the Pareto front.

    A method that was not measured on every task and model has a hollow mark and is no part of the front. One that
    searches nothing stands at 0. Transfers are left out.

    Args:
        cells: results, some of their cells, or a ``cell_frame``.
        split: as in ``accuracy``.

    Raises:
        ConfigError: nothing is to be drawn, or matplotlib is missing.
        StoreError: a record cannot be read.
    """
    rows, split = on_split(rows_of(cells), split, transfers=False)
    marks = by_cost(rows)
    best = front(marks)
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    zero = _tokens_axis(axes, [mark.tokens for mark in marks])
    places = {mark: (mark.tokens or zero, mark.accuracy) for mark in marks}
    if len(best) > 1:
        corners = zip(*(places[mark] for mark in best), strict=True)
        axes.step(*corners, where="post", color="#777777", linestyle=(0, (4, 2)))
    for number, mark in enumerate(marks):
        style, (x, y) = line_style(number), places[mark]
        if mark in best:
            axes.plot(x, y, "o", markersize=15, markerfacecolor="none", markeredgecolor="#777777")
        fill = style.colour if mark.complete else "white"
        axes.plot(x, y, style.marker, markersize=7, markerfacecolor=fill, markeredgecolor=style.colour)
    tidy(axes, x="tokens of search and writer per cell", y=f"accuracy on {split} rows")
    percents(axes.yaxis)
    axes.margins(x=0.12, y=0.15)
    hollow = "; hollow: not measured on all" if any(not mark.complete for mark in marks) else ""
    pairs = counted(len({(row["task"], row["model"]) for row in rows}), "pair")
    heading(figure, f"Cost against accuracy, mean over {pairs} of task and model; ringed: Pareto front{hollow}")
    figure.labelled(axes, [(*places[mark], name(mark.method)) for mark in marks], [places[mark] for mark in best])
    return figure


def _tokens_axis(axes: Any, tokens: Sequence[float]) -> float:
    """Make the axis logarithmic, with a place for 0 at the left where it is needed; return that place."""
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    positive = [value for value in tokens if value > 0]
    if not positive:
        axes.set_xticks([0])
        return 0.0
    low, high = min(positive), max(positive)
    zero: float = low / max(2.0, (high / low) ** 0.25)
    axes.set_xscale("log")
    wide = high / low > 100
    from_to = (low * 0.8, high * 1.25)
    near = high / low < _NEAR
    ticks = MaxNLocator(4).tick_values(*from_to) if near else LogLocator(subs=_PARTS[wide]).tick_values(*from_to)
    shown = [tick for tick in ticks if from_to[0] <= tick <= from_to[1]]
    some_zero = len(positive) < len(tokens)
    write: Callable[[float], str] = EngFormatter(sep="")
    axes.xaxis.set_major_locator(FixedLocator([*([zero] if some_zero else []), *shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "0" if some_zero and x <= zero else write(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    return zero


class _Line(NamedTuple):
    method: str
    points: list[tuple[float, float]]


def curves(cells: "Results | Sequence[CellResult]", measure: str | None = None) -> "Figure":
    """Draw the prompt after each step over the tokens of search and writer, all methods on one axis.

    With several tasks or models a line is the difference to its first point; more than 24 lines become one mean per
    method. Cells in progress are there too; transfers are left out.

    Args:
        cells: results, or some of their cells.
        measure: ``loss`` (mean cross-entropy of the right answer on training rows, nats), ``accuracy`` (share of
            training rows whose right answer is the likeliest text) or ``criterion`` (the method's own, not to be
            compared between methods); None draws loss and accuracy, and the criterion only where records hold neither.

    Raises:
        ConfigError: an unknown measure, nothing is to be drawn, or matplotlib is missing.
        StoreError: a record or a file of steps cannot be read.
    """
    if measure is not None and measure not in _MEASURES:
        raise ConfigError(f"'{measure}' is none of {', '.join(_MEASURES)}.", setting="measure", value=measure,
                          allowed=_MEASURES)  # fmt: skip
    searched = [(cell, _read_curve(cell)) for cell in cells_of(cells) if cell.source is None]
    lines = {kind: _lines(searched, kind) for kind in ([measure] if measure else _MEASURES)}
    # Criteria of different methods cannot be compared: they are drawn where nothing else is there.
    comparable = [kind for kind in lines if lines[kind] and kind != "criterion"]
    shown = comparable or [kind for kind in lines if lines[kind]]
    if not shown:
        raise ConfigError("there is no search with such a measure to be drawn.", setting="measure", value=measure)
    numbers = {method: k for k, method in enumerate(dict.fromkeys(cell.labels["method"] for cell, _ in searched))}
    relative = len({(cell.labels["task"], cell.labels["model"]) for cell, points in searched if len(points) > 1}) > 1
    figure = new_figure(1.0 + 5.0 * len(shown), 4.0)
    averaged = ""
    for axes, kind in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        drawn = _relative(lines[kind]) if relative else lines[kind]
        if len(drawn) > _FEW_CURVES:
            drawn, averaged = _averaged(drawn), "; means over cells"
        for line in drawn:
            colour, marker, dash = line_style(numbers[line.method])
            axes.plot(*zip(*line.points, strict=True), color=colour, linestyle=dash, linewidth=1.6, marker=marker,
                      markevery=[len(line.points) - 1], markersize=6)  # fmt: skip
        start = ", difference to the start" if relative else ""
        tidy(axes, f"{_MEASURES[kind]}{start}", "tokens of search and writer")
        thousands(axes.xaxis)
        if kind == "accuracy":
            percents(axes.yaxis)
    legend(figure, (m for m in numbers if any(line.method == m for kind in shown for line in lines[kind])), numbers)
    heading(figure, f"{' and '.join(shown).capitalize()} of the prompt after each step{averaged}")
    return figure


def _read_curve(cell: CellResult) -> list[CurvePoint]:
    steps, record = read(cell)
    if not steps:
        return []
    prompts = [step.prompt_ids for step in steps] + ([record.initial.ids] if record else [])
    return curve(steps, record, cell.on_training_rows(prompts))


def _lines(searched: Sequence[tuple[CellResult, list[CurvePoint]]], measure: str) -> list[_Line]:
    of = {"loss": "loss", "accuracy": "hits", "criterion": "criterion"}[measure]
    found = []
    for cell, points in searched:
        there = [(float(p.tokens), float(getattr(p, of))) for p in points if getattr(p, of) is not None]
        if len(there) > 1:
            found.append(_Line(cell.labels["method"], there))
    return found


def _relative(lines: Sequence[_Line]) -> list[_Line]:
    return [_Line(line.method, [(x, y - line.points[0][1]) for x, y in line.points]) for line in lines]


def _averaged(lines: Sequence[_Line]) -> list[_Line]:
    """Return one line per method: its mean, point by point, as far as at least half of its lines go."""
    found = []
    for method, own in grouped(lines, lambda line: line.method).items():
        longest = max(len(line.points) for line in own)
        there = ([line.points[k] for line in own if len(line.points) > k] for k in range(longest))
        kept = [points for points in there if len(points) >= len(own) / 2]
        found.append(_Line(method, [(mean([x for x, _ in points]), mean([y for _, y in points])) for points in kept]))
    return found

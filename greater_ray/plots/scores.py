"""Accuracy per task with intervals, and what prompts are worth on other models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from greater_ray.drawing import BLUE, RED, line_style
from greater_ray.errors import ConfigError
from greater_ray.plots._figure import heading, name, new_figure, percents, tidy
from greater_ray.plots._given import Row, grouped, mean, on_split, rows_of
from greater_ray.results import CellResult, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from greater_ray.results.frames import Frame

_FEW_SEEDS = 8
_MOST_PANELS = 60
_ACROSS = 3
_TITLE = 34  # letters above a panel


def accuracy(cells: "Results | Sequence[CellResult] | Frame", split: str | None = None) -> "Figure":
    """Draw accuracy per task: a mark per seed with its 95 % interval over rows, a grey stroke for the start prompt.

    With more than eight seeds of a method: their mean, middle half and range. Transfers are left out.

    Args:
        cells: results, some of their cells, or a ``cell_frame``.
        split: ``train``, ``dev`` or ``test``; None takes test rows where there are some.

    Raises:
        ConfigError: nothing is to be drawn, there are more than 60 tasks and models, or matplotlib is missing.
        StoreError: a record cannot be read.
    """
    rows, split = on_split(rows_of(cells), split, transfers=False)
    panels = grouped(rows, lambda row: (row["task"], row["model"]))
    if len(panels) > _MOST_PANELS:
        why = f"{len(panels)} tasks and models are too many for one figure (at most {_MOST_PANELS}); choose some."
        raise ConfigError(why, setting="cells", value=len(panels))
    numbers = {method: k for k, method in enumerate(dict.fromkeys(row["method"] for row in rows))}
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    lanes = max(sum(_height(own) for own in grouped(panel, _method).values()) for panel in panels.values())
    figure = new_figure(1.6 + 2.9 * across, 1.0 + down * (0.75 + 0.19 * lanes))
    axes = figure.subplots(down, across, squeeze=False, sharex=True)
    models = {model for _, model in panels}
    for k, ((task, model), own) in enumerate(panels.items()):
        panel = axes[k // across][k % across]
        _lanes(panel, grouped(own, _method), numbers, lanes)
        tidy(panel, name(task if len(models) == 1 else f"{task}, {model}", _TITLE), grid="x")
        percents(panel.xaxis)
        panel.set_xlim(-0.02, 1.02)
        panel.tick_params(labelbottom=True)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    selected = "; the prompt was selected on these rows" if any(row["selection"] for row in rows) else ""
    heading(figure, f"Accuracy on {split} rows with 95 % intervals; grey: start prompt{selected}")
    return figure


def _method(row: Row) -> str:
    return str(row["method"])


def _height(rows: Sequence[Row]) -> float:
    """Return how much room a lane needs: a mark and a half for each seed."""
    return 2.2 if len(rows) > _FEW_SEEDS else max(1.6, 0.6 + len(rows))


def _lanes(axes: Any, groups: dict[str, list[Row]], numbers: dict[str, int], room: float) -> None:
    """Draw one lane per method; ``room`` is that of the panel with most of them, so that all lanes are of one size."""
    top, places = 0.0, []
    for method, rows in groups.items():
        style, high = line_style(numbers[method]), _height(rows)
        middle = top + high / 2
        starts = sorted({row["before"] for row in rows if row["change"] is not None})
        axes.vlines(starts, top + 0.15, top + high - 0.15, color="#888888", linewidth=2.5, alpha=0.7)
        if len(rows) > _FEW_SEEDS:
            values = sorted(row["after"] for row in rows)
            low, high_half = values[round(0.25 * (len(values) - 1))], values[round(0.75 * (len(values) - 1))]
            axes.hlines(middle, values[0], values[-1], color=style.colour, linewidth=1.2)
            axes.hlines(middle, low, high_half, color=style.colour, linewidth=5, alpha=0.45)
            axes.plot(mean(values), middle, style.marker, color=style.colour)
        else:
            for k, row in enumerate(rows):
                y = middle + k - (len(rows) - 1) / 2
                ends = [[row["after"] - row["after_low"]], [row["after_high"] - row["after"]]]
                axes.errorbar(row["after"], y, xerr=ends, fmt=style.marker, color=style.colour, capsize=3, markersize=6,
                              clip_on=False)  # fmt: skip
        places.append((middle, method))
        top += high
        if len(places) < len(groups):
            axes.axhline(top, color="#DDDDDD", linewidth=0.8)
    axes.set_ylim(max(top, room), 0)
    axes.set_yticks([place for place, _ in places], [name(method) for _, method in places])
    axes.tick_params(axis="y", length=0)


def transfer(cells: "Results | Sequence[CellResult] | Frame", split: str | None = None) -> "Figure":
    """Draw what found prompts are worth on other models: mean change against the start prompt, in points.

    Args:
        cells: results, some of their cells, or a ``cell_frame``, with the sources of the transfers among them.
        split: as in ``accuracy``.

    Raises:
        ConfigError: there is no transfer, or matplotlib is missing.
        StoreError: a record cannot be read.
    """
    rows = rows_of(cells)
    moved, split = on_split(rows, split, transfers=True)
    sources = {row["trial_id"]: row for row in rows if row["source"] is None and row["split"] == split}
    absent = list(dict.fromkeys(row["source"] for row in moved if row["source"] not in sources))
    moved = [row for row in moved if row["source"] in sources]
    if not moved:
        why = f"trial {absent[0]}, whose prompt was transferred, is missing on '{split}' rows; give the sources too."
        raise ConfigError(why, setting="cells", value=absent)
    groups = grouped(moved, lambda row: (row["method"], sources[row["source"]]["model"]))
    targets = sorted({row["model"] for row in moved})
    columns = ["its own model", *targets]
    table = []
    for own in groups.values():
        found = {row["source"]: sources[row["source"]] for row in own}
        table.append([_points(list(found.values())), *(_points([r for r in own if r["model"] == m]) for m in targets)])
    figure = new_figure(3.4 + 1.3 * len(columns), 1.5 + 0.45 * len(groups))
    axes = figure.subplots()
    most = max([2.0, *(abs(value) for line in table for value in line if value is not None)])
    _heat(axes, table, most)
    axes.set_xticks(range(len(columns)), [name(column) for column in columns])
    axes.set_yticks(range(len(groups)), [f"{name(method)}\nfound on {name(model, _TITLE)}" for method, model in groups])
    axes.tick_params(length=0, labelsize=9, top=True, labeltop=True, bottom=False, labelbottom=False)
    heading(figure, f"Change against the start prompt in points on {split} rows, by the model that answers")
    return figure


def _points(rows: Sequence[Row]) -> float | None:
    """Return the mean change in points; a prompt that did not change has none."""
    return 100 * mean([row["change"] or 0.0 for row in rows]) if rows else None


def _heat(axes: Any, table: Sequence[Sequence[float | None]], most: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours, scale = LinearSegmentedColormap.from_list("change", [RED, "#FFFFFF", BLUE]), Normalize(-most, most)
    numbers = [[float("nan") if value is None else value for value in line] for line in table]
    axes.imshow(numbers, cmap=colours, norm=scale, aspect="auto")
    for y, line in enumerate(table):
        for x, value in enumerate(line):
            text = "-" if value is None else "0.0" if round(value, 1) == 0 else f"{value:+.1f}".replace("-", "\u2212")
            strong = value is not None and abs(value) > 0.75 * most
            axes.text(x, y, text, ha="center", va="center", fontsize=10, color="white" if strong else "black")
    axes.spines[:].set_visible(False)
    axes.set_xticks([x - 0.5 for x in range(1, len(table[0]))], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, len(table))], minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="minor", length=0)

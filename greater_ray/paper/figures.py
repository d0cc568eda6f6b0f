"""Pictures of tables, made from records only: bars with error bars, and wins, draws and losses.

matplotlib is an extra (``pip install 'greater-ray[plots]'``).
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from greater_ray.drawing import fill_style, need_matplotlib
from greater_ray.paper.measure import Filled, is_made, outcomes

FORMS = ("png", "svg", "pdf")
_FEW = 4  # columns whose names fit beside each other
_OUTCOMES = {
    "wins": ("#0072B2", ""),
    "smaller wins": ("#56B4E9", "///"),
    "equal": ("#FFFFFF", ""),
    "smaller losses": ("#F0E442", "\\\\\\"),
    "losses": ("#D55E00", "xx"),
}
_LABELS = {
    "wins": "wins",
    "smaller wins": "higher, may be noise",
    "equal": "equal",
    "smaller losses": "lower, may be noise",
    "losses": "losses",
}


_LETTERS_PER_INCH = 12  # of a title


def draw(filled: Filled, folder: Path, forms: Sequence[str] = FORMS) -> list[Path]:
    """Write a picture in some forms and return the files.

    Raises:
        ConfigError: matplotlib is missing.
    """
    need_matplotlib("to")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Equal records give equal files: no random ids, no time of making.
    with mpl.rc_context({"svg.hashsalt": "greater-ray", "svg.fonttype": "none", "hatch.linewidth": 0.6}):
        figure = Figure(figsize=_size(filled), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        (_outcome_bars if filled.plan.table.figure == "outcomes" else _bars)(filled, axes)
        made = ", synthetic rows" if any(is_made(number) for number in filled.plan.numbers) else ""
        about = f"{filled.plan.table.title}{_common(filled)} (scale {filled.plan.view.scale}{made})"
        wide = int(_LETTERS_PER_INCH * figure.get_figwidth())
        lines = [line for text in (about, *filled.plan.view.overrides) for line in wrap(text, wide)]
        figure.suptitle("\n".join(lines), fontsize=10)
        written = []
        for form in forms:
            path = folder / f"{filled.plan.table.name}.{form}"
            figure.savefig(
                path, dpi=150, metadata={"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
            )
            written.append(path)
    return written


def _size(filled: Filled) -> tuple[float, float]:
    if filled.plan.table.figure == "outcomes":
        return 7.0, 1.2 + 0.5 * len(filled.plan.table.rows)
    bars = len(filled.plan.columns) * (len(filled.plan.table.rows) + 1)
    # Long names of many columns stand on end below the bars.
    longest = max(len(label) for label in _labels_of(filled))
    return min(16.0, max(5.0, 0.12 * bars + 2.5)), 4.2 + (0.055 * longest if len(filled.plan.columns) > _FEW else 0)


def _labels_of(filled: Filled) -> list[str]:
    """Return the names of the columns without a first word that all share: their model."""
    common = _common(filled).removeprefix(", ")
    return [column.label.removeprefix(f"{common} ") if common else column.label for column in filled.plan.columns]


def _common(filled: Filled) -> str:
    first = {column.label.partition(" ")[0] for column in filled.plan.columns}
    many = len(filled.plan.columns) > 1 and all(" " in column.label for column in filled.plan.columns)
    return f", {first.pop()}" if many and len(first) == 1 else ""


def _bars(filled: Filled, axes: Any) -> None:
    """Draw one group of bars per column, one bar per row with its interval; a missing number is a missing bar."""
    plan, rows = filled.plan, filled.plan.table.rows
    width = 0.8 / len(rows)
    for number, row in enumerate(rows):
        colour, hatch = fill_style(number)
        places, heights, below, above = [], [], [], []
        for group, column in enumerate(plan.columns):
            value = filled.of(plan.at(row, column))
            place = group + (number - (len(rows) - 1) / 2) * width
            if value.score is None:
                axes.text(place, 2, value.state, rotation=90, ha="center", va="bottom", fontsize=7)
                continue
            found = value.score
            places.append(place)
            heights.append(100 * found.estimate)
            below.append(100 * (found.estimate - found.low))
            above.append(100 * (found.high - found.estimate))
        axes.bar(
            places, heights, 0.9 * width, yerr=[below, above] if places else None, capsize=2, label=row.label,
            color=colour, hatch=hatch, edgecolor="black", linewidth=0.6, error_kw={"elinewidth": 0.8},
        )  # fmt: skip
    labels = _labels_of(filled)
    turned = len(labels) > _FEW
    axes.set_xticks(range(len(labels)), labels if turned else [label.replace(" ", "\n", 1) for label in labels])
    if turned:
        axes.tick_params(axis="x", rotation=60, labelsize=8)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes.set_ylim(0, 105)
    axes.set_ylabel("accuracy in percent, 95 % interval")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _outcome_bars(filled: Filled, axes: Any) -> None:
    """Draw one bar per row: how the reference fares against it over the columns."""
    told = outcomes(filled)
    left = [0] * len(told)
    for kind, (colour, hatch) in _OUTCOMES.items():
        lengths = [counts[kind] for _, counts in told]
        bars = axes.barh(
            range(len(told)), lengths, 0.7, left=left, label=_LABELS[kind], color=colour, hatch=hatch,
            edgecolor="black", linewidth=0.6,
        )  # fmt: skip
        axes.bar_label(bars, [str(n) if n else "" for n in lengths], label_type="center", fontsize=8,
                       bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8})  # fmt: skip
        left = [a + b for a, b in zip(left, lengths, strict=True)]
    axes.set_yticks(range(len(told)), [f"against {label}" for label, _ in told])
    axes.invert_yaxis()
    most = max([*left, 1])
    axes.set_xlim(0, most)
    axes.set_xticks(range(0, most + 1, max(1, most // 7)))
    axes.set_xlabel(f"tasks, as {filled.plan.table.against} does on them")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

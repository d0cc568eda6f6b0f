"""Time and memory of a step against rows, reasoning, prompt, candidates and replicas: predicted and measured.

Two pictures of five panels. In each one number changes, and the others are those of ``benchmarks.predicted.BASE``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from greater_ray.decoder_shape import Shape
from greater_ray.drawing import BLUE, ORANGE
from greater_ray.prediction import Hardware, Load, predict

# The field of a load, what its axis is called, and up to where it goes.
PANELS = (
    ("rows", "training rows N", range(2, 49)),
    ("reasoning", "reasoning tokens r", range(4, 129, 2)),
    ("prompt", "prompt tokens p", range(2, 81)),
    ("candidates", "candidates µ", range(1, 17)),
)
REPLICAS, REPLICA_ROWS, SHARD = tuple(range(1, 13)), 200, 25
_MODEL, _POINT, _BAR = BLUE, ORANGE, "0.88"
_STYLE = {"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "greater-ray", "axes.spines.top": False,
          "axes.spines.right": False}  # fmt: skip


def draw(hardware: Hardware, found: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw both pictures from what ``benchmarks.predicted`` measured; the first shape is what the others start from."""
    folder.mkdir(parents=True, exist_ok=True)
    shape, base = Shape(**found[0]["shape"]), Load(**found[0]["load"])

    def seconds(load: Load, replicas: int = 1) -> float:
        return predict(shape, hardware, load, replicas).step

    def gibibytes(load: Load, replicas: int = 1) -> float:
        return replicas * predict(shape, hardware, load, replicas).memory.peak / 2**30

    def took(each: dict[str, Any]) -> float:
        return float(each["measured"]["gradient"] + each["measured"]["candidates"])

    def held(each: dict[str, Any]) -> float:
        return float(each["memory"]) / 2**30

    pictures = (
        ("predicted_time.svg", "processor seconds a step", 0.25, seconds, took),
        ("predicted_memory.svg", "peak memory, GiB", 0.15, gibibytes, held),
    )
    return [
        _picture(folder / name, label, bar, base, found, said, measured)
        for name, label, bar, said, measured in pictures
    ]


def _picture(
    path: Path,
    label: str,
    bar: float,
    base: Load,
    found: Sequence[dict[str, Any]],
    said: Callable[..., float],
    measured: Callable[[dict[str, Any]], float],
) -> Path:
    with rc_context(_STYLE):
        figure = Figure(figsize=(11, 2.7), layout="constrained")
        axes: list[Axes] = list(figure.subplots(1, len(PANELS) + 1))
        for panel, (name, title, values) in zip(axes, PANELS, strict=False):
            _curve(panel, values, [said(replace(base, **{name: value})) for value in values], bar)
            points = [each for each in found if _differs_only_in(name, Load(**each["load"]), base)]
            panel.plot(
                [each["load"][name] for each in points], [measured(each) for each in points], "o", color=_POINT,
                markersize=4.5, label="measured",
            )  # fmt: skip
            panel.set_xlabel(title)
        for panel in axes[1:-1]:
            panel.sharey(axes[0])
            panel.tick_params(labelleft=False)
        many = replace(base, rows=REPLICA_ROWS, shard_size=SHARD)
        _curve(axes[-1], REPLICAS, [said(many, replicas) for replicas in REPLICAS], bar, marker=".")
        axes[-1].set_xlabel(f"replicas (N = {REPLICA_ROWS})")
        for panel in axes:
            panel.set_ylim(bottom=0)
            panel.set_xlim(left=0)
            panel.grid(axis="y", color="0.93", linewidth=0.8)
            panel.set_axisbelow(True)
        axes[0].set_ylabel(label)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=len(names), frameon=False)
        others = f"where not varied: N = {base.rows}, r = {base.reasoning}, p = {base.prompt}, µ = {base.candidates}"
        figure.suptitle(others, x=0.99, ha="right", fontsize=9, color="0.35")
        figure.savefig(path, metadata={"Date": None})
    return path


def _curve(panel: Axes, values: Sequence[int], said: Sequence[float], bar: float, marker: str = "") -> None:
    # What may be measured where a prediction is to be within the bar of it.
    low, high = ([value / (1 + way * bar) for value in said] for way in (1, -1))
    panel.fill_between(values, low, high, color=_BAR, linewidth=0, label=f"within {bar:.0%}")
    panel.plot(values, said, color=_MODEL, linewidth=1.6, marker=marker, label="predicted")


def _differs_only_in(name: str, load: Load, base: Load) -> bool:
    """Tell whether a load is the base in all but one number; how long its questions happen to be is left aside."""
    alike = {name: getattr(base, name), "question": base.question, "test_rows": base.test_rows, "label": base.label}
    return replace(load, **alike) == base

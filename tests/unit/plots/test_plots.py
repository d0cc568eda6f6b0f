"""What is drawn is what frames and report hold: numbers are read back from the figures."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_cells import make_cells
from greater_ray import load, plots
from greater_ray.drawing import has_matplotlib
from greater_ray.errors import ConfigError
from greater_ray.report import collect
from greater_ray.results import Results
from tests.made_reports import RECORDED, altered, hostile_run

needs_matplotlib = pytest.mark.skipif(not has_matplotlib(), reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def grid() -> Results:
    return load(RECORDED / "grid-finished")


@pytest.fixture(scope="module")
def single() -> Results:
    return load(RECORDED / "greater-finished")


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def marks(axes: Any) -> list[tuple[float, float]]:
    """Return the places of lines that are a single mark."""
    lines = [
        (line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_marker() not in ("None", "|", 2, 3)
    ]
    return [(float(x[0]), float(y[0])) for x, y in lines if len(x) == 1]


@needs_matplotlib
def test_accuracy_has_a_mark_and_an_interval_for_every_cell(grid: Results):
    frame = grid.cell_frame()
    own = frame[frame["source"].isna()]
    figure = plots.accuracy(grid)
    (axes,) = figure.axes
    assert sorted(x for x, _ in marks(axes)) == pytest.approx(sorted(own["after"]))
    ends = sorted(x for bars in axes.containers for x in bars.lines[2][0].get_segments()[0][:, 0])
    assert ends == pytest.approx(sorted([*own["after_low"], *own["after_high"]]))
    assert {label.get_text() for label in axes.get_yticklabels()} == set(own["method"])
    assert "test rows" in texts(figure)
    one = plots.accuracy(own[own["method"] == "greater"])
    assert len(marks(one.axes[0])) == sum(own["method"] == "greater")


@needs_matplotlib
def test_rows_that_the_prompt_was_selected_on_are_called_so(single: Results):
    assert "the prompt was selected on these rows" in texts(plots.accuracy(single, "dev"))
    assert "the prompt was selected on these rows" not in texts(plots.accuracy(single))


@needs_matplotlib
def test_many_seeds_become_their_mean_and_range(tmp_path: Path):
    make_cells(tmp_path / "many", 20)
    results = load(tmp_path / "many")
    frame = results.cell_frame()
    own = frame[frame["source"].isna() & (frame["split"] == "test")]
    (mark,) = marks(plots.accuracy(results).axes[0])
    assert len(own) == 10
    assert mark[0] == pytest.approx(own["after"].mean())


@needs_matplotlib
def test_costs_are_means_per_method_and_the_front_leaves_out_what_is_beaten(grid: Results):
    frame = grid.cell_frame()
    own = frame[frame["source"].isna()].assign(tokens=frame["search_tokens"] + frame["writer_tokens"])
    means = own.groupby("method")[["tokens", "after"]].mean()
    figure = plots.costs(grid)
    found = marks(figure.axes[0])
    for method, (tokens, after) in means.iterrows():
        assert any(y == pytest.approx(after) and (x == pytest.approx(tokens) or tokens == 0) for x, y in found), method
    assert "zero-shot-cot" in texts(figure)
    beaten = own.assign(after=own["after"].where(own["method"] != "greater", 0.1))
    rings = [place for place in marks(plots.costs(beaten).axes[0]) if place[1] == pytest.approx(0.1)]
    assert len(rings) == 1, "a mark without a ring"


@needs_matplotlib
def test_transfer_shows_the_change_on_the_own_model_and_on_others(grid: Results):
    frame = grid.cell_frame()
    moved = frame[frame["source"].notna() & (frame["method"] == "greater")]
    figure = plots.transfer(grid)
    number = f"{100 * moved['change'].fillna(0).mean():+.1f}".replace("-", "\u2212")
    (image,) = figure.axes[0].images
    assert image.get_array().shape == (2, 2)
    assert float(image.get_array()[0][1]) == pytest.approx(100 * moved["change"].fillna(0).mean())
    assert number in texts(figure)
    with pytest.raises(ConfigError, match=r"trial \w+, whose prompt was transferred, is missing on 'test'") as raised:
        plots.transfer(frame[frame["source"].notna()])
    assert (raised.value.setting, raised.value.value) == ("cells", list(dict.fromkeys(frame["source"].dropna())))


@needs_matplotlib
def test_curves_hold_the_points_of_the_report(single: Results):
    points = collect(single).overview["cells"][0]["curve"]
    loss, accuracy = plots.curves(single).axes
    for axes, column in ((loss, 2), (accuracy, 3)):
        (line,) = axes.lines
        there = [p for p in points if p[column] is not None]
        assert [*line.get_xdata()] == [p[0] for p in there]
        assert [*line.get_ydata()] == pytest.approx([p[column] for p in there])
    (axes,) = plots.curves(single, "criterion").axes
    assert [*axes.lines[0].get_ydata()] == pytest.approx([p[1] for p in points])
    with pytest.raises(ConfigError, match="measure: 'los' is none of loss, accuracy, criterion"):
        plots.curves(single, "los")


@needs_matplotlib
def test_more_curves_than_can_be_told_apart_become_means(tmp_path: Path):
    make_cells(tmp_path / "many", 60)
    figure = plots.curves(load(tmp_path / "many"), "criterion")
    assert len(figure.axes[0].lines) == 1
    assert "means over cells" in texts(figure)


@needs_matplotlib
def test_steps_show_the_criterion_by_step(single: Results):
    frame = single.step_frame()
    record = single.cells[0].record
    figure = plots.steps(single)
    line = figure.axes[0].lines[0]
    assert [*line.get_xdata()] == [0, *frame["step"]]
    assert [*line.get_ydata()] == pytest.approx([record.initial.loss, *frame["loss"]])
    assert record.best.full_text.strip()[:40] in texts(figure)
    with pytest.raises(ConfigError, match="one cell, and there are 7"):
        plots.steps(load(RECORDED / "grid-finished"))
    begun = plots.steps(load(RECORDED / "greater-interrupted"))
    assert begun.axes[0].lines[0].get_xdata()[0] == 1, "the start's criterion stands in the record"


@needs_matplotlib
def test_ranks_are_those_of_the_report(single: Results):
    (figures,) = collect(single).overview["method"]
    (axes,) = plots.ranks(single).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(figures["histogram"])
    with pytest.raises(ConfigError, match=r"no step of opro has .* both a gradient and a criterion") as raised:
        plots.ranks(load(RECORDED / "opro-finished"))
    assert (raised.value.setting, raised.value.value) == ("cells", ["opro"])


@needs_matplotlib
def test_texts_of_models_are_drawn_letter_by_letter(tmp_path: Path):
    results = load(hostile_run(tmp_path / "run"))
    shown = texts(plots.steps(results)).replace("\n", " ")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "<script>" in shown

    def formula(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        record["best"]["full_text"] = r"pay $\frac{1}{$ or $x$"

    figure = plots.steps(load(altered(tmp_path / "formula", formula)))
    data, size = figure._repr_png_()
    assert data.startswith(b"\x89PNG"), "broken formulas are no formulas"
    assert size["width"] > 600


def test_the_page_on_results_names_every_picture():
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)\(", page, re.MULTILINE)) == sorted(plots.__all__)


@pytest.mark.parametrize("name", plots.__all__)
def test_without_matplotlib_the_extra_is_named(
    name: str, grid: Results, single: Results, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'greater-ray\[plots\]'"):
        getattr(plots, name)(grid if name == "transfer" else single)

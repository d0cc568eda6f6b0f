"""How a search went: a prompt's criterion by step, and whether the gradient's order foretold the re-evaluated one."""

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from greater_ray.drawing import BLUE, GREEN, RED, drawn_text
from greater_ray.errors import ConfigError
from greater_ray.plots._figure import heading, name, new_figure, tidy, whole_numbers
from greater_ray.plots._given import cells_of, counted, read
from greater_ray.records import StepRecord, TrialRecord
from greater_ray.report.gradient import MethodPage
from greater_ray.results import CellResult, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 105  # letters of a line below the axes
_PROMPT = 300  # letters of a prompt


def steps(cell: "CellResult | Results") -> "Figure":
    """Draw one prompt's criterion by step: which steps changed it, and the lowest value so far.

    Args:
        cell: one cell, ``results.one({"method": ["greater"], "seed": ["0"]})``, finished or not; or the results of a
            single run.

    Raises:
        ConfigError: there is more than one cell, none has taken a step, or matplotlib is missing.
        StoreError: its record or steps cannot be read.
    """
    cells = cells_of(cell)
    if len(cells) != 1:
        why = f"steps are drawn for one cell, and there are {len(cells)}; choose one."
        raise ConfigError(why, setting="cell", value=len(cells), allowed=[one.title for one in cells])
    taken, record = read(cells[0])
    scored = [step for step in taken if step.loss is not None]
    if not scored:
        title = cells[0].title
        raise ConfigError(f"{title} has taken no step that was scored.", setting="cell", value=title)
    figure = new_figure(7.2, 4.0)
    axes = figure.subplots()
    begin = [(0, record.initial.loss)] if record is not None and record.initial.loss is not None else []
    axes.plot(*zip(*begin, *((s.step, s.loss) for s in scored), strict=True), color=BLUE, linewidth=1.4, zorder=1)
    best = [(step.step, step.best_loss) for step in taken if step.best_loss is not None]
    if len(best) > 1:
        axes.step(*zip(*best, strict=True), where="post", color=GREEN, linestyle=(0, (4, 2)), label="lowest so far")
    _marks(axes, begin, scored, record)
    tidy(axes, x="step", y="criterion, lower is better")
    whole_numbers(axes.xaxis)
    axes.legend(fontsize=9, frameon=False)
    heading(figure, drawn_text(cells[0].title))
    if record is not None:
        figure.supxlabel(_prompts(record), fontsize=9, x=0.01, ha="left")
    return figure


def _marks(axes: Any, begin: list[tuple[int, float]], scored: Sequence[StepRecord], record: TrialRecord | None) -> None:
    """Draw a mark for every step: filled where it has changed the prompt, red where the criterion got worse."""
    before, loss = (record.initial.ids, record.initial.loss) if record else (None, None)
    kinds: dict[str, list[tuple[int, float]]] = {"prompt changed": [], "changed, and worse": [], "prompt unchanged": []}
    for step in scored:
        if step.loss is None:
            continue
        worse = loss is not None and step.loss > loss
        kind = "prompt unchanged" if step.prompt_ids == before else "changed, and worse" if worse else "prompt changed"
        kinds[kind].append((step.step, step.loss))
        before, loss = step.prompt_ids, step.loss
    looks = {"prompt changed": (BLUE, BLUE), "changed, and worse": (RED, RED), "prompt unchanged": ("white", BLUE)}
    for kind, points in kinds.items():
        if points:
            fill, edge = looks[kind]
            axes.scatter(*zip(*points, strict=True), s=38, facecolor=fill, edgecolor=edge, label=kind, zorder=2)
    if begin:
        axes.scatter(*zip(*begin, strict=True), s=44, marker="s", facecolor="#777777", label="start prompt", zorder=2)


def _prompts(record: TrialRecord) -> str:
    told = [f"start: {record.initial.full_text.strip()}", f"found: {record.best.full_text.strip()}"]
    return "\n".join(line for text in told for line in wrap(drawn_text(text, _PROMPT), _WIDTH))


def ranks(cells: "Results | Sequence[CellResult]") -> "Figure":
    """Draw for every method with gradients how often the best candidate was the gradient's first, second, third ...

    A bar counts steps; of candidates that are equally good each has a share. A stroke is what chance would give. The
    rank correlation is Spearman's, mean over cells, with a 95 % interval over cells where there are at least five.

    Args:
        cells: results, or some of their cells.

    Raises:
        ConfigError: no step has two candidates with a gradient and a criterion, or matplotlib is missing.
        StoreError: a record or a file of steps cannot be read.
    """
    page, own = MethodPage(), [cell for cell in cells_of(cells) if cell.source is None]
    for cell in own:
        page.add(cell.labels["method"], cell.trial_id, *read(cell))
    found = [figures for figures in page.to_json() if figures["ranked"] > 0]
    if not found:
        methods = list(dict.fromkeys(cell.labels["method"] for cell in own))
        why = (
            f"no step of {', '.join(methods) or 'no method'} has two candidates with both a gradient and a criterion; "
            "choose cells of a method that goes by gradients, for instance greater."
        )
        raise ConfigError(why, setting="cells", value=methods)
    figure = new_figure(1.0 + 4.4 * len(found), 3.6)
    for axes, figures in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        places = range(1, len(figures["histogram"]) + 1)
        axes.bar(places, figures["histogram"], 0.76, color=BLUE)
        axes.hlines(
            figures["expected"],
            [p - 0.45 for p in places],
            [p + 0.45 for p in places],
            color=RED,
            linewidth=2,
        )
        axes.set_xticks(places[:: -(-len(places) // 16)])
        title = f"{name(figures['method'])}: {_told(figures)}"
        tidy(axes, title, "rank by gradient of the best candidate", "steps", "y")
    heading(figure, "Is the best candidate the gradient's first? Strokes: by chance")
    return figure


def _told(figures: dict[str, Any]) -> str:
    first = f"first in {100 * figures['first'] / figures['ranked']:.0f} % of {counted(figures['ranked'], 'step')}"
    if figures["correlation"] is None:
        return first
    low_high = f" [{figures['interval'][0]:.2f}, {figures['interval'][1]:.2f}]" if figures["interval"] else ""
    return f"{first}\nrank correlation {figures['correlation']:.2f}{low_high}"

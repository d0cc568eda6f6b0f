"""What came of a grid, in tables and as JSON: every score beside its cost, and what is missing by name."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.cli._display import as_json
from greater_ray.cli._options import Given
from greater_ray.errors import StoreError
from greater_ray.grid.config import AXES
from greater_ray.grid.run import GridResult
from greater_ray.grid.status import read_status
from greater_ray.grid.store import GridStore
from greater_ray.progress.grid import cell_line, cells_line, left_line, pool_line
from greater_ray.progress.screen import clock, console
from greater_ray.results import CellResult, SplitScore, load, of_grid
from greater_ray.results.cells import cell_json
from greater_ray.shown import percent

if TYPE_CHECKING:
    from rich.console import Console

_Row = tuple[CellResult, tuple[str, ...]]

_ACCURACY = "accuracy with 95 % intervals; loss of the right answer, * beyond noise"
_COSTS = "tokens of search, writer and final evaluation; time of own calls"
_SELECTION = "; the prompt was selected on rows marked (selection)"
_SCORE_COLUMNS = ("split", "before", "after", "change", "p", "loss")
_COST_COLUMNS = ("search", "writer", "eval", "time")
_LEFT = (*AXES, "split")  # columns of words; figures stand on the right
_GAP = "  "


def show_result(result: GridResult, out: Path, given: Given) -> bool:
    """Print what came of a grid, as tables or as JSON, and tell whether all of it is there and can be read."""
    cells = of_grid(GridStore(out), [*result.cells, *result.transfers])
    complete = result.complete and all(cell.problem is None for cell in cells)
    if given.json:
        value = {
            "complete": complete,
            "cells": [cell_json(cell) for cell in cells[: len(result.cells)]],
            "transfers": [cell_json(cell) for cell in cells[len(result.cells) :]],
            "missing": [m._asdict() for m in result.missing],
        }
        sys.stdout.write(as_json(value) + "\n")
        return complete
    screen = console(sys.stdout, given.no_color)
    _print_cells(screen, cells)
    for cell in cells:
        if cell.state in ("begun", "open"):
            screen.print(f"not finished: {cell.title}", style="bold yellow", soft_wrap=True)
    for missing in result.missing:
        screen.print(f"missing source: {missing.source}: {missing.reason}", style="bold red", soft_wrap=True)
    if any(cell.state == "failed" for cell in cells):
        screen.print("failed cells run again with --retry-failed", soft_wrap=True)
    return complete


def _print_cells(screen: "Console", cells: Sequence[CellResult]) -> None:
    """Print the results of each phase, then what has failed."""
    for phase, own in _by_phase(cells).items():
        problems = {cell.trial_id: cell.problem for cell in own}
        shown = [cell for cell in own if cell.done and problems[cell.trial_id] is None]
        if shown:
            _print_tables(screen, phase, shown)
        _print_failed(screen, own, problems)


def _print_failed(screen: "Console", cells: Sequence[CellResult], problems: Mapping[str, str | None]) -> None:
    for cell in cells:
        if problems[cell.trial_id] is not None:
            screen.print(f"failed: {cell.title}: {problems[cell.trial_id]}", style="bold red", soft_wrap=True)


def _by_phase(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """Return the cells of the phases that have any."""
    phases = {
        "optimize": [cell for cell in cells if cell.source is None],
        "transfer": [cell for cell in cells if cell.source is not None],
    }
    return {phase: own for phase, own in phases.items() if own}


def _print_tables(screen: "Console", phase: str, cells: Sequence[CellResult]) -> None:
    """Print scores and costs of cells in one table, or in two where the terminal is too narrow for it."""
    marked = _SELECTION if any(score.selection for cell in cells for score in cell.scores) else ""
    scores = [(cell, _score_row(score)) for cell in cells for score in cell.scores]
    costs = [(cell, _cost_row(cell)) for cell in cells]
    both = [(cell, (*_score_row(score), *cost)) for cell, cost in costs for score in cell.scores]
    table = _labelled((*_SCORE_COLUMNS, *_COST_COLUMNS), both)
    # Nobody has a window off a terminal: a row is a line there.
    if not screen.is_terminal or _width(table[0]) <= screen.width:
        parts = [(f"{phase}: {_ACCURACY}; {_COSTS}{marked}", table)]
    else:
        parts = [
            (f"{phase}: {_ACCURACY}{marked}", _fitting(screen.width, _SCORE_COLUMNS, scores)),
            (f"{phase}: {_COSTS}", _fitting(screen.width, _COST_COLUMNS, costs)),
        ]
    for heading, (columns, *rows) in parts:
        screen.print(f"\n{heading}", style="bold", soft_wrap=True)
        screen.print(columns, style="bold", soft_wrap=True)
        screen.print("\n".join(rows), soft_wrap=True)


def _fitting(width: int, columns: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    """Return the lines of a table; where it would be too wide, labels have lines of their own above their figures."""
    table = _labelled(columns, rows)
    if _width(table[0]) <= width:
        return table
    heading, *figures = _aligned(columns, [values for _, values in rows])
    lines, above = [f"{_GAP}{heading}"], None
    for (cell, _), line in zip(rows, figures, strict=True):
        lines += [*([cell.title] if cell is not above else []), f"{_GAP}{line}"]
        above = cell
    return lines


def _labelled(columns: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    """Return the lines of a table with the labels of each row's cell in front, the names of its columns first."""
    return _aligned((*AXES, *columns), [(*(cell.labels[axis] for axis in AXES), *values) for cell, values in rows])


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the names of its columns first; all have one width."""
    widths = [max(map(_width, values)) for values in zip(columns, *rows, strict=True)]
    left = [column in _LEFT for column in columns]
    return [_GAP.join(map(_padded, values, widths, left)) for values in (columns, *rows)]


def _padded(text: str, width: int, left: bool) -> str:
    blanks = " " * (width - _width(text))
    return text + blanks if left else blanks + text


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def _score_row(score: SplitScore) -> tuple[str, ...]:
    low, high = score.interval
    return (
        score.split + (" (selection)" if score.selection else ""),
        percent(score.before) if score.change is not None else "-",
        f"{percent(score.after)} [{100 * low:.0f}, {100 * high:.0f}]",
        f"{100 * score.change:+.1f}" if score.change is not None else "-",
        f"{score.p_value:.2g}" if score.p_value is not None else "-",
        _loss(score),
    )


def _cost_row(cell: CellResult) -> tuple[str, ...]:
    costs = cell.costs.values()
    return (*(f"{usage.tokens:,}" for usage in costs), clock(sum(usage.seconds for usage in costs)))


def _loss(score: SplitScore) -> str:
    """Write the loss of the right answer, before and after; ``*`` where the change is more than noise."""
    if score.loss_after is None:
        return "-"
    if score.loss_interval is None:
        return f"{score.loss_after:.2f}"
    low, high = score.loss_interval
    return f"{score.loss_before:.2f} to {score.loss_after:.2f}{'' if low <= 0 <= high else '*'}"


def status_of(folder: Path) -> dict[str, Any]:
    """Return the cells of a grid's folder, with their states, and the figures of a grid that runs now.

    Where none runs, finished cells have their scores and costs too, as ``cell_json`` has them: what ``print_status``
    shows in tables.

    Raises:
        StoreError: there is no grid.
    """
    noted = {(entry["trial_id"], entry["source"]): entry for entry in GridStore(folder).read_grid()["cells"]}
    results, running = load(folder), _running(folder)
    cells = []
    for cell in results.cells:
        own = {"state": cell.state, "reason": cell.reason} if running else {"reason": None, **cell_json(cell)}
        known = noted.get((cell.trial_id, cell.source), {})
        cells.append({**known, **cell.labels, "trial_id": cell.trial_id, "source": cell.source, **own})
    return {"name": results.name, "cells": cells, "running": running}


def _running(folder: Path) -> dict[str, Any] | None:
    """Return the figures of a grid that runs now; where they cannot be read, that is said on standard error."""
    try:
        return read_status(folder)
    except StoreError as error:
        sys.stderr.write(f"WARNING: {error} A grid that runs writes it anew; where none does, move it away.\n")
        return None


def print_status(folder: Path, given: Given) -> None:
    """Print the status: how far a grid is that runs now, or what came of one that does not.

    Numbers of cells by state and what has failed come with both; records are read for results only.

    Raises:
        StoreError: there is no grid.
    """
    GridStore(folder).read_grid()
    results, running = load(folder), _running(folder)
    screen = console(sys.stdout, given.no_color)
    screen.print(f"{results.name}: " + ("running now" if running else "not running"), style="bold", soft_wrap=True)
    if running:
        screen.print(f"{running['phase']}: {cells_line(running)}; {left_line(running)}", soft_wrap=True)
        for pool in running["pools"]:
            screen.print(pool_line(pool), soft_wrap=True)
        for cell in running["running"]:
            screen.print(cell_line(cell), soft_wrap=True)
    for phase, own in _by_phase(results.cells).items():
        states = [cell.state for cell in own]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "begun", "open", "failed") if s in states)
        screen.print(f"{phase}: {len(own)} cells: {counts}", soft_wrap=True)
    if running:
        _print_failed(screen, results.cells, {cell.trial_id: cell.reason for cell in results.cells})
    else:
        _print_cells(screen, results.cells)

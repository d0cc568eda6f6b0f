"""What came of a grid, in tables and as JSON: every score beside its cost, and what is missing by name."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.cli._display import clock, console
from greater_ray.cli._grid_display import cell_line, cells_line, left_line, pool_line
from greater_ray.cli._options import Given
from greater_ray.cli._summary import percent
from greater_ray.grid.run import GridResult
from greater_ray.grid.status import read_status
from greater_ray.grid.store import GridStore
from greater_ray.results import CellResult, SplitScore, load, of_grid
from greater_ray.results.cells import cell_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 200
_SELECTION = "; rows marked (selection) are those by which the prompt was chosen"
_FIGURES = ("before", "after", "change", "p", "loss", "search", "writer", "eval", "time")
_COLUMNS = ("method", "task", "model", "seed", "split", *_FIGURES)


def result_json(result: GridResult, out: Path) -> dict[str, Any]:
    """Return every cell with its scores, and what is missing."""
    store = GridStore(out)
    return {
        "complete": result.complete,
        "cells": [cell_json(cell) for cell in of_grid(store, result.cells)],
        "transfers": [cell_json(cell) for cell in of_grid(store, result.transfers)],
        "missing": [m._asdict() for m in result.missing],
    }


def print_result(result: GridResult, out: Path, given: Given) -> None:
    """Print one table per phase, failures with their reasons, and what is missing."""
    store = GridStore(out)
    screen = _screen(given)
    cells = of_grid(store, [*result.cells, *result.transfers])
    _print_cells(screen, cells)
    for cell in cells:
        if cell.state in ("begun", "open"):
            screen.print(f"not finished: {cell.title}", style="bold yellow", soft_wrap=True)
    for missing in result.missing:
        screen.print(f"missing source: {missing.source}: {missing.reason}", style="bold red", soft_wrap=True)
    if any(cell.state == "failed" for cell in cells):
        screen.print("failed cells run again with --retry-failed", soft_wrap=True)


def _screen(given: Given) -> "Console":
    screen = console(sys.stdout, given.no_color)
    if not screen.is_terminal:
        # Nobody has a window there, so no column needs to be folded.
        screen.width = _WIDE
    return screen


def _print_cells(screen: "Console", cells: Sequence[CellResult]) -> None:
    """Print the results of each phase, then what has failed."""
    for phase, own in _by_phase(cells).items():
        shown = [cell for cell in own if cell.done and cell.problem is None]
        if shown:
            marked = any(score.selection for cell in shown for score in cell.scores)
            screen.print(
                f"\n{phase}: accuracy with 95 % intervals; loss of the right answer, * beyond noise; tokens of search, "
                f"writer and final evaluation; time of own calls{_SELECTION if marked else ''}",
                style="bold",
                soft_wrap=True,
            )
            screen.print(_table(shown))
        for cell in own:
            if cell.problem is not None:
                screen.print(f"failed: {cell.title}: {cell.problem}", style="bold red", soft_wrap=True)


def _by_phase(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """Return the cells of the phases that have any."""
    phases = {
        "optimize": [cell for cell in cells if cell.source is None],
        "transfer": [cell for cell in cells if cell.source is not None],
    }
    return {phase: own for phase, own in phases.items() if own}


def _table(cells: Sequence[CellResult]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _FIGURES else "left", overflow="fold")
    for cell in cells:
        costs = cell.costs.values()
        for score in cell.scores:
            low, high = score.interval
            changed = score.change is not None
            table.add_row(
                *cell.labels.values(),
                score.split + (" (selection)" if score.selection else ""),
                percent(score.before) if changed else "-",
                f"{percent(score.after)} [{100 * low:.0f}, {100 * high:.0f}]",
                f"{100 * score.change:+.1f}" if score.change is not None else "-",
                f"{score.p_value:.2g}" if score.p_value is not None else "-",
                _loss(score),
                *(f"{usage.tokens:,}" for usage in costs),
                clock(sum(usage.seconds for usage in costs)),
            )
    return table


def _loss(score: SplitScore) -> str:
    """Write the loss of the right answer, before and after; ``*`` where the change is more than noise."""
    if score.loss_interval is None:
        return f"{score.loss_after:.2f}"
    low, high = score.loss_interval
    return f"{score.loss_before:.2f} to {score.loss_after:.2f}{'' if low <= 0 <= high else '*'}"


def status_of(folder: Path) -> dict[str, Any]:
    """Return the cells of a grid's folder with their states, and the figures of a grid that runs now.

    Raises:
        StoreError: there is no grid.
    """
    store = GridStore(folder)
    noted = store.read_grid()
    cells = []
    for entry in noted["cells"]:
        state = store.state(entry["trial_id"])
        cells.append({**entry, "state": state.state, "reason": state.reason})
    return {"name": noted["name"], "cells": cells, "running": read_status(folder)}


def print_status(folder: Path, given: Given) -> None:
    """Print the status: figures if the grid runs, its results if it does not, and numbers of cells by state.

    Raises:
        StoreError: there is no grid.
    """
    GridStore(folder).read_grid()
    results, running = load(folder), read_status(folder)
    screen = _screen(given)
    screen.print(f"{results.name}: " + ("running now" if running else "not running"), style="bold")
    if running:
        screen.print(f"{running['phase']}: {cells_line(running)}; {left_line(running)}", soft_wrap=True)
        for pool in running["pools"]:
            screen.print(pool_line(pool), soft_wrap=True)
        for cell in running["running"]:
            screen.print(cell_line(cell), soft_wrap=True)
    for phase, own in _by_phase(results.cells).items():
        states = [cell.state for cell in own]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "begun", "open", "failed") if s in states)
        screen.print(f"{phase}: {len(own)} cells: {counts}")
    _print_cells(screen, results.cells)

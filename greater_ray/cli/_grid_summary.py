"""What came of a grid, in tables and as JSON: every score beside its cost, and what is missing by name."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.cli._display import clock, console
from greater_ray.cli._grid_display import cell_line, cells_line, left_line, pool_line
from greater_ray.cli._options import Given
from greater_ray.cli._summary import percent
from greater_ray.grid.cells import Cell
from greater_ray.grid.figures import read_status
from greater_ray.grid.run import GridResult
from greater_ray.grid.store import CellState, GridStore
from greater_ray.records import TrialRecord

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 200
_CHOSE = "; rows marked (chose) chose the prompt"
_FIGURES = ("before", "after", "change", "p", "loss", "search", "writer", "eval", "time")
_COLUMNS = ("method", "task", "model", "seed", "split", *_FIGURES)


def result_json(result: GridResult, out: Path) -> dict[str, Any]:
    """Return every cell with its scores, and what is missing."""
    store = GridStore(out)
    return {
        "complete": result.complete,
        "cells": [_entry(store, cell, state) for cell, state in result.cells],
        "transfers": [_entry(store, cell, state) for cell, state in result.transfers],
        "missing": [m._asdict() for m in result.missing],
    }


def _entry(store: GridStore, cell: Cell, state: CellState) -> dict[str, Any]:
    entry: dict[str, Any] = {**cell.labels, "trial_id": cell.trial_id, "source": cell.source, "state": state.state}
    if state.state == "failed":
        entry["reason"] = state.reason
    if state.state == "done" and state.folder is not None:
        record = store.record(state.folder)
        chosen_by = {*record.chosen_by, *_source_chosen_by(store, cell)}
        entry |= {"folder": str(state.folder), "prompt": record.best.full_text, "scores": _scores(record, chosen_by)}
        cost = _cost(record)
        entry |= {name: sum(part[name] for part in cost.values()) for name in ("tokens", "seconds")}
        entry |= {"cost": cost, "proposals": record.proposals, "no_improvement": record.no_improvement}
    return entry


def _source_chosen_by(store: GridStore, cell: Cell) -> tuple[str, ...]:
    """Return the splits that chose the prompt which a cell of phase two measures."""
    state = store.state(cell.source) if cell.source else CellState("open")
    return store.record(state.folder).chosen_by if state.state == "done" and state.folder is not None else ()


def _cost(record: TrialRecord) -> dict[str, dict[str, Any]]:
    """Return the ledgers of a cell apart: the task model's search, the model that writes, the final evaluation."""
    return {
        "search": record.optimization_usage.to_json(),
        "writer": record.optimizer_usage.to_json(),
        "evaluation": record.evaluation_usage.to_json(),
    }


def _scores(record: TrialRecord, chosen_by: Collection[str]) -> list[dict[str, Any]]:
    """Accuracy before and after on every split, with the paired comparison where the prompt has changed.

    ``chosen_by`` are the splits whose scores chose the prompt, here or under the source's model.
    """
    scores = []
    for split in record.config.evaluation.splits:
        before, after = record.evaluation(split, record.initial), record.evaluation(split, record.best)
        if before is None or after is None:
            continue
        change = next((c for c in record.comparisons if c.split == split), None)
        scores.append(
            {
                "split": split,
                # Such rows tell nothing about new ones.
                "chose": split in chosen_by,
                "rows": after.num_examples,
                "before": before.accuracy,
                "after": after.accuracy,
                "interval": after.accuracy_interval,
                "change": change.difference if change else None,
                "change_interval": change.interval if change else None,
                "p_value": change.p_value if change else None,
                "loss_before": before.label_ce,
                "loss_after": after.label_ce,
                "loss_interval": change.label_ce_interval if change else None,
            }
        )
    return scores


def print_result(result: GridResult, out: Path, given: Given) -> None:
    """Print one table per phase, failures with their reasons, and what is missing."""
    screen = console(sys.stdout, given.no_color)
    if not screen.is_terminal:
        # Nobody has a window there, so no column needs to be folded.
        screen.width = _WIDE
    value = result_json(result, out)
    for title, entries in (("optimize", value["cells"]), ("transfer", value["transfers"])):
        if not entries:
            continue
        marked = any(score["chose"] for entry in entries for score in entry.get("scores", ()))
        screen.print(
            f"\n{title}: accuracy with 95 % intervals; loss of the right answer, * beyond noise; tokens of search, "
            f"writer and final evaluation; time of own calls{_CHOSE if marked else ''}",
            style="bold",
        )
        screen.print(_table(entries))
        for entry in entries:
            if entry["state"] == "failed":
                screen.print(f"failed: {_title(entry)}: {entry['reason']}", style="bold red", soft_wrap=True)
            elif entry["state"] != "done":
                screen.print(f"not finished: {_title(entry)}", style="bold yellow", soft_wrap=True)
    for missing in value["missing"]:
        screen.print(f"missing source: {missing['source']}: {missing['reason']}", style="bold red", soft_wrap=True)
    if any(entry["state"] == "failed" for entry in (*value["cells"], *value["transfers"])):
        screen.print("failed cells run again with --retry-failed", soft_wrap=True)


def _title(entry: dict[str, Any]) -> str:
    return f"{entry['method']} on {entry['task']} with {entry['model']}, seed {entry['seed']}"


def _table(entries: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _FIGURES else "left", overflow="fold")
    for entry in entries:
        for score in entry.get("scores", ()):
            low, high = score["interval"]
            changed = score["change"] is not None
            table.add_row(
                entry["method"],
                entry["task"],
                entry["model"],
                entry["seed"],
                score["split"] + (" (chose)" if score["chose"] else ""),
                percent(score["before"]) if changed else "-",
                f"{percent(score['after'])} [{100 * low:.0f}, {100 * high:.0f}]",
                f"{100 * score['change']:+.1f}" if changed else "-",
                f"{score['p_value']:.2g}" if changed else "-",
                _loss(score),
                *(f"{part['tokens']:,}" for part in entry["cost"].values()),
                clock(entry["seconds"]),
            )
    return table


def _loss(score: dict[str, Any]) -> str:
    """Write the loss of the right answer, before and after; ``*`` where the change is more than noise."""
    if score["change"] is None:
        return f"{score['loss_after']:.2f}"
    low, high = score["loss_interval"]
    return f"{score['loss_before']:.2f} to {score['loss_after']:.2f}{'' if low <= 0 <= high else '*'}"


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


def print_status(value: dict[str, Any], given: Given) -> None:
    """Print the status: figures if the grid runs, numbers of cells by phase and state, and what failed."""
    screen = console(sys.stdout, given.no_color)
    running = value["running"]
    screen.print(f"{value['name']}: " + ("running now" if running else "not running"), style="bold")
    if running:
        screen.print(f"{running['phase']}: {cells_line(running)}; {left_line(running)}", soft_wrap=True)
        for pool in running["pools"]:
            screen.print(pool_line(pool), soft_wrap=True)
        for cell in running["running"]:
            screen.print(cell_line(cell), soft_wrap=True)
    for phase in ("optimize", "transfer"):
        cells = [c for c in value["cells"] if (c["source"] is not None) == (phase == "transfer")]
        if cells:
            states = [c["state"] for c in cells]
            counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "begun", "open", "failed") if s in states)
            screen.print(f"{phase}: {len(cells)} cells: {counts}")
    for cell in value["cells"]:
        if cell["state"] == "failed":
            screen.print(f"failed: {_title(cell)}: {cell['reason']}", style="bold red", soft_wrap=True)

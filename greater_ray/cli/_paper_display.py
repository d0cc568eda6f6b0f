"""What the commands for the papers' tables print: the list with its estimate, what comes before a run, the tables."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greater_ray.cli._display import as_json
from greater_ray.cli._options import Given
from greater_ray.drawing import has_matplotlib
from greater_ray.grid.cells import Cell
from greater_ray.grid.estimate import Estimate, estimate
from greater_ray.paper.catalog import scale
from greater_ray.paper.cost import supposed, total, transferred
from greater_ray.paper.layout import FORMATS, shown
from greater_ray.paper.measure import Filled, fill_all, transfers_left
from greater_ray.paper.plan import TablePlan, grid_plan
from greater_ray.paper.power import resolutions
from greater_ray.paper.run import write_files
from greater_ray.paper.store import PaperStore

_SUPPOSED = (
    "tokens and hours of one GPU of 2024 are supposed, to an order of magnitude; --probe measures on this machine"
)
_PROBED = "one replica on this machine, to an order of magnitude, by a probe"


def print_list(plans: Sequence[TablePlan], store: PaperStore | None, given: Given, *, probe: bool) -> None:
    """Print every table with its cells, how many are done, and what the others cost; the last line is all of them."""
    parts = [(plan.table.name, plan.table.title, [plan]) for plan in plans] + [("all", "each cell once", list(plans))]
    everything = list(grid_plan(plans).cells)
    states = store.states(cell.trial_id for cell in everything) if store is not None else {}
    todo = [cell for cell in everything if cell.trial_id not in states or states[cell.trial_id].state != "done"]
    size = plans[0].view.scale
    costs = _costs(todo, size, probe)
    told: list[dict[str, Any]] = []
    for name, title, own in parts:
        cells = list(grid_plan(own).cells)
        missing = [costs[cell.trial_id] for cell in cells if cell.trial_id in costs]
        transfers, left = transfers_left(own, store)
        missing += [transferred(cell, size) for cell in left]
        cost = total(missing)
        told.append(
            {
                "table": name,
                "title": title,
                "scale": size,
                "cells": len(cells) + transfers,
                "done": len(cells) + transfers - len(missing),
                "tokens": round(cost.tokens),
                "hours": round(cost.hours, 3),
                "without_estimate": cost.unknown,
            }
        )
    machine = scale(size).supposed.machine
    basis = _PROBED if probe else f"supposed for {machine}, to an order of magnitude; --probe measures on this machine"
    if given.json:
        sys.stdout.write(as_json({"tables": told, "basis": basis}) + "\n")
        return
    width, wide = max(len(entry["table"]) for entry in told), max(len(entry["title"]) for entry in told)
    lines = [f"{'table':<{width}}  {'title':<{wide}}  {'done':>11}  {'tokens left':>12}  {'hours left':>10}"]
    for entry in told:
        done = f"{entry['done']} of {entry['cells']}"
        more = f"  ({entry['without_estimate']} cells without an estimate)" if entry["without_estimate"] else ""
        lines.append(
            f"{entry['table']:<{width}}  {entry['title']:<{wide}}  {done:>11}  {_short(entry['tokens']):>12}  "
            f"{entry['hours']:>10,.2f}{more}"
        )
    sys.stdout.write("\n".join([*lines, f"tokens and hours: {basis}"]) + "\n")


def _costs(cells: Sequence[Cell], size: str, probe: bool) -> dict[str, Estimate]:
    if not probe:
        return {cell.trial_id: supposed(cell, size) for cell in cells}
    from greater_ray.assembly import local_models

    return dict(zip((cell.trial_id for cell in cells), estimate(cells, local_models()), strict=True))


def _short(tokens: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.1f} {name}"
    return f"{tokens:.0f}"


def print_before(tables: Sequence[Filled], given: Given) -> None:
    """Say before a run what the rows of every table can show."""
    stream = sys.stderr if given.json else sys.stdout
    for filled in tables:
        for line in resolutions(filled):
            stream.write(f"{filled.plan.table.name}: {line}\n")


def show_tables(
    plans: Sequence[TablePlan], store: PaperStore, given: Given, form: str | None, to: Path | None, *, print_all: bool
) -> None:
    """Print tables, or write them into a folder in one form or in all; it says where pictures need matplotlib.

    Raises:
        DataError: a record was edited, or cannot be read.
    """
    tables = fill_all(plans, store)
    stream = sys.stderr if given.json else sys.stdout
    if to is not None:
        written = [path for filled in tables for path in write_files(filled, to, [form] if form else list(FORMATS))]
        stream.write(f"{len(written)} files in {to}\n")
        if any(filled.plan.table.figure is not None for filled in tables) and not has_matplotlib():
            stream.write("no pictures: they need matplotlib; pip install 'greater-ray[plots]'\n")
    if print_all:
        chosen = "json" if given.json and form is None else form or "text"
        sys.stdout.write(_joined([shown(filled, chosen, resolutions(filled)) for filled in tables], chosen))
    elif given.json:
        told = [{"table": filled.plan.table.name, "complete": filled.complete} for filled in tables]
        sys.stdout.write(as_json({"folder": str(to), "tables": told}) + "\n")
    else:
        for filled in tables:
            states = [value.state for value in filled.values]
            counts = ", ".join(f"{states.count(s)} {s}" for s in ("done", "partly", "failed", "not run") if s in states)
            sys.stdout.write(f"{filled.plan.table.name}: {counts}\n")


def _joined(tables: Sequence[str], form: str) -> str:
    """Put tables of one form together: JSON in one list, CSV under one heading."""
    if len(tables) > 1 and form == "json":
        return "[\n" + ",\n".join(table.rstrip() for table in tables) + "\n]\n"
    if form == "csv":
        return tables[0] + "".join(table.partition("\n")[2] for table in tables[1:])
    return "\n".join(tables)

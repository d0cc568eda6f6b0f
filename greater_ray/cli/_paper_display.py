"""What the commands for the papers' tables print: the list with its estimate, what comes before a run, the tables."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greater_ray.cli._display import as_json
from greater_ray.cli._options import Given
from greater_ray.config import ModelConfig
from greater_ray.drawing import has_matplotlib
from greater_ray.grid.cells import Cell
from greater_ray.grid.estimate import Estimate, estimate
from greater_ray.models.sizes import NOT_MEASURED, known
from greater_ray.paper.catalog import scale
from greater_ray.paper.cost import here, supposed, total, transferred
from greater_ray.paper.layout import FORMATS, shown
from greater_ray.paper.measure import Filled, fill_all, transfers_left
from greater_ray.paper.plan import TablePlan, grid_plan
from greater_ray.paper.power import resolutions
from greater_ray.paper.run import write_files
from greater_ray.paper.store import PaperStore
from greater_ray.prediction import Known
from greater_ray.provenance import processor

_SUPPOSED = "supposed for {}, to an order of magnitude; --probe measures on this machine"
_PROBED = "one replica on this machine, to an order of magnitude, by a probe"


def print_list(
    plans: Sequence[TablePlan], store: PaperStore | None, given: Given, *, probe: bool, measure: bool
) -> None:
    """Print every table with its cells, how many are done, and what the others cost; the last line is all of them.

    Hours here are the cost model's for this machine, or it is said what lacks; with ``measure`` its rates are measured.
    """
    parts = [(plan.table.name, plan.table.title, [plan]) for plan in plans] + [("all", "each cell once", list(plans))]
    everything = list(grid_plan(plans).cells)
    states = store.states(cell.trial_id for cell in everything) if store is not None else {}
    todo = [cell for cell in everything if cell.trial_id not in states or states[cell.trial_id].state != "done"]
    size = plans[0].view.scale
    costs = _costs(todo, size, probe)
    machine = Machine(size, measure=measure)
    own_hours = {} if probe else {cell.trial_id: machine.seconds(cell) for cell in todo}
    told: list[dict[str, Any]] = []
    for name, title, own in parts:
        cells = list(grid_plan(own).cells)
        missing = [costs[cell.trial_id] for cell in cells if cell.trial_id in costs]
        transfers, left = transfers_left(own, store)
        targets = [transferred(cell) for cell in left]
        missing += [supposed(cell, size) for cell in targets]
        cost = total(missing)
        seconds = [own_hours[cell.trial_id] for cell in cells if cell.trial_id in own_hours]
        seconds += [] if probe else [machine.seconds(cell) for cell in targets]
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
                **({} if probe else _hours_here(seconds)),
            }
        )
    basis = _PROBED if probe else _SUPPOSED.format(scale(size).supposed.machine)
    # The last entry holds each cell once.
    why = told[-1].get("lacking_here", {})
    if given.json:
        sys.stdout.write(as_json({"tables": told, "basis": basis, "machine": processor()}) + "\n")
        return
    width, wide = max(len(entry["table"]) for entry in told), max(len(entry["title"]) for entry in told)
    lines = [f"{'table':<{width}}  {'title':<{wide}}  {'done':>11}  {'tokens left':>12}  {'hours left':>10}"]
    lines[0] += "" if probe else f"  {'hours here':>11}"
    for entry in told:
        done = f"{entry['done']} of {entry['cells']}"
        more = f"  ({entry['without_estimate']} cells without an estimate)" if entry["without_estimate"] else ""
        lines.append(
            f"{entry['table']:<{width}}  {entry['title']:<{wide}}  {done:>11}  {_short(entry['tokens']):>12}  "
            f"{entry['hours']:>10,.2f}{'' if probe else _shown_here(entry)}{more}"
        )
    lines.append(f"tokens and hours{'' if probe else ' left'}: {basis}")
    if not probe:
        lines.append(f"hours here: one replica on this machine ({processor()}) by the cost model, for the same tokens")
        lines += [f"  not in it: {count:,} cells, as {reason}" for reason, count in why.items()]
        lines += ["  `greater-ray paper list --measure` measures that"] if machine.unmeasured else []
    sys.stdout.write("\n".join(lines) + "\n")


class Machine:
    """What the cost model says of cells of a scale on this machine; asked once for every model."""

    def __init__(self, size: str, *, measure: bool) -> None:
        self._size, self._tell = size, _say if measure else None
        self._known: dict[str, Known | str] = {}

    def seconds(self, cell: Cell) -> float | str:
        """Return seconds of a cell, or what lacks."""
        return here(cell, self._size, self._of)

    @property
    def unmeasured(self) -> bool:
        """Whether rates of this machine are what lacks."""
        return any(isinstance(found, str) and found.endswith(NOT_MEASURED) for found in self._known.values())

    def _of(self, model: ModelConfig) -> Known | str:
        key = model.model_dump_json()
        if key not in self._known:
            self._known[key] = known(processor(), model, self._tell)
        return self._known[key]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _hours_here(seconds: Sequence[float | str]) -> dict[str, Any]:
    lacking = Counter(found for found in seconds if isinstance(found, str))
    found = [value for value in seconds if not isinstance(value, str)]
    hours = round(sum(found) / 3600, 3) if any(found) or not lacking else None
    return {"hours_here": hours, "lacking_here": dict(lacking)}


def _shown_here(entry: dict[str, Any]) -> str:
    """Return the column: a dash where nothing is known, and a sign where only a part is."""
    if entry["hours_here"] is None:
        return f"  {'-':>11}"
    text = f"{'>' if entry['lacking_here'] else ''}{entry['hours_here']:,.2f}"
    return f"  {text:>11}"


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

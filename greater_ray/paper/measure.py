"""From records to the numbers of a table: means with intervals, differences with tests, costs, and the records behind.

A number is the mean over its tasks of the mean score on test rows. Rows and seeds are random, tasks are fixed
(``statistics.comparison``). Every row is compared with the reference row of its group in the same column; the p-values
of a table are adjusted together (Holm).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from greater_ray.grid.cells import Cell
from greater_ray.grid.store import CellState
from greater_ray.grid.transfer import transfer_cell
from greater_ray.paper.plan import SPLIT, Column, Number, TablePlan, transfer_to
from greater_ray.paper.store import Fingerprint, PaperStore
from greater_ray.statistics import Interval, score_interval
from greater_ray.statistics.comparison import compare_over_tasks
from greater_ray.statistics.tables import ALPHA, holm, verdict

Scores = list[list[float]]  # (seeds, rows) of one task
NOT_RUN = "not run"


@dataclass(frozen=True)
class Measured:
    """What records say of one cell: scores on test rows, and what the search and this measurement have cost.

    ``folders`` are the records behind it: that of the search too, where the prompt was measured on another model.
    """

    scores: tuple[float, ...]
    row_ids: tuple[str, ...]
    tokens: int
    seconds: float
    fingerprint: Fingerprint
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class Compared:
    """The difference to the reference row, a share; ``p_value`` is adjusted for the table.

    ``methods`` tells that the question is about the methods, on new rows and under new seeds; else it is about the
    prompts that were found, on new rows.
    """

    reference: str
    difference: Interval
    p_value: float
    methods: bool
    discordance: float

    @property
    def verdict(self) -> str:
        """What the p-value means, in words."""
        return verdict(self.p_value)


@dataclass(frozen=True)
class Value:
    """One number of a table as it is shown. Scores are shares; ``reason`` says why there is none.

    ``state`` is ``done``, ``partly`` (cells are missing, and there is no number yet), ``failed``, ``not run``, or
    ``none`` (there is nothing to run). ``strange`` says in what its records differ from the others of its column.
    """

    number: Number
    state: Literal["done", "partly", "failed", "not run", "none"]
    reason: str | None = None
    score: Interval | None = None
    rows: int = 0
    seeds: int = 0
    tokens: int = 0
    seconds: float = 0.0
    folders: tuple[Path, ...] = ()
    compared: Compared | None = None
    strange: tuple[str, ...] = ()
    scores: tuple[Scores, ...] = field(default=(), repr=False)
    row_ids: tuple[str, ...] = field(default=(), repr=False)
    fingerprint: Fingerprint | None = field(default=None, repr=False)

    @property
    def comparable(self) -> bool:
        """Whether the paper measured the same thing: all tasks, on rows of the benchmark itself."""
        return self.state == "done" and not self.number.partial and not is_made(self.number)


@dataclass(frozen=True)
class Filled:
    """A table with its numbers, in the order of its plan."""

    plan: TablePlan
    values: tuple[Value, ...]

    @property
    def complete(self) -> bool:
        """Whether every number that can be measured is there."""
        return all(value.state in ("done", "none") for value in self.values)

    def of(self, number: Number) -> Value:
        """Return the value of a number."""
        return next(value for value in self.values if value.number is number)


def fill(plan: TablePlan, store: PaperStore) -> Filled:
    """Return a table with all that a store holds of it.

    Raises:
        DataError: a record was edited, or cannot be read.
    """
    return fill_all([plan], store)[0]


def fill_all(plans: Sequence[TablePlan], store: PaperStore) -> list[Filled]:
    """Return tables with all that a store holds of them; a record that serves several is read once.

    Raises:
        DataError: as ``fill``.
    """
    known: dict[tuple[str, str | None], Measured | str] = {}
    return [_filled(plan, store, known) for plan in plans]


def _filled(plan: TablePlan, store: PaperStore, known: dict[tuple[str, str | None], Measured | str]) -> Filled:
    states = store.states({cell.trial_id for number in plan.numbers for cell in number.all_cells})

    def measured(number: Number, cell: Cell) -> Measured | str:
        key = (cell.trial_id, repr(number.transfer) if number.transfer else None)
        if key not in known:
            known[key] = _measured(cell, number, store, states)
        return known[key]

    values = [_value(number, partial(measured, number)) for number in plan.numbers]
    return Filled(plan, tuple(_compared(plan, _marked(plan.columns, values))))


# -- one cell ----------------------------------------------------------------------------------------------------------


def _measured(cell: Cell, number: Number, store: PaperStore, states: Mapping[str, CellState]) -> Measured | str:
    """Return what is known of a cell, or why nothing is."""
    state = states[cell.trial_id]
    if state.state != "done" or state.folder is None:
        return f"failed: {state.reason}" if state.state == "failed" else NOT_RUN
    record = store.record(cell.trial_id, state.folder)
    spent = [record.optimization_usage, record.optimizer_usage]
    folders = [state.folder]
    if number.transfer is not None:
        to = transfer_to(number.transfer)
        target = transfer_cell(record, cell, to.models[0], to.splits)
        found = store.states([target.trial_id])[target.trial_id]
        if found.state != "done" or found.folder is None:
            return f"failed: {found.reason}" if found.state == "failed" else NOT_RUN
        record = store.record(target.trial_id, found.folder)
        folders.append(found.folder)
    evaluation = record.evaluation(SPLIT, record.best)
    if evaluation is None:
        return f"failed: its record has no evaluation on {SPLIT} rows"
    spent.append(record.evaluation_usage)
    return Measured(
        scores=tuple(example.score for example in evaluation.examples),
        row_ids=tuple(example.id for example in evaluation.examples),
        tokens=sum(usage.tokens for usage in spent),
        seconds=sum(usage.seconds for usage in spent),
        fingerprint=Fingerprint.of(record),
        folders=tuple(folders),
    )


def transfers_left(plans: Sequence[TablePlan], store: PaperStore | None) -> tuple[int, list[Cell]]:
    """Return the number of transfers of some tables, and the sources of those that are not done."""
    pairs = {
        (cell.trial_id, repr(number.transfer)): (cell, number)
        for plan in plans
        for number in plan.numbers
        if number.transfer is not None
        for cell in number.all_cells
    }
    if store is None:
        return len(pairs), [cell for cell, _ in pairs.values()]
    states = store.states({cell.trial_id for cell, _ in pairs.values()})
    left = [cell for cell, number in pairs.values() if not isinstance(_measured(cell, number, store, states), Measured)]
    return len(pairs), left


# -- one number --------------------------------------------------------------------------------------------------------


def _value(number: Number, measured: Callable[[Cell], Measured | str]) -> Value:
    if number.reason is not None:
        return Value(number, "none", number.reason)
    found = [[measured(cell) for cell in cells] for cells in number.cells]
    known = [m for task in found for m in task if isinstance(m, Measured)]
    missing = [m for task in found for m in task if isinstance(m, str)]
    cost = {
        "tokens": sum(m.tokens for m in known),
        "seconds": sum(m.seconds for m in known),
        "folders": tuple(folder for m in known for folder in m.folders),
    }
    failed = [why for why in missing if why != NOT_RUN]
    if failed:
        return Value(number, "failed", failed[0], **cost)  # type: ignore[arg-type]
    if missing and known:
        return Value(number, "partly", f"{len(known)} of {len(known) + len(missing)} cells are done", **cost)  # type: ignore[arg-type]
    if missing:
        return Value(number, "not run", NOT_RUN)
    tasks = [[m for m in task if isinstance(m, Measured)] for task in found]
    scores = tuple([list(m.scores) for m in task] for task in tasks)
    return Value(
        number,
        "done",
        score=_mean(scores),
        rows=sum(len(task[0]) for task in scores),
        seeds=min(len(task) for task in scores),
        scores=scores,
        row_ids=tuple(row for task in tasks for row in task[0].row_ids),
        fingerprint=_joined([m.fingerprint for m in known]),
        **cost,  # type: ignore[arg-type]
    )


def _mean(scores: Sequence[Scores]) -> Interval:
    """Return the mean over tasks with its interval: Wilson's for one prompt on one task, else rows and seeds random."""
    if len(scores) == 1 and len(scores[0]) == 1:
        return score_interval(scores[0][0])
    if _too_few(scores):
        return Interval(float(np.mean([np.mean(task) for task in scores])), 0.0, 1.0)
    nothing = [[[0.0] * len(task[0])] for task in scores]
    found = compare_over_tasks(nothing, scores).difference
    return Interval(found.estimate, max(0.0, found.low), min(1.0, found.high))


def _too_few(scores: Sequence[Scores]) -> bool:
    """Tell whether a task has a single row, from which nothing can be said about others."""
    return any(len(task[0]) < 2 for task in scores)


def _joined(parts: Sequence[Fingerprint]) -> Fingerprint:
    rows = {task: digest for part in parts for task, digest in part.rows.items()}
    return parts[0].model_copy(update={"rows": rows})


# -- the table ---------------------------------------------------------------------------------------------------------


def _marked(columns: Sequence[Column], values: Sequence[Value]) -> list[Value]:
    """Mark numbers whose records differ in their fingerprint from the first of their column.

    A row that names its own model has a column of its own in this respect.
    """
    first: dict[tuple[str, str, str], Fingerprint] = {}
    marked = []
    for value in values:
        if value.fingerprint is None:
            marked.append(value)
            continue
        row = value.number.row
        place = (value.number.column.label, row.transfer or row.model or "", str(columns.index(value.number.column)))
        known = first.setdefault(place, value.fingerprint)
        marked.append(replace(value, strange=tuple(known.differences(value.fingerprint))))
    return marked


def _compared(plan: TablePlan, values: Sequence[Value]) -> list[Value]:
    """Compare every row with its reference, and adjust the p-values of the table."""
    by_place = {(id(v.number.row), id(v.number.column)): v for v in values}
    found: dict[int, Compared] = {}
    of: dict[int, Value] = {}
    for place, value in enumerate(values):
        reference = plan.reference(value.number.row)
        other = by_place.get((id(reference), id(value.number.column))) if reference is not None else None
        if reference is None or other is None or value.state != "done" or other.state != "done":
            continue
        # Other rows or another model are no pairs; a number under a mark is compared with nothing.
        if value.row_ids != other.row_ids or value.strange or other.strange or _too_few(value.scores):
            continue
        of[place] = other
        result = compare_over_tasks(other.scores, value.scores)
        found[place] = Compared(
            reference=reference.label,
            difference=result.difference,
            p_value=result.p_value,
            methods=result.freedom is not None,
            discordance=_discordance(other.scores, value.scores),
        )
    # Rows that share their records, as published prompts that are the same do, are one comparison.
    keys = {place: (values[place].folders, of[place].folders) for place in found}
    single = {keys[place]: compared.p_value for place, compared in found.items()}
    adjusted = dict(zip(single, holm(list(single.values())), strict=True))
    return [
        replace(value, compared=replace(found[k], p_value=adjusted[keys[k]])) if k in found else value
        for k, value in enumerate(values)
    ]


def _discordance(before: Sequence[Scores], after: Sequence[Scores]) -> float:
    """Return the mean squared difference of two prompts on a row: the share of rows on which they differ."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(before, after, strict=True)]
    return float(np.mean([np.mean((b[:, None] - a[None]) ** 2) for a, b in pairs]))


def is_made(number: Number) -> bool:
    """Tell whether a number's rows were made by a generator."""
    return any(cell.config.task.data == "synthetic" for cell in number.all_cells)


def outcomes(filled: Filled) -> list[tuple[str, dict[str, int]]]:
    """Count for every row how the reference fares against it over the columns, single tasks only.

    The counts are ``wins`` and ``losses`` that are more than noise, ``smaller wins`` and ``smaller losses`` that may be
    noise, and ``equal``.
    """
    told = []
    for row in filled.plan.table.rows:
        counts = dict.fromkeys(("wins", "smaller wins", "equal", "smaller losses", "losses"), 0)
        for value in filled.values:
            if value.number.row is not row or value.compared is None or len(value.number.cells) != 1:
                continue
            difference = -value.compared.difference.estimate
            sure = value.compared.p_value < ALPHA
            side = "wins" if difference > 0 else "losses"
            counts["equal" if difference == 0 else side if sure else f"smaller {side}"] += 1
        if filled.plan.reference(row) is not None:
            told.append((row.label, counts))
    return told

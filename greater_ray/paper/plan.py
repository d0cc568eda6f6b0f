"""From a table to its numbers, and from numbers to cells: what a view of the table is made of, before anything runs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from pydantic import Field

from greater_ray.config import Config, ModelConfig, TaskConfig
from greater_ray.errors import ConfigError, unknown_name
from greater_ray.grid.cells import Cell, expand_grid
from greater_ray.grid.config import SECTIONS, TransferConfig, load_grid, matches
from greater_ray.grid.run import Plan, Transfers
from greater_ray.grid.transfer import transfer_models
from greater_ray.paper.catalog import (
    EMPTY,
    NO_PROMPT,
    Entry,
    Scale,
    Table,
    published_prompt,
    scale,
    shared,
    table,
    tasks_of,
)
from greater_ray.settings import merged

SPLIT = "test"
LEFT_OUT = "left out by --only"


class View(Config):
    """What is asked of a table: its scale, and all that narrows or changes it.

    ``models`` are names of models in place of the table's own, each with columns of its own, or ``ALIAS=NAME`` for one
    of them; ``only`` is a rule of ``grid.config.matches``, ``settings`` are settings of all trials.
    """

    scale: str = "full"
    models: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    only: dict[str, list[str]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def choices(self) -> tuple[str | None, ...]:
        """The models that get columns of their own; None stands for the table's."""
        return tuple(name for name in self.models if "=" not in name) or (None,)

    @property
    def replaced(self) -> dict[str, str]:
        """Models of the table that others stand for."""
        return dict(name.split("=", 1) for name in self.models if "=" in name)

    @property
    def overrides(self) -> list[str]:
        """What the caption says of this view, one sentence for each change."""
        told = [f"Model: {name}." for name in self.models]
        if self.only:
            rule = ", ".join(f"{axis}={','.join(found)}" for axis, found in self.only.items())
            told.append(f"Only {rule}.")
        if self.seeds is not None:
            told.append(f"Seeds: {', '.join(map(str, self.seeds))}.")
        return told + [f"Set: {key} = {value}." for key, value in _flat(self.settings)]


class Published(NamedTuple):
    """A value of the paper: the column it stands in there, in percent, and whether its model is the one measured."""

    column: str
    value: float | None
    same_model: bool


@dataclass(frozen=True)
class Column:
    """A column of ours. ``places`` are the table's columns that it stands for: those that differ in their model only.

    ``own`` tells that its model is the one of these columns.
    """

    label: str
    entry: Entry
    places: tuple[int, ...]
    choice: str | None


@dataclass(frozen=True)
class Number:
    """One number of a table: the mean over tasks and seeds of some cells' scores on test rows.

    ``cells`` holds the cells of every task, one for each seed; with ``transfer`` what is measured is their prompts on
    that model. ``reason`` says why there is nothing to measure. ``partial`` tells that tasks are left out.
    """

    row: Entry
    column: Column
    cells: tuple[tuple[Cell, ...], ...] = ()
    transfer: Mapping[str, Any] | None = None
    reason: str | None = None
    partial: bool = False
    cut: bool = False
    published: tuple[Published, ...] = ()

    @property
    def all_cells(self) -> list[Cell]:
        """The cells of all tasks."""
        return [cell for cells in self.cells for cell in cells]


@dataclass(frozen=True)
class TablePlan:
    """A table as a view sees it: ``numbers`` row by row, column by column."""

    table: Table
    view: View
    columns: tuple[Column, ...]
    numbers: tuple[Number, ...]
    stand_ins: dict[str, str] = field(default_factory=dict)

    def at(self, row: Entry, column: Column) -> Number:
        """Return the number of a row and a column."""
        return next(n for n in self.numbers if n.row is row and n.column is column)

    def reference(self, row: Entry) -> Entry | None:
        """Return the row that another is compared with: the marked one of its group, or the named one."""
        group = [other for other in self.table.rows if other.group == row.group]
        found = [other for other in group if other.against or other.label == self.table.against]
        return found[0] if found and found[0] is not row else None


def plan_table(name: str, view: View) -> TablePlan:
    """Return a table as a view sees it.

    Raises:
        ConfigError: no such table, an unknown scale, or a setting that does not fit.
    """
    found, size = table(name), scale(view.scale)
    for alias in view.replaced:
        if alias not in shared().models:
            raise unknown_name("model.name", alias, shared().models)
    columns = tuple(_columns(found, view, size))
    numbers = tuple(_number(found, view, size, row, column) for row in found.rows for column in columns)
    if not any(number.cells for number in numbers):
        if view.only:
            raise ConfigError(f"no cell of '{name}' matches {view.only}.", setting="only", value=view.only)
        raise ConfigError(f"nothing of '{name}' can be run: {numbers[0].reason}.", setting="table", value=name)
    if view.only:
        found, columns, numbers = _narrowed(found, columns, numbers)
    used = {task for column in columns for task in _own_tasks(column.entry, size)}
    stand_ins = {task: other for task, other in size.stand_ins.items() if task in used}
    return TablePlan(found, view, columns, numbers, stand_ins)


def _narrowed(
    found: Table, columns: Sequence[Column], numbers: Sequence[Number]
) -> tuple[Table, tuple[Column, ...], tuple[Number, ...]]:
    """Leave out the rows and columns of which ``--only`` leaves nothing."""
    rows = [row for row in found.rows if any(n.cells for n in numbers if n.row is row)]
    kept = tuple(column for column in columns if any(n.cells for n in numbers if n.column is column))
    left = tuple(n for n in numbers if n.column in kept and any(n.row is row for row in rows))
    # Not a copy of the rows: numbers know theirs by identity.
    return found.model_copy(update={"rows": tuple(rows)}), kept, left


def grid_plan(plans: Sequence[TablePlan]) -> Plan:
    """Return what a grid has to run for some tables; a cell that serves several of them is there once."""
    cells = {cell.trial_id: cell for plan in plans for number in plan.numbers for cell in reversed(number.all_cells)}
    sources: dict[str, tuple[dict[str, Cell], dict[str, Any]]] = {}
    for number in (number for plan in plans for number in plan.numbers):
        if number.transfer is not None and number.cells:
            own, _ = sources.setdefault(json.dumps(number.transfer, sort_keys=True), ({}, dict(number.transfer)))
            own |= {cell.trial_id: cell for cell in number.all_cells}
    transfers = [Transfers(list(own.values()), transfer_to(entry)) for own, entry in sources.values()]
    targets = [model for sources, to in transfers for model in transfer_models(sources[0].config, to)]
    return Plan("paper", list(cells.values()), transfers, targets, whole=False)


def transfer_to(entry: Mapping[str, Any]) -> TransferConfig:
    """Return the transfer to one model."""
    return TransferConfig(models=({k: v for k, v in entry.items() if k in ModelConfig.model_fields},), splits=(SPLIT,))


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns(found: Table, view: View, size: Scale) -> Iterator[Column]:
    """Yield our columns: for every choice of a model those of the table, equal ones once."""
    for choice in view.choices:
        places: dict[str, list[int]] = {}
        for place, entry in enumerate(found.columns):
            if entry.each in size.groups and entry.tasks[0] not in size.groups[entry.each or ""]:
                continue
            model = _model(entry.model, view, size, choice) if entry.model else None
            writer = _writer(entry.writer, view, size)
            key = json.dumps([model, writer, _tasks(entry, size), entry.settings], sort_keys=True)
            places.setdefault(key, []).append(place)
        for own in places.values():
            entry = found.columns[own[0]]
            yield Column(_label(entry, view, size, choice, len(own) > 1), entry, tuple(own), choice)


def _label(entry: Entry, view: View, size: Scale, choice: str | None, several: bool) -> str:
    # Writers that are one model here differ in the first word of their columns only.
    label = _without_writer(entry) if several else entry.label
    if entry.model is None:
        return f"{choice} {label}" if choice else label
    model = _model(entry.model, view, size, choice)
    known = shared().models[entry.model]
    name = known["label"] if model["name"] == known["name"] else model["name"].rstrip("/").rpartition("/")[2]
    return f"{name} {label}"


def _without_writer(entry: Entry) -> str:
    """Return a label without its first word, where that names the model that writes."""
    return entry.label.partition(" ")[2] if entry.writer and " " in entry.label else entry.label


def published_label(entry: Entry) -> str:
    """Return what a column is called in the paper."""
    return f"{shared().models[entry.model]['label']} {entry.label}" if entry.model else entry.label


# -- models and tasks --------------------------------------------------------------------------------------------------


def _model(alias: str, view: View, size: Scale, choice: str | None, *, target: bool = True) -> dict[str, Any]:
    """Return the model that is measured in place of a table's; with ``target`` false one whose prompts go elsewhere."""
    if alias in view.replaced:
        model: dict[str, Any] = {"name": view.replaced[alias]}
    elif target and choice is not None:
        model = {"name": choice}
    else:
        known = size.model or shared().models[alias]
        model = {key: value for key, value in known.items() if key in ModelConfig.model_fields}
    return merged(model, view.settings.get("model", {}))


def _target(alias: str, view: View, size: Scale, choice: str | None) -> dict[str, Any]:
    if size.transfer is not None and choice is None and alias not in view.replaced:
        return merged(size.transfer, view.settings.get("model", {}))
    return _model(alias, view, size, choice)


def _writer(alias: str | None, view: View, size: Scale) -> dict[str, Any] | None:
    """Return the model that writes; None where the task model does, as at a scale of one model."""
    if alias is None or (size.model is not None and alias not in view.replaced):
        return None
    return _model(alias, view, size, None)


def _own_tasks(entry: Entry, size: Scale) -> tuple[str, ...]:
    """Return the tasks of a column at a scale, by the names that the table has for them."""
    return tuple(task for name in entry.tasks for task in size.groups.get(name) or tasks_of(name))


def _tasks(entry: Entry, size: Scale) -> list[str]:
    return [size.stand_ins.get(task, task) for task in _own_tasks(entry, size)]


# -- numbers -----------------------------------------------------------------------------------------------------------


def _number(found: Table, view: View, size: Scale, row: Entry, column: Column) -> Number:
    alias = row.model or column.entry.model
    if alias is None:
        known = shared().models
        told = (
            f"row '{row.label}' and column '{column.label}' of '{found.name}' name no model; one of them must, "
            f"allowed: {', '.join(known)}."
        )
        raise ConfigError(told, setting="table", value=found.name, allowed=known)
    measured = row.transfer or alias
    model = _model(alias, view, size, column.choice, target=row.transfer is None)
    target = _target(measured, view, size, column.choice) if row.transfer else None
    published = []
    for place in column.places:
        entry = found.columns[place]
        theirs = shared().models[row.transfer or row.model or entry.model or alias]["name"]
        value = row.published[place] if place < len(row.published) else None
        published.append(Published(published_label(entry), value, (target or model)["name"] == theirs))
    number = Number(row, column, transfer=target, published=tuple(published))
    cells: list[tuple[Cell, ...]] = []
    reasons, cut, tasks = [], False, dict.fromkeys(_own_tasks(column.entry, size))
    for task in tasks:
        method, why, shortened = _method(row, column.entry, task)
        cut |= shortened
        if why is not None or method is None:
            reasons.append(why)
            continue
        own = _cells(found, view, size, row, column, method, task, model)
        wanted = tuple(cell for cell in own if _is_wanted(cell, view.only))
        cells += [wanted] if wanted else []
    reason = next((why for why in reasons if why is not None), None)
    if reason is None and not cells:
        reason = LEFT_OUT
    if reason is None and target is not None and target == model:
        reason = "the prompt was found on this very model"
    return Number(
        row,
        column,
        cells=() if reason is not None else tuple(cells),
        transfer=number.transfer,
        reason=reason,
        partial=len(cells) < len(tasks),
        cut=cut,
        published=number.published,
    )


def _is_wanted(cell: Cell, only: Mapping[str, list[str]]) -> bool:
    """Tell whether ``--only`` chooses a cell; one of a deterministic method stands for every seed."""
    return matches({k: v for k, v in only.items() if not (k == "seed" and cell.seed == "-")}, cell.labels)


def _method(row: Entry, column: Entry, task: str) -> tuple[dict[str, Any] | None, str | None, bool]:
    """Return a row's entry of the axis of methods, or why there is none, and whether its prompt is cut short."""
    if row.prompts is None:
        name = row.method or column.method
        if name is None:
            known = shared().methods
            why = (
                f"row '{row.label}' and column '{column.label}' name neither a method nor prompts; one of them must, "
                f"allowed methods: {', '.join(known)}."
            )
            raise ConfigError(why, setting="table", value=row.label, allowed=known)
        changes = [_without_writer(entry) for entry in (row, column) if entry.settings]
        label = f"{name} ({', '.join(changes)})" if changes else name
        return merged({"label": label}, shared().methods[name], row.settings, column.settings), None, False
    prompt = published_prompt(row.prompts, task)
    if prompt is None:
        return None, NO_PROMPT, False
    if not prompt.prompt.strip():
        return None, EMPTY, False
    entry = {"name": "fixed", "label": row.prompts, "method_config": {"prompt": prompt.prompt}}
    return merged(entry, row.settings, column.settings), None, prompt.cut


def _cells(
    found: Table,
    view: View,
    size: Scale,
    row: Entry,
    column: Column,
    method: dict[str, Any],
    task: str,
    model: dict[str, Any],
) -> tuple[Cell, ...]:
    """Return the cells of one task, one for each seed."""
    suite = shared().suites[found.suite]
    layers = [suite.settings, method, size.settings, size.methods.get(method["name"], {}), view.settings]
    settings = merged(*layers)
    own = {key: value for key, value in settings.items() if key in SECTIONS or key in ("name", "label")}
    writer = _writer(row.writer or column.entry.writer, view, size)
    if writer is not None:
        own["optimizer_model"] = writer
    strange = settings.keys() - own.keys() - {"task", "model", "optimizer_model"}
    if strange:
        raise unknown_name("set", min(strange), {*SECTIONS, "task", "model"})
    family = {} if "task" in size.settings else suite.families.get(task.partition("/")[0], {})
    rows = {**family, **settings.get("task", {}), "name": size.stand_ins.get(task, task)}
    for key in rows:
        if key not in TaskConfig.model_fields:
            raise unknown_name("set", f"task.{key}", TaskConfig.model_fields)
    seeds = view.seeds or size.seeds or suite.seeds
    return _expanded(json.dumps([own, rows, model, seeds]))


@cache
def _expanded(axes: str) -> tuple[Cell, ...]:
    method, task, model, seeds = json.loads(axes)
    if model.get("attn_implementation"):
        model["label"] = f"{model['name']} ({model['attn_implementation']})"
    grid = load_grid({"methods": [method], "tasks": [task], "models": [model], "seeds": seeds})
    return tuple(expand_grid(grid))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

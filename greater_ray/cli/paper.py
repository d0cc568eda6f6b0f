"""The commands for the papers' tables: ``paper list``, ``paper run`` and ``paper show``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greater_ray.cli._completion import COMPLETIONS, among, complete_axis, complete_model, complete_table
from greater_ray.cli._errors import written_keys
from greater_ray.cli._help import Command, Group
from greater_ray.cli._options import Given, with_options
from greater_ray.cli.grid import Where, running, with_where
from greater_ray.config import parse
from greater_ray.errors import ConfigError, DataError, StoreError
from greater_ray.settings import merged, parse_assignments

if TYPE_CHECKING:
    from greater_ray.paper.plan import TablePlan, View
    from greater_ray.paper.store import PaperStore

paper = typer.Typer(
    name="paper", help="The papers' tables and figures, ours beside the published numbers.", cls=Group,
    no_args_is_help=True,
)  # fmt: skip

_WHAT = "What of it"
# What --set may say of how models are served; it changes no result, so it is no part of a view.
_SERVED = "replicas"
_Id = Annotated[
    str, typer.Argument(metavar="ID", help="A table of `paper list`, or all.", autocompletion=complete_table)
]
_Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="NAME",
        help="full or smoke.",
        show_default="the folder's, else full",
        rich_help_panel=_WHAT,
        autocompletion=COMPLETIONS["--scale"],
    ),
]
_Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A model of your own in columns of its own, or ALIAS=NAME for one of the table's; may be repeated.",
        show_default=False,
        rich_help_panel=_WHAT,
        autocompletion=complete_model,
    ),
]
_Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="AXIS=PATTERN,...",
        help="Only these cells, for instance task=bbh/navigate.",
        show_default=False,
        rich_help_panel=_WHAT,
        autocompletion=complete_axis,
    ),
]
_Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="S,...", help="Seeds.", show_default="the table's", rich_help_panel=_WHAT),
]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of all trials, for instance task.data=FOLDER or task.test_size=100.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
_To = Annotated[
    Path | None,
    typer.Option("--to", metavar="FOLDER", help="Write files there, figures as PNG, SVG and PDF.", show_default=False),
]
_Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORM",
        help="text, markdown, latex, csv or json.",
        show_default="text",
        autocompletion=among("text", "markdown", "latex", "csv", "json"),
    ),
]


@paper.command("list", cls=Command)
@with_options(settings=False)
def list_(  # noqa: PLR0913 - every option of the command is a parameter
    given: Given,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of tables.", show_default=False)
    ] = None,
    scale: _Scale = None,
    model: _Model = None,
    only: _Only = None,
    seeds: _Seeds = None,
    assignments: _Set = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Load the models and measure what the estimate is made of.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure how fast this machine is, once, for the hours here.")
    ] = False,
) -> None:
    """Show every table with its cells, how many are done, and an estimate of what is missing."""
    from greater_ray.cli._paper_display import print_list
    from greater_ray.paper.run import plan_tables

    _note(given, assignments)
    store = _store(out) if out is not None else None
    view = _view(store, scale, model, only, seeds, assignments)
    print_list(plan_tables("all", view), store, given, probe=probe, measure=measure)


@paper.command(cls=Command)
@with_options(settings=False)
@with_where
def run(  # noqa: PLR0913 - every option of the command is a parameter
    given: Given,
    where: Where,
    table: _Id,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of all tables; the same command continues there.")
    ],
    scale: _Scale = None,
    model: _Model = None,
    only: _Only = None,
    seeds: _Seeds = None,
    assignments: _Set = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    form: _Format = None,
    to: _To = None,
) -> None:
    """Run what is missing of a table, then print it; a cell that serves several tables runs once."""
    from greater_ray.cli._paper_display import print_before, show_tables
    from greater_ray.grid.config import GridConfig
    from greater_ray.paper.layout import check_format
    from greater_ray.paper.measure import fill_all
    from greater_ray.paper.run import check_models, plan_tables, run_tables

    _note(given, assignments)
    check_format(form or "text")
    store = _store(out)
    view = _view(store, scale, model, only, seeds, assignments)
    plans = plan_tables(table, view)
    check_models(plans)
    before = fill_all(plans, store)
    print_before(before, given)
    served = {_SERVED: parse_assignments(assignments or []).get(_SERVED, {})}
    grid = parse(GridConfig, merged({"name": "paper"}, served, where.settings()))
    with running(grid, out, given, where) as (backend, observer):
        result = run_tables(plans, store, backend, retry_failed=retry_failed, observer=observer)
    show_tables(plans, store, given, form, to or out / "tables", print_all=table != "all")
    failed = sum(state.state == "failed" for _, state in [*result.cells, *result.transfers])
    if failed:
        sys.stderr.write(f"{failed} cells failed; they run again with --retry-failed\n")
    if result.refused is not None:
        raise result.refused
    raise typer.Exit(0 if result.complete else 1)


@paper.command(cls=Command)
@with_options(settings=False)
def show(  # noqa: PLR0913 - every option of the command is a parameter
    given: Given,
    table: _Id,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of tables.")],
    form: _Format = None,
    to: _To = None,
    model: _Model = None,
    only: _Only = None,
    seeds: _Seeds = None,
    assignments: _Set = None,
) -> None:
    """Show a table from its records, as it was run last, or as the options say."""
    from greater_ray.cli._paper_display import show_tables
    from greater_ray.paper.layout import check_format
    from greater_ray.paper.run import plan_tables

    _note(given, assignments)
    check_format(form or "text")
    store = _store(folder)
    size = store.check()
    if any((model, only, seeds, assignments)):
        plans = plan_tables(table, _view(store, size, model, only, seeds, assignments))
    else:
        plans = _as_run(table, store, size)
    show_tables(plans, store, given, form, to, print_all=to is None)


def _note(given: Given, assignments: list[str] | None) -> None:
    """Note what the user wrote, so that an error says it in these words."""
    given.written.assignments, given.written.names = written_keys(assignments or []), {"model.name": "--model"}


def _store(folder: Path) -> "PaperStore":
    from greater_ray.paper.store import PaperStore

    try:
        return PaperStore(folder)
    except StoreError as error:
        raise DataError(error.why, place=error.place) from error


def _as_run(table: str, store: "PaperStore", scale: str) -> "list[TablePlan]":
    """Return tables as they were run last; one that was not run as its scale has it."""
    from greater_ray.paper.catalog import tables
    from greater_ray.paper.plan import View, plan_table

    names = tables() if table == "all" else (table,)
    return [plan_table(name, store.view(name) or View(scale=scale)) for name in names]


def _view(
    store: "PaperStore | None",
    scale: str | None,
    model: list[str] | None,
    only: list[str] | None,
    seeds: str | None,
    assignments: list[str] | None,
) -> "View":
    """Return what the options ask for.

    Raises:
        ConfigError: one of them is wrong, or the folder is of another scale or version.
    """
    from greater_ray.grid.config import parse_only
    from greater_ray.paper.catalog import scale as known_scale
    from greater_ray.paper.plan import View

    if scale is not None:
        known_scale(scale)
    if store is not None:
        scale = store.check(scale) if store.exists or scale is not None else store.check("full")
    return View(
        scale=scale or "full",
        models=tuple(model or ()),
        seeds=_numbers(seeds),
        only=parse_only(only or []),
        settings={key: value for key, value in parse_assignments(assignments or []).items() if key != _SERVED},
    )


def _numbers(seeds: str | None) -> tuple[int, ...] | None:
    if seeds is None:
        return None
    parts: list[Any] = [part.strip() for part in seeds.split(",")]
    if not all(part.isdigit() for part in parts):
        why = f"'{seeds}' must be numbers from 0 with commas, for instance 0,1,2."
        raise ConfigError(why, setting="--seeds", value=seeds)
    return tuple(dict.fromkeys(map(int, parts)))

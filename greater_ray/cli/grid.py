"""The commands for grids: ``grid``, ``status`` and ``transfer``."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from greater_ray.cli._completion import COMPLETIONS, complete_axis, complete_grid, complete_model
from greater_ray.cli._errors import spelled_out, written_keys
from greater_ray.cli._help import Command
from greater_ray.cli._options import Given, tell_code, with_options
from greater_ray.errors import ConfigError, Interrupted, unknown_name
from greater_ray.settings import merged, parse_assignments, read_yaml

if TYPE_CHECKING:
    from greater_ray.grid.config import GridConfig
    from greater_ray.grid.run import Backend, GridObserver

_RUN, _RAY = "What to run", "Ray"

_Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of the grid; the same command continues there.")
]
_Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.", rich_help_panel=_RUN)]


def _ray_option(*names: str, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_RAY, **details)


@dataclass(frozen=True)
class Where:
    """Where a grid runs: every field is an option of the commands that run one."""

    replicas: Annotated[
        int | None,
        _ray_option(
            "--replicas",
            metavar="N",
            min=0,
            help="Replicas per model; 0 runs in this process, without Ray.",
            show_default="as many as fit",
        ),
    ] = None
    address: Annotated[
        str | None,
        _ray_option(
            "--address",
            metavar="ADDRESS",
            help="Ray to join (auto, HOST:PORT); else RAY_ADDRESS, else one of our own.",
            show_default=False,
        ),
    ] = None
    wait: Annotated[float, _ray_option("--wait", metavar="SECONDS", min=0, help="Wait for nodes to be added.")] = 0.0
    concurrency: Annotated[
        int | None,
        _ray_option("--concurrency", metavar="N", min=1, help="Cells at once.", show_default="2 per replica"),
    ] = None
    tracker: Annotated[
        list[str] | None,
        _ray_option(
            "--tracker",
            metavar="NAME",
            help="tensorboard, mlflow or wandb; may be repeated.",
            show_default=False,
            autocompletion=COMPLETIONS["--tracker"],
        ),
    ] = None
    dashboard: Annotated[bool, _ray_option("--dashboard", help="Start Ray's dashboard with a Ray of our own.")] = False

    @property
    def here(self) -> bool:
        """Whether it runs in this process."""
        return self.replicas == 0

    def settings(self) -> dict[str, Any]:
        """Return what of it belongs to the grid's config.

        Raises:
            ConfigError: an option for Ray stands beside ``--replicas 0``, or it is to wait for ever.
        """
        if not math.isfinite(self.wait):
            raise ConfigError(f"must be a number of seconds, not {self.wait}.", setting="wait", value=self.wait)
        for_ray = {f"--{f.name}": getattr(self, f.name) for f in fields(self) if f.name != "replicas"}
        if self.here and any(for_ray.values()):
            wrong = ", ".join(option for option, value in for_ray.items() if value)
            why = f"0 runs in this process, without Ray; leave out {wrong}."
            raise ConfigError(why, setting="replicas.count", value=0)
        return {"concurrency": self.concurrency} | ({"replicas": {"count": self.replicas}} if self.replicas else {})


def with_where(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``Where``; it gets them as ``where``."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "where"]
    hints = get_type_hints(Where, include_extras=True)
    added = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(Where)
    ]

    def wrapper(**values: Any) -> None:
        where = Where(**{f.name: values.pop(f.name) for f in fields(Where)})
        command(**values, where=where)

    wrapper.__signature__ = inspect.Signature(own + added)  # type: ignore[attr-defined]
    wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
    return wrapper


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(cls=Command, rich_help_panel="Grids")(grid)
    app.command(cls=Command, rich_help_panel="Grids")(status)
    app.command(cls=Command, rich_help_panel="Grids")(transfer)


@with_options(settings=False)
@with_where
def grid(  # noqa: PLR0913 - every option of the command is a parameter
    given: Given,
    where: Where,
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file of a grid, or the name of a built-in one.",
            autocompletion=complete_grid,
        ),
    ],
    out: _Out,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Show cells and an estimate of their cost; run nothing.", rich_help_panel=_RUN),
    ] = False,
    probe: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="With --plan: load the models for the estimate.", rich_help_panel=_RUN),
    ] = True,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="AXIS=PATTERN,...",
            help="Only these cells, for instance task=bbh/navigate,seed=0.",
            show_default=False,
            autocompletion=complete_axis,
            rich_help_panel=_RUN,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Models in place of the grid's.",
            show_default=False,
            rich_help_panel=_RUN,
            autocompletion=complete_model,
        ),
    ] = None,
    transfer_to: Annotated[
        list[str] | None,
        typer.Option(
            "--transfer-to",
            metavar="MODEL",
            help="Measure what was found on this model too.",
            show_default=False,
            autocompletion=complete_model,
            rich_help_panel=_RUN,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key of the grid, for instance settings.budget.steps=4.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    retry_failed: _Retry = False,
) -> None:
    """Run a grid of methods, tasks, models and seeds; what is done is never done again."""
    from greater_ray.grid.cells import expand_grid
    from greater_ray.grid.config import grid_file, load_grid, parse_only
    from greater_ray.grid.run import run_grid
    from greater_ray.grid.transfer import transfer_models

    file = grid_file(config, "CONFIG")
    given.written.file, given.written.assignments = file, written_keys(assignments or [])
    options = where.settings()
    if model:
        options["models"] = model
    if transfer_to:
        options["transfer"] = {"models": transfer_to}
    in_file = read_yaml(file)
    tell_code(file, in_file)
    layers = merged(in_file, parse_assignments(map(spelled_out, assignments or [])))
    load_grid(layers)
    parsed = load_grid(merged(layers, options))
    rule = parse_only(only or [])
    if plan:
        from greater_ray.cli._plan import print_plan

        print_plan(parsed, out, rule, given, probe=probe, replicas=where.replicas, retry_failed=retry_failed)
        return
    transfer_models(expand_grid(parsed, rule)[0].config, parsed.transfer)
    with running(parsed, out, given, where) as (backend, observer):
        result = run_grid(parsed, out, backend, only=rule, retry_failed=retry_failed, observer=observer)
    _finish(result, out, given)


@with_options(settings=False)
@with_where
def transfer(
    given: Given,
    where: Where,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a grid.")],
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="MODEL", help="Target model; may be repeated.", autocompletion=complete_model),
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="train, dev or test.",
            show_default="test",
            autocompletion=COMPLETIONS["--split"],
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the target models or their replicas, for instance model.dtype=bfloat16 or "
            "replicas.gpus=1.",
            show_default=False,
        ),
    ] = None,
    retry_failed: _Retry = False,
) -> None:
    """Measure the prompts that a grid found on other models, beside the prompts they started from."""
    from greater_ray.grid.cells import task_model
    from greater_ray.grid.config import load_grid
    from greater_ray.grid.run import run_transfer
    from greater_ray.grid.store import GridStore

    layers = _of_targets(parse_assignments(assignments or []))
    options = {"transfer": {"models": to, "splits": split or ["test"]}, **where.settings()}
    load_grid(layers)
    parsed = load_grid(merged(layers, options))
    for entry in parsed.transfer.models:
        task_model(parsed, entry)
    GridStore(folder).read_grid()
    with running(parsed, folder, given, where) as (backend, observer):
        result = run_transfer(folder, parsed.transfer, backend, retry_failed=retry_failed, observer=observer)
    _finish(result, folder, given)


def _of_targets(values: dict[str, Any]) -> dict[str, Any]:
    """Turn what ``--set`` says of target models and their replicas into layers of a grid.

    Raises:
        ConfigError: it says something else.
    """
    from greater_ray.config import ModelConfig

    for key in values:
        if key not in ("model", "replicas"):
            raise unknown_name("--set", key, ("model", "replicas"))
    allowed = ModelConfig.model_fields.keys() - {"name"}
    model = values.get("model", {})
    if not isinstance(model, dict):
        why = f"model={model} must name a setting, for instance model.dtype=bfloat16."
        raise ConfigError(why, setting="set", value=model, allowed=allowed)
    for key in model:
        if key not in allowed:
            raise unknown_name("--set: model", key, allowed)
    return {"settings": {"model": model}} | {key: values[key] for key in values if key == "replicas"}


@with_options(settings=False)
def status(given: Given, folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a grid.")]) -> None:
    """Show how far a grid is: its cells, and the replicas if it is running now."""
    from greater_ray.cli._grid_summary import print_status, status_of

    if given.json:
        from greater_ray.cli._display import as_json

        sys.stdout.write(as_json(status_of(folder)) + "\n")
        return
    print_status(folder, given)


@contextmanager
def running(parsed: "GridConfig", out: Path, given: Given, where: Where) -> "Iterator[tuple[Backend, GridObserver]]":
    """Open the screen, the signals and the place to run; an interrupt becomes its exit code."""
    from greater_ray.progress.grid import GridStop, grid_display

    stream = sys.stderr if given.json else sys.stdout
    print(f"grid folder: {out} (the same command continues there)", file=stream, flush=True)
    with GridStop() as stop:
        try:
            with grid_display(stream, out, no_color=given.no_color) as observer:
                if where.here:
                    from greater_ray.grid.run import LocalBackend

                    yield LocalBackend(stop.should_stop), observer
                    return
                observer.message("getting Ray ready")
                from greater_ray.cluster.session import on_ray

                with on_ray(
                    parsed,
                    stop,
                    observer.message,
                    address=where.address,
                    wait=where.wait,
                    trackers=where.tracker or (),
                    dashboard=where.dashboard,
                ) as backend:
                    yield backend, observer
        except Interrupted as error:
            sys.stderr.write(f"{error}\n")
            raise typer.Exit(stop.exit_code) from None
        except KeyboardInterrupt:
            sys.stderr.write("aborted; everything finished is kept, the same command continues.\n")
            raise typer.Exit(stop.exit_code) from None


def _finish(result: Any, out: Path, given: Given) -> None:
    from greater_ray.cli._grid_summary import show_result

    complete = show_result(result, out, given)
    if result.refused is not None:
        raise result.refused
    raise typer.Exit(0 if complete else 1)

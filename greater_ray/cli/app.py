"""The command ``greater-ray``: ``main`` turns arguments into an exit code.

Exit codes: 0, 1 (a failure), 2 (wrong usage, settings, data or model), 130 (Ctrl-C), 143 (SIGTERM). Heavy packages are
imported by what needs them, so that help and lists answer at once.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from greater_ray.cli._completion import COMPLETIONS, among
from greater_ray.cli._display import complain, progress_line
from greater_ray.cli._errors import Complaint, UsageError, of_the_system, usage
from greater_ray.cli._help import Command, Group
from greater_ray.cli._options import ONLY_FOR_OPTIMIZE, CellOption, Given, collect, read_prompt, with_options
from greater_ray.cli.exchange import export, import_
from greater_ray.cli.grid import register
from greater_ray.cli.paper import paper
from greater_ray.cli.schema import schema
from greater_ray.errors import ConfigError, Interrupted, redacted, shortened, unknown_name
from greater_ray.progress.door import door
from greater_ray.shown import escaped


def _print_version(wanted: bool) -> None:
    if wanted:
        from greater_ray import __version__

        typer.echo(f"greater-ray {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="greater-ray",
    help="Prompt optimization for open-weights language models (GReaTer).",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _application(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Prompt optimization for open-weights language models (GReaTer)."""


_Split = Annotated[
    str,
    typer.Option("--split", metavar="NAME", help="train, dev or test.", autocompletion=COMPLETIONS["--split"]),
]


@app.command(cls=Command, rich_help_panel="One prompt")
@with_options()
def optimize(
    given: Given,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run folder; the same command continues there.", show_default=False),
    ] = None,
) -> None:
    """Optimize a prompt and measure it before and after."""
    settings = collect(given)
    from greater_ray.assembly import local_models, resolve_config
    from greater_ray.cli._runs import default_folder
    from greater_ray.cli._summary import print_trial
    from greater_ray.progress.screen import console
    from greater_ray.progress.stop import Stop
    from greater_ray.progress.trial import display
    from greater_ray.runs import run_config

    config = resolve_config(settings)
    folder = out or default_folder(config)
    stream = sys.stderr if given.json else sys.stdout
    print(f"run folder: {folder} (the same command continues there)", file=stream, flush=True)
    with Stop() as stop:
        try:
            with display(stream, stop, no_color=given.no_color) as screen:
                screen.message("loading rows and model")
                record = run_config(
                    config,
                    folder,
                    observer=screen,
                    should_stop=stop.should_stop,
                    models=local_models(screen.message),
                )
        except Interrupted as error:
            complain(str(error))
            raise typer.Exit(stop.exit_code) from None
        except KeyboardInterrupt:
            complain("aborted; finished steps are kept, the same command continues.")
            raise typer.Exit(stop.exit_code) from None
    if not stop.graceful:
        print("this run was finished before; nothing was computed", file=stream)
    if given.json:
        sys.stdout.write(escaped(record.model_dump_json(indent=1)) + "\n")
    else:
        print_trial(console(sys.stdout, given.no_color), record)


@app.command(cls=Command, rich_help_panel="One prompt")
@with_options(ONLY_FOR_OPTIMIZE)
def evaluate(
    given: Given,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="The prompt, as it is.", show_default=False)
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", metavar="FILE", help="Read it from a file.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="FOLDER", help="Best prompt and settings of a run.", show_default=False),
    ] = None,
    cell: CellOption = None,
    split: _Split = "test",
) -> None:
    """Measure one prompt on the rows of a split."""
    if cell and run is None:
        why = "chooses a cell of a grid; give the grid's folder too, with --run."
        raise ConfigError(why, setting="cell", value=",".join(cell))
    base: dict[str, Any] = {"layout": {"frozen_prefix": ""}}
    text: str | tuple[int, ...]
    if run is None or prompt is not None or prompt_file is not None:
        if run is not None:
            raise ConfigError("--run: goes without --prompt and --prompt-file.")
        text = read_prompt(prompt, prompt_file)
    else:
        from greater_ray.cli._runs import read_run

        record = read_run(run, "--run", cell or ())
        base, text = record.config.model_dump(mode="json"), record.best.ids
        base["evaluation"] |= {"demonstrations": record.best.given() or 0, "nearest": record.best.nearest}
    from greater_ray.protocols import SPLITS

    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    from greater_ray.assembly import local_models, resolve_config
    from greater_ray.cli._summary import print_evaluation
    from greater_ray.progress.screen import console
    from greater_ray.runs import evaluate_prompt

    config = resolve_config(collect(given, base))
    progress = progress_line()
    result = evaluate_prompt(
        config,
        text,
        split,
        on_rows=lambda done, of: progress(f"{done} of {of} rows"),
        message=complain,
        models=local_models(progress),
    )
    progress("")
    if given.json:
        sys.stdout.write(escaped(result.model_dump_json(indent=1)) + "\n")
    else:
        made = " (synthetic)" if config.task.data == "synthetic" else ""
        print_evaluation(console(sys.stdout, given.no_color), result, f"{config.task.name}{made}")


@app.command("list", cls=Command, rich_help_panel="Look around")
@with_options(settings=False)
def list_(
    given: Given,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="tasks|methods|models",
            help="What to list.",
            autocompletion=among("tasks", "methods", "models"),
        ),
    ],
) -> None:
    """Show the names of tasks, methods or models."""
    from greater_ray.cli._lists import KINDS, as_text

    if kind not in KINDS:
        raise unknown_name("list", kind, KINDS)
    rows, hint = KINDS[kind]()
    if given.json:
        from greater_ray.cli._display import as_json

        sys.stdout.write(as_json(rows) + "\n")
    else:
        sys.stdout.write(as_text(rows, hint))


@app.command(cls=Command, rich_help_panel="Look around")
@with_options()
def doctor(given: Given) -> None:
    """Check that a model, rows and settings are measured correctly."""
    from greater_ray.assembly import resolve_config
    from greater_ray.cli._display import as_json
    from greater_ray.cli._doctor import Check, examine
    from greater_ray.progress.screen import console

    screen = console(sys.stdout, given.no_color)
    progress = progress_line()

    def show(check: Check) -> None:
        progress("")
        if not given.json:
            from rich.text import Text

            style = {"ok": "green", "warn": "yellow", "fail": "bold red"}[check.status]
            message = check.message if check.error is None else given.say(check.error)
            screen.print(Text.assemble((f"{check.status:<6}", style), f"{check.name:<10}{message}"), soft_wrap=True)

    config = resolve_config(collect(given))
    checks = examine(config, show, progress)
    progress("")
    failed = any(check.status == "fail" for check in checks)
    if given.json:
        sys.stdout.write(as_json({"ok": not failed, "checks": [check.to_json() for check in checks]}) + "\n")
    raise typer.Exit(1 if failed else 0)


app.command(cls=Command, rich_help_panel="One prompt")(export)
app.command("import", cls=Command, rich_help_panel="One prompt")(import_)


@app.command(cls=Command, rich_help_panel="Look around")
@with_options(settings=False)
def report(
    given: Given,
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a grid, of a run or of the papers' tables.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="The HTML file.", show_default="report.html in the folder"),
    ] = None,
    watching: Annotated[
        bool, typer.Option("--watch", help="While it runs: write it every few seconds; the page reloads itself.")
    ] = False,
) -> None:
    """Write results, costs and the life of every prompt as one HTML file, which opens in a browser."""
    from greater_ray.report import watch, write_report
    from greater_ray.results import load

    path = to or folder / "report.html"
    if watching:
        complain(f"open {path} in a browser; Ctrl-C ends the watch, not what it watches")
        progress = progress_line()
        made = watch(folder, path, lambda report: progress(_states(report.overview["states"])))
        progress("")
    else:
        made = write_report(load(folder), path)
    if given.json:
        from greater_ray.cli._display import as_json

        sys.stdout.write(as_json({"file": str(path), "cells": made.overview["states"]}) + "\n")
        return
    size = path.stat().st_size / 2**20
    sys.stdout.write(f"report: {path} ({size:.1f} MiB; cells: {_states(made.overview['states'])})\n")


def _states(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in numbers.items()) or "none"


register(app)
app.command(cls=Command, rich_help_panel="Look around")(schema)
app.add_typer(paper, rich_help_panel="Grids")


def run(args: list[str]) -> int:
    """Run one command and return its exit code; an error is one sentence, with a traceback only for --debug."""
    with door():
        return _run(args)


def _run(args: list[str]) -> int:
    debug = "--debug" in args
    try:
        code = typer.main.get_command(app).main(args=args, prog_name="greater-ray", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        complain("stopped.")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing more can be written there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort; --debug shows where it came from
        if debug and not isinstance(error, UsageError):
            traceback.print_exc()
        return _report(error, args)


def _report(error: Exception, args: list[str]) -> int:
    if isinstance(error, UsageError):
        message = usage(error, args)
        if message:
            complain(f"error: {message}")
        return 2
    if isinstance(error, Complaint):
        complain(f"error: {error}")
        return error.code
    said = of_the_system(error) if isinstance(error, OSError) else None
    if said is not None:
        complain(f"error: {redacted(said[0])}")
        return said[1]
    reason = redacted(shortened(" ".join(str(error).split()))) or "no message"
    complain(f"internal error: {type(error).__name__}: {reason}; run again with --debug to see where.")
    return 1


def main() -> None:
    """Entry point of the command ``greater-ray``."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()

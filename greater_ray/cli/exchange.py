"""The commands ``export`` and ``import``: prompts in the forms of other programs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from greater_ray.cli._completion import complete_format
from greater_ray.cli._display import complain
from greater_ray.cli._options import CellOption, Given, with_options
from greater_ray.errors import ConfigError
from greater_ray.progress.door import hand_out


@with_options(settings=False)
def export(
    given: Given,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or of a grid.")],
    cell: CellOption = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="text, messages, json, openai, promptfoo, lm-eval, lm-eval-results, dspy, inspect or dataset.",
            autocompletion=complete_format,
        ),
    ] = "text",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="PATH", help="Write a file or folder instead.", show_default=False)
    ] = None,
) -> None:
    """Print the best prompt of a run, or write it in the form of another program."""
    from greater_ray.cli._runs import exported
    from greater_ray.export import as_text, save

    if given.json and form == "text":
        form = "json"
    content = exported(run, form, cell or ())
    if to is not None:
        for path in save(content, to):
            complain(f"wrote {path}")
        return
    text = as_text(content)
    if text is None:
        why = f"'{form}' is no text to print; name a file or folder by §to."
        raise ConfigError(why, setting="format", value=form)
    hand_out(text + "\n")


@with_options(settings=False)
def import_(
    given: Given,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Text, chat messages, DSPy, promptfoo or lm-eval.", show_default=False),
    ],
    settings: Annotated[
        bool, typer.Option("--settings", help="Print YAML for --config: the prompt as start prompt, placed as it was.")
    ] = False,
) -> None:
    """Print the prompt that a file of another program holds."""
    from dataclasses import asdict

    from greater_ray.cli._display import as_json
    from greater_ray.published import read_published

    found = read_published(file)
    if found.left_out:
        complain(f"{found.left_out} worked examples are left out; evaluation.demonstrations takes some")
    if given.json:
        sys.stdout.write(as_json(asdict(found)) + "\n")
    elif settings:
        import yaml

        hand_out(yaml.safe_dump(found.settings(), sort_keys=False, allow_unicode=True))
    else:
        hand_out(found.prompt.strip() + "\n")

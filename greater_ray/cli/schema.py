"""The command ``schema``: what an editor needs to complete and check the YAML files."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from greater_ray.cli._completion import among
from greater_ray.cli._options import Given, with_options
from greater_ray.errors import ConfigError


@with_options(settings=False)
def schema(
    given: Given,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="trial|grid|profile",
            help="Settings of a run (--config), a grid, or the profile of a built-in model.",
            autocompletion=among("trial", "grid", "profile"),
        ),
    ] = "trial",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write it to a file instead.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of a YAML file, by which editors complete and check it.

    A YAML file names it in its first line:

    `# yaml-language-server: $schema=trial.schema.json`
    """
    from greater_ray.schema import editor_line
    from greater_ray.schema import schema as schema_of

    text = json.dumps(schema_of(kind), indent=1, ensure_ascii=False) + "\n"
    if to is None:
        sys.stdout.write(text)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"'{to}' cannot be written ({error.strerror}).", setting="to", value=to) from error
    sys.stderr.write(f"wrote {to}; the first line of a YAML file beside it:\n")
    sys.stdout.write(editor_line(to.name) + "\n")

"""A page for every command: how it is called, what it does, and its options, as its help has them."""

from collections.abc import Iterator
from typing import Any

import option_pages
import site_links
import typer

from greater_ray.cli._options import SETTINGS
from greater_ray.cli.app import app

# The setting of an option, by option and panel: a name such as --model means something else to another command.
_KEYS = {(setting.option, setting.panel): setting.key for setting in SETTINGS}


def commands() -> dict[str, Any]:
    """Return every command by what is typed behind ``greater-ray``."""
    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _place(name: str) -> str:
    return f"commands/{name.replace(' ', '-')}.md"


def pages() -> dict[str, str]:
    """Return the Markdown of all pages."""
    found = commands()
    groups: dict[str, list[str]] = {}
    for name, command in found.items():
        groups.setdefault(getattr(command, "rich_help_panel", None) or "Grids", []).append(
            f"| [`greater-ray {name}`]({_place(name).removeprefix('commands/')}) | {_first(command)} |"
        )
    tables = "".join(
        f"## {panel}\n\n| command | what it does |\n| --- | --- |\n" + "\n".join(rows) + "\n\n"
        for panel, rows in groups.items()
    )
    text = (
        "# Commands\n\n`greater-ray --help` and `greater-ray COMMAND --help` say the same in a terminal. "
        "A shell can [complete](../settings.md#in-a-shell) commands, options and names.\n\n"
        "Exit codes: 0, 1 (a failure), 2 (wrong usage, settings or data), 130 (Ctrl-C), 143 (SIGTERM).\n\n"
    )
    toc = site_links.contents(f"{name} <{name.replace(' ', '-')}>" for name in found)
    return {"commands/index.md": text + tables + toc} | {
        _place(name): _page(name, command) for name, command in found.items()
    }


def _first(command: Any) -> str:
    return str(command.help or "").partition("\n")[0]


def _page(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"greater-ray {name}")
    usage = " ".join([f"greater-ray {name}", *command.collect_usage_pieces(context)])
    arguments: list[str] = []
    panels: dict[str, list[tuple[str, str, str]]] = {}
    for param in command.get_params(context):
        if param.param_type_name == "argument":
            arguments.append(f"| `{param.metavar or param.name}` | {_described(param)} |")
        elif not getattr(param, "hidden", False):
            panel = getattr(param, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append(_option(param))
    text = f"# greater-ray {name}\n\n{command.help or ''}\n\n```sh\n{usage}\n```\n\n"
    if arguments:
        text += "## Arguments\n\n| argument | |\n| --- | --- |\n" + "\n".join(arguments) + "\n\n"
    for panel, rows in panels.items():
        # The last column has the setting that an option stands for, where there is one.
        columns = 3 if any(row[2] for row in rows) else 2
        head = "| option | | setting |\n| --- | --- | --- |\n" if columns == 3 else "| option | |\n| --- | --- |\n"
        text += f"## {panel}\n\n{head}" + "".join(f"| {' | '.join(row[:columns])} |\n" for row in rows) + "\n"
    return text


def _option(param: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    shown = param.metavar if param.metavar and not param.is_flag else ""
    key = _KEYS.get((param.opts[0], getattr(param, "rich_help_panel", None) or ""))
    link = f"[`{key}`](../options/{option_pages.place_of(key)})" if key else ""
    return f"{names} `{shown}`" if shown else names, _described(param), link


def _described(param: Any) -> str:
    text = str(param.help or "").replace("|", "\\|")
    default = param.show_default if isinstance(param.show_default, str) else None
    if default is None and param.show_default and not param.required and param.default not in (None, False, True, ""):
        default = f"`{param.default}`" if not callable(param.default) else None
    return f"{text} Default: {default}." if default else text

"""Errors in the words of the command line: a setting is the option that the user wrote, or a line of their file."""

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import typer

from greater_ray.errors import ConfigError, DataError, GreaterRayError, WrongModelError, shortened
from greater_ray.settings import line_in_yaml

# The base of all complaints about arguments; which package it comes from depends on typer's version.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
# Settings that are no key of a trial's config, by the option that gives them.
ARGUMENTS = {
    "address": "--address",
    "cell": "--cell",
    "concurrency": "--concurrency",
    "config": "--config",
    "file": "FILE",
    "folder": "OUT",
    "format": "--format",
    "only": "--only",
    "out": "--out",
    "prompt": "--prompt",
    "prompt_file": "--prompt-file",
    "replicas.count": "--replicas",
    "scale": "--scale",
    "set": "--set",
    "split": "--split",
    "table": "ID",
    "to": "--to",
    "tracker": "--tracker",
    "transfer.models": "--transfer-to",
    "wait": "--wait",
}


# What whoever gave it has to change, and nothing around it: exit code 2.
_TO_BE_MENDED = (ConfigError, DataError, WrongModelError)
# Of a path: too long, links in a circle, or with what no name can hold.
_OF_A_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


@dataclass
class Written:
    """What the user wrote: ``file`` is the YAML file of settings, ``options`` those that stand on the command line.

    ``names`` has the option of every key that has one, ``assignments`` the keys that ``--set`` gives, as written.
    """

    file: Path | None = None
    options: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    assignments: frozenset[str] = frozenset()

    def option(self, key: str) -> str:
        """Return the option that gives a setting, or its key where there is none."""
        names = ARGUMENTS | self.names
        return names.get(key) or names.get(f"{key}.name") or key

    def origin(self, key: str) -> str:
        """Say where the user gave a setting."""
        for given in self.assignments:
            own = spelled_out(given)
            if own == key or own.startswith(f"{key}.") or key.startswith(f"{own}."):
                return f"--set {key if own == given else key.replace('method_config.', 'method.', 1)}"
        option = self.option(key)
        if self.file is None or option in self.options:
            return option
        # In a grid's file the settings of its trials stand under a key of their own.
        for below in (None, "settings"):
            line = line_in_yaml(self.file, key, below)
            if line is not None:
                return f"'{self.file}', line {line}: {key}"
        return option


def written_keys(assignments: Iterable[str]) -> frozenset[str]:
    """Return the keys that ``--set`` gives, as they were written."""
    return frozenset(text.partition("=")[0] for text in assignments)


def spelled_out(assignment: str) -> str:
    """Write ``method_config.NAME`` for ``method.NAME``, which is enough on the command line."""
    return re.sub(r"^(settings\.)?method\.", r"\1method_config.", assignment)


class Complaint(Exception):  # noqa: N818 - what the command line says, not what went wrong
    """An error as the command line says it, with the exit code that belongs to it."""

    def __init__(self, error: GreaterRayError, written: Written) -> None:
        super().__init__(sentence(error, written))
        self.code = 2 if isinstance(error, _TO_BE_MENDED) else 1


def sentence(error: GreaterRayError, written: Written) -> str:
    """Say an error in the words of the command line."""
    return shortened(error.told(written.option, heading=written.origin))


def of_the_system(error: OSError) -> tuple[str, int] | None:
    """Say in one sentence what the system refused, with its exit code; None where it names no file."""
    if error.filename is None or not error.strerror:
        return None
    return f"'{shortened(str(error.filename))}': {error.strerror[0].lower()}{error.strerror[1:]}.", (
        2 if error.errno in _OF_A_PATH else 1
    )


def usage(error: Exception, args: list[str]) -> str:
    """Say in one sentence what is wrong with the arguments."""
    option, close = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if close and option is not None:
        return f"{option}: no such option. Did you mean '{close[0]}'?"
    message = shortened(str(error.format_message() if hasattr(error, "format_message") else error).rstrip("."))
    found = re.match(r"Invalid value for '(--[a-z-]+)': (.*)", message)
    if found is None:
        return message if message.endswith("?") or not message else f"{message}."
    name, reason = found.groups()
    values = [b for a, b in pairwise(args) if a == name] + [
        a[len(name) + 1 :] for a in args if a.startswith(f"{name}=")
    ]
    shown = f", not '{values[-1]}'" if values else ""
    return f"{name}: {reason[0].lower()}{reason[1:].partition(',')[0]}{shown}."

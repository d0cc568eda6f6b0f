"""What a run found, in the forms of other programs: one module per format, found by its name.

A module of this package is a format if it holds one as ``PLUGIN``. Every format is a function of a record (or, where it
is about answers, of results) that gives the content: text, a JSON value, bytes, or several files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import dumps  # the module ``json`` of this package is a format
from pathlib import Path
from typing import Any

from greater_ray.errors import ConfigError
from greater_ray.plugins import available, load
from greater_ray.records import TrialRecord
from greater_ray.results import Results


class Files(dict[str, str]):
    """Several text files that belong together, by name."""


@dataclass(frozen=True)
class Format:
    """A format: ``write`` gives text, a JSON value, bytes or ``Files``.

    Where ``of_results`` is set, it is a function of the results of a whole folder instead of one record.
    """

    description: str
    write: Callable[[Any], Any]
    of_results: bool = False


def formats() -> dict[str, Format]:
    """Return all formats of the package by name."""
    return {name: load("export", name) for name in available("export")}


def form_of(name: str) -> Format:
    """Return a format by its name, or by ``package.module:Name`` one of another package.

    Raises:
        ConfigError: there is none of this name.
    """
    found = load("export", name)
    if not isinstance(found, Format):
        raise ConfigError(f"'{name}' is no greater_ray.export.Format.", setting="format", value=name)
    return found


def export(record: TrialRecord, form: str) -> Any:
    """Return the best prompt of a record in a format that is about one prompt.

    Raises:
        ConfigError: an unknown format, one about a whole folder, or one that cannot hold this prompt.
        DataError: the format holds rows of the task, and they are gone.
    """
    chosen = form_of(form)
    if chosen.of_results:
        raise ConfigError(f"'{form}' is about the results of a folder, not one record.", setting="format", value=form)
    return chosen.write(record)


def export_results(results: Results, form: str) -> Any:
    """Return the results of a folder in a format that is about all of them.

    Raises:
        ConfigError: an unknown format, or one about a single prompt.
        StoreError: a record cannot be read.
    """
    chosen = form_of(form)
    if not chosen.of_results:
        raise ConfigError(f"'{form}' is about one record, not the results of a folder.", setting="format", value=form)
    return chosen.write(results)


def as_text(content: Any) -> str | None:
    """Return what can be printed: text as it is, JSON with line breaks; nothing for bytes and several files."""
    if isinstance(content, bytes | Files):
        return None
    return content if isinstance(content, str) else dumps(content, indent=1, ensure_ascii=False)


def save(content: Any, target: Path) -> list[Path]:
    """Write the content of a format to a file, or several files into a folder, and return what was written.

    Raises:
        ConfigError: something is there already, or it cannot be written.
    """
    if isinstance(content, Files):
        files: Mapping[Path, str | bytes] = {target / name: text for name, text in content.items()}
    else:
        text = as_text(content)
        files = {target: content if text is None else text.removesuffix("\n") + "\n"}
    for path in files:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"'{path}' is there already.", setting="to", value=str(target))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
    except (OSError, UnicodeEncodeError) as error:
        why = f"'{target}' cannot be written ({getattr(error, 'strerror', None) or error})."
        raise ConfigError(why, setting="to", value=str(target)) from error
    return list(files)

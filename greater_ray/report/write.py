"""One self-contained file: the page, its style and script, and the data, compressed and opened on demand."""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from greater_ray.errors import ConfigError, StoreError
from greater_ray.files import write_atomic
from greater_ray.report.collect import Detail, Report, collect, packed
from greater_ray.results import Results

# Characters of a file's details; the overview of all cells comes on top of it.
SIZE_LIMIT = 24 * 2**20
# By this a file is known as one that may be written again.
_GENERATOR = '<meta name="generator" content="greater-ray report">'
# Nothing is allowed but the script and the style of this very file, by their hashes.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"
# One closure, in this order; each file has one subject.
_SCRIPTS = (
    "text.js", "data.js", "draw.js", "filters.js", "table.js", "scores.js", "costs.js", "cell.js", "rows.js",
    "method.js", "live.js", "page.js",
)  # fmt: skip


def write_report(results: Results, path: Path, limit: int = SIZE_LIMIT, refresh: float | None = None) -> Report:
    """Write a report; a file that is there already is written anew if it is a report.

    Args:
        results: of a grid or a run, finished or not.
        path: the HTML file.
        limit: characters that the details of all cells may take together. Timelines come first, then a few rows won
            and lost of every cell, then all of them, each in the order of the cells; what does not fit is left out, and
            the page tells where its record is.
        refresh: seconds after which the page reloads itself, since it will be written again.

    Raises:
        ConfigError: something else is at ``path``, or it cannot be written. Nothing is overwritten.
    """
    _refuse_other(path)
    report = collect(results)
    text = page_of(report, limit, refresh)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except (OSError, StoreError) as error:
        why = f"'{path}' cannot be written ({error.strerror})." if isinstance(error, OSError) else error.why
        raise ConfigError(why, setting="to", value=str(path)) from error
    return report


def _refuse_other(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"'{path}' is a folder; give the name of a file.", setting="to", value=str(path))
    try:
        with path.open("rb") as file:
            if _GENERATOR.encode() not in file.read(1000):
                why = f"'{path}' is there and no report; choose another name."
                raise ConfigError(why, setting="to", value=str(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}).", setting="to", value=str(path)) from error


def page_of(report: Report, limit: int = SIZE_LIMIT, refresh: float | None = None) -> str:
    """Return the text of the file. No text of a record stands in it other than compressed or escaped."""
    blocks, kept = _blocks(report.details, limit)
    overview = report.overview | {"kept": kept, "limit": limit, "refresh": refresh}
    parts = files("greater_ray.report").joinpath("page")
    style = parts.joinpath("page.css").read_text(encoding="utf-8")
    script = "\n".join(parts.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    values = {
        "generator": _GENERATOR,
        "policy": f"{_POLICY}; script-src {_hash(script)}; style-src {_hash(style)}",
        "name": html.escape(str(overview["name"]).encode("utf-8", "replace").decode()),
        "style": style,
        "script": script,
        "data": "\n".join([_block("overview", packed(overview)), *blocks]),
    }
    text = parts.joinpath("page.html").read_text(encoding="utf-8")
    pieces = text.split("{{")
    return pieces[0] + "".join(values[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))


def _blocks(details: Sequence[Detail | None], limit: int) -> tuple[list[str], list[int]]:
    """Return the blocks that fit, and for every cell what is kept: 0 nothing, 1 the timeline, 3 the rows too."""
    lives, rows, left = dict[int, str](), dict[int, str](), limit
    there = [(number, detail) for number, detail in enumerate(details) if detail is not None]
    for number, detail in there:
        block = _block(f"life-{number}", detail.life)
        if len(block) <= left:
            lives[number], left = block, left - len(block)
    # Every cell has a few rows before one has all of them.
    for part in ("few_rows", "rows"):
        for number, detail in there:
            block, before = _block(f"rows-{number}", getattr(detail, part)), len(rows.get(number, ""))
            if number in lives and len(block) - before <= left:
                rows[number], left = block, left - (len(block) - before)
    kept = [(number in lives) + 2 * (number in rows) for number in range(len(details))]
    return [*lives.values(), *rows.values()], kept


def _block(name: str, data: bytes) -> str:
    return f'<script type="application/octet-stream" id="{name}">{base64.b64encode(data).decode()}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""A table as words: its caption, the matrix as in the paper, and a line for every number with all that is known of it.

``document`` puts them together once; text, Markdown, CSV and JSON are forms of it. LaTeX is in ``latex.py``.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greater_ray.errors import unknown_name
from greater_ray.paper.catalog import prompt_source, scale
from greater_ray.paper.latex import latex
from greater_ray.paper.measure import Filled, Value, outcomes
from greater_ray.provenance import package_version
from greater_ray.statistics import Interval

_LONGEST = 60  # characters of a reason in the matrix
_LISTED = 2  # records that a line names; JSON and CSV name all
CUT = "+"
STRANGE = "*"


@dataclass(frozen=True)
class Document:
    """A table in words. ``groups`` are the headings above rows of the matrix, by the number of the row."""

    name: str
    title: str
    caption: tuple[str, ...]
    heading: tuple[str, ...]
    matrix: tuple[tuple[str, ...], ...]
    groups: dict[int, str]
    line_heading: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def document(filled: Filled, remarks: Sequence[str] = ()) -> Document:
    """Return a table in words; ``remarks`` are further sentences of the caption."""
    plan = filled.plan
    rows: list[tuple[str, ...]] = []
    groups: dict[int, str] = {}
    group = ""
    for number, row in enumerate(plan.table.rows):
        if row.group != group:
            group = row.group
            groups[number] = group
        rows.append((row.label, *(_cell(filled.of(plan.at(row, column))) for column in plan.columns)))
    return Document(
        name=plan.table.name,
        title=plan.table.title,
        caption=(*_caption(filled), *remarks),
        heading=("", *(column.label for column in plan.columns)),
        matrix=tuple(rows),
        groups=groups,
        line_heading=(
            "row", "column", "published", "ours", "rows x seeds", "to published", "to reference", "p (Holm)", "verdict",
            "tokens", "seconds", "records",
        ),
        lines=tuple(_line(value) for value in filled.values),
        notes=(*_figure_notes(filled), *plan.table.notes),
    )  # fmt: skip


def percent(value: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * value:.1f}"


def limits(found: Interval, sign: str = "") -> str:
    """Write an interval as percentages."""
    return f"{100 * found.estimate:{sign}.1f} [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]"


# -- the parts ---------------------------------------------------------------------------------------------------------


def _caption(filled: Filled) -> list[str]:
    """Say where both kinds of numbers come from, and every change to what the paper did."""
    plan, view = filled.plan, filled.plan.view
    cells = [cell for number in plan.numbers for cell in number.all_cells]
    told = [f"Published: {plan.table.source}.", f"Ours: greater-ray {package_version()}, scale {view.scale}."]
    data = sorted({cell.config.task.data for cell in cells})
    told.append(f"Rows: {', '.join('synthetic (made, not the benchmark)' if d == 'synthetic' else d for d in data)}.")
    told.append(f"Models: {', '.join(sorted({cell.config.model.name for cell in cells}))}.")
    if plan.stand_ins:
        told.append("Stand-ins: " + ", ".join(f"{new} for {old}" for old, new in plan.stand_ins.items()) + ".")
    size = scale(view.scale)
    told += [f"Scale {view.scale}: {size.about}."] if size.settings else []
    told += view.overrides
    told.append("In percent: ours (published). " + _question(filled))
    if any(value.number.cut for value in filled.values):
        told.append(f"{CUT} the published prompt is cut short by its source, and measured so.")
    for value in filled.values:
        if value.strange:
            where = f"{value.number.row.label}, {value.number.column.label}"
            told.append(f"{STRANGE} {where}: {'; '.join(value.strange)}; compared with nothing.")
    sets = [row.prompts for row in plan.table.rows if row.prompts and row.prompts not in ("none", "empty")]
    sources = dict.fromkeys(map(prompt_source, sets))
    return [*told, f"Prompts: {'; '.join(sources)}."] if sources else told


def _question(filled: Filled) -> str:
    kinds = {value.compared.methods for value in filled.values if value.compared is not None}
    if not kinds:
        return "Nothing is compared yet."
    about = {True: "the methods, on new rows and under new seeds", False: "the prompts found, on new rows"}
    return f"p is about {' or '.join(about[kind] for kind in sorted(kinds))}; Holm within this table."


def _figure_notes(filled: Filled) -> list[str]:
    if filled.plan.table.figure != "outcomes":
        return []
    name = filled.plan.table.against
    return [
        f"{name} against {label}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + "."
        for label, counts in outcomes(filled)
    ]


def _cell(value: Value) -> str:
    """Return a number as the matrix has it: ours, marks, and what was published."""
    if value.score is not None:
        ours = percent(value.score.estimate)
    elif value.state == "none":
        ours = "-"
    else:
        ours = _shortened(value.reason or value.state)
    marks = (CUT if value.number.cut else "") + (STRANGE if value.strange else "")
    theirs = [f"{p.value:g}" for p in value.number.published if p.value is not None]
    return f"{ours}{marks}" + (f" ({'; '.join(theirs)})" if theirs else "")


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _line(value: Value) -> tuple[str, ...]:
    number, score, compared = value.number, value.score, value.compared
    several = len(number.published) > 1
    theirs = [f"{p.column} {p.value:g}" if several else f"{p.value:g}" for p in number.published if p.value is not None]
    apart = [
        f"{100 * score.estimate - p.value:+.1f}"
        for p in number.published
        if p.value is not None and score is not None and value.comparable
    ]
    group = f"{number.row.group}: " if number.row.group else ""
    return (
        f"{group}{number.row.label}",
        number.column.label,
        "; ".join(theirs) or "-",
        limits(score) if score is not None else value.reason or value.state,
        f"{value.rows} x {value.seeds}" if score is not None else "-",
        "; ".join(apart) or "-",
        limits(compared.difference, "+") if compared is not None else "-",
        f"{compared.p_value:.2g}" if compared is not None else "-",
        compared.verdict if compared is not None else "-",
        f"{value.tokens:,}" if value.folders else "-",
        f"{value.seconds:.0f}" if value.folders else "-",
        _records(value),
    )


def _records(value: Value) -> str:
    names = [folder.name for folder in value.folders]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more or "-"


# -- forms -------------------------------------------------------------------------------------------------------------


def text(found: Document) -> str:
    """Return a table for a terminal."""
    parts = [f"{found.name}: {found.title}", *found.caption, ""]
    parts += _aligned(found.heading, found.matrix, found.groups)
    parts += ["", *_aligned(found.line_heading, found.lines, {})]
    parts += ["", *(f"- {note}" for note in found.notes)] if found.notes else []
    return "\n".join(parts) + "\n"


def _aligned(heading: Sequence[str], rows: Sequence[Sequence[str]], groups: dict[int, str]) -> list[str]:
    widths = [max(map(len, values)) for values in zip(heading, *rows, strict=True)]
    lines = ["  ".join(value.ljust(width) for value, width in zip(heading, widths, strict=True)).rstrip()]
    for number, row in enumerate(rows):
        lines += [f"{groups[number]}:"] if number in groups else []
        lines.append("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    return lines


def markdown(found: Document) -> str:
    """Return a table in Markdown."""

    def table(heading: Sequence[str], rows: Sequence[Sequence[str]], groups: dict[int, str]) -> list[str]:
        lines = [_bars(heading), _bars(["---"] * len(heading))]
        for number, row in enumerate(rows):
            lines += [_bars([f"**{groups[number]}**", *[""] * (len(heading) - 1)])] if number in groups else []
            lines.append(_bars(row))
        return lines

    parts = [f"### {found.name}: {found.title}", "", *(f"{line}  " for line in found.caption), ""]
    parts += table(found.heading, found.matrix, found.groups)
    parts += ["", *table(found.line_heading, found.lines, {})]
    parts += ["", *(f"- {note}" for note in found.notes)] if found.notes else []
    return "\n".join(parts) + "\n"


def _bars(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"


def records(filled: Filled) -> list[dict[str, Any]]:
    """Return one mapping for every number and published value; shares and percentages as their names say."""
    told = []
    for value in filled.values:
        number, compared = value.number, value.compared
        for published in number.published or ():
            theirs = published.value
            apart = (
                100 * value.score.estimate - theirs
                if value.score is not None and theirs is not None and value.comparable
                else None
            )
            told.append(
                {
                    "table": filled.plan.table.name,
                    "scale": filled.plan.view.scale,
                    "group": number.row.group,
                    "row": number.row.label,
                    "column": number.column.label,
                    "state": value.state,
                    "reason": value.reason,
                    "ours_percent": None if value.score is None else 100 * value.score.estimate,
                    "low_percent": None if value.score is None else 100 * value.score.low,
                    "high_percent": None if value.score is None else 100 * value.score.high,
                    "rows": value.rows,
                    "seeds": value.seeds,
                    "published_column": published.column,
                    "published_percent": theirs,
                    "same_model": published.same_model,
                    "to_published_points": apart,
                    "reference": compared.reference if compared else None,
                    "difference_points": 100 * compared.difference.estimate if compared else None,
                    "difference_low_points": 100 * compared.difference.low if compared else None,
                    "difference_high_points": 100 * compared.difference.high if compared else None,
                    "p_value_holm": compared.p_value if compared else None,
                    "question": None if compared is None else "methods" if compared.methods else "prompts",
                    "verdict": compared.verdict if compared else None,
                    "tokens": value.tokens,
                    "seconds": round(value.seconds, 1),
                    "prompt_cut": number.cut,
                    "differs": "; ".join(value.strange),
                    "records": [str(folder) for folder in value.folders],
                }
            )
    return told


def as_csv(filled: Filled) -> str:
    """Return a table as CSV: one line for every number and published value, records joined by semicolons.

    A text that a spreadsheet would compute has an apostrophe in front.
    """
    rows = [{**row, "records": ";".join(row["records"])} for row in records(filled)]
    rows = [{name: _inert(value) for name, value in row.items()} for row in rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def as_json(filled: Filled, remarks: Sequence[str] = ()) -> str:
    """Return a table as JSON, with its caption and notes."""
    found = document(filled, remarks)
    value = {
        "table": found.name,
        "title": found.title,
        "source": filled.plan.table.source,
        "caption": list(found.caption),
        "notes": list(found.notes),
        "view": filled.plan.view.model_dump(mode="json"),
        "complete": filled.complete,
        "numbers": records(filled),
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


# Forms by name, with the ending of their files.
FORMATS: dict[str, tuple[str, Callable[[Filled, Sequence[str]], str]]] = {
    "text": ("txt", lambda filled, remarks: text(document(filled, remarks))),
    "markdown": ("md", lambda filled, remarks: markdown(document(filled, remarks))),
    "latex": ("tex", lambda filled, remarks: latex(document(filled, remarks))),
    "csv": ("csv", lambda filled, remarks: as_csv(filled)),
    "json": ("json", as_json),
}


def shown(filled: Filled, form: str, remarks: Sequence[str] = ()) -> str:
    """Return a table in one of ``FORMATS``.

    Raises:
        ConfigError: there is no such form.
    """
    check_format(form)
    return FORMATS[form][1](filled, remarks)


def check_format(form: str) -> None:
    """Refuse a form that is not there.

    Raises:
        ConfigError: there is no such form.
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)

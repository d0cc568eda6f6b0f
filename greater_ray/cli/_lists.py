"""What there is to choose from."""

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]


def tasks() -> tuple[Rows, str]:
    """Tasks and groups of tasks."""
    from greater_ray.tasks import available_groups, available_tasks

    rows: Rows = [
        {
            "name": task.name,
            "answer_type": task.answer_type,
            "groups": list(task.groups),
            "synthetic": task.synthetic,
            "description": task.description,
        }
        for task in available_tasks()
    ]
    groups = ", ".join(f"{name} ({len(members)})" for name, members in sorted(available_groups().items()))
    return rows, f"groups: {groups}\nown rows: --rows FILE.jsonl or FILE.csv; without a network: --data synthetic\n"


def methods() -> tuple[Rows, str]:
    """Optimizers and where they are from."""
    from greater_ray.plugins import available, load

    rows: Rows = []
    for name in available("methods"):
        method = load("methods", name)
        presets = sorted({"paper", *method.presets})
        rows.append({"name": name, "presets": presets, "source": method.source, "description": method.summary})
    return rows, "an own method: --method package.module:Name\n"


def models() -> tuple[Rows, str]:
    """Built-in models."""
    from greater_ray.models.sources import list_models

    rows: Rows = [{"name": m.name, "license": m.license, "description": m.summary} for m in list_models()]
    return rows, "or: a model folder, a GGUF file, or a hub id such as org/name (--revision pins it)\n"


KINDS: dict[str, Callable[[], tuple[Rows, str]]] = {"tasks": tasks, "methods": methods, "models": models}


def as_text(rows: Rows, hint: str) -> str:
    """Align the columns; plain text for eyes and grep."""
    written = [[_cell(key, value) for key, value in row.items()] for row in rows]
    header = [key.replace("_", " ") for key in rows[0]] if rows else []
    table = [header, *written]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join(lines) + "\n\n" + hint


def _cell(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key if value else "-"
    if isinstance(value, list):
        return ",".join(value) or "-"
    return "-" if value is None else str(value)

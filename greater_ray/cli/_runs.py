"""Reading run folders, and handing prompts to other programs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, GreaterRayError, StoreError, unknown_name
from greater_ray.grid.config import parse_only
from greater_ray.grid.store import GRID_FILE
from greater_ray.records import TrialRecord
from greater_ray.results import load
from greater_ray.types import SWITCHES, Demonstration, Layout

FORMATS = ("text", "messages", "json")


def read_run(folder: Path, option: str = "RUN", cell: Sequence[str] = ()) -> TrialRecord:
    """Return the record of a finished run, or of the finished cell of a grid that ``cell`` names by its labels.

    Raises:
        StoreError: the folder is missing, holds no run, or its run is not finished.
        ConfigError: no cell of the grid, or more than one, has these labels.
    """
    try:
        results = load(folder)
    except StoreError as error:
        raise StoreError(f"{option}: {error}") from error
    if (folder / GRID_FILE).exists():
        return results.one(parse_only(cell, "cell")).record
    if cell:
        why = f"'{folder}' holds a single run, which has no cells to choose from."
        raise ConfigError(why, setting="cell", value=",".join(cell))
    (single,) = results.cells
    if not single.done:
        raise StoreError(f"{option}: the run in '{folder}' is not finished; the command that began it continues it.")
    return single.record


def default_folder(config: TrialConfig) -> Path:
    """Return where a run goes that was given no folder: the same settings always mean the same folder."""
    model = Path(config.model.name).name
    words = (*config.task.name.split("/"), model, config.method.rpartition(":")[2], f"seed{config.seed}")
    slug = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)
    return Path("runs") / f"{slug}-{config.trial_id()[:8]}"


def export(record: TrialRecord, form: str) -> Any:
    """Return the best prompt as text, as chat messages, or as JSON with all that is needed to use it.

    Messages have the prompt where the search had it, the demonstrations that it was measured with, and ``{question}``
    for the question. Where a question has demonstrations of its own, JSON has their pool and the rule instead.

    Raises:
        ConfigError: an unknown format, or messages where there are none that serve every question.
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    from greater_ray.tasks import extractor, load_task

    if form == "text":
        return record.best.full_text
    layout = record.config.make_layout("", "")
    best = record.best
    if best.nearest and form == "messages":
        why = f"every question has {best.nearest} demonstrations of its own; json gives the pool and the rule."
        raise ConfigError(why, setting="format", value=form, allowed=("text", "json"))
    if best.demonstrations:
        layout = record.config.make_layout(*extractor(load_task(record.config.task), record.config.task.extractor))
        shown = tuple(Demonstration(**d.model_dump()) for d in best.demonstrations)
        layout = replace(layout, demonstrations=shown, demonstrated=best.text)
    chosen: dict[str, Any] = {}
    system_role = record.model.get("system_role", True)
    if best.nearest:
        chosen = {"demonstrations": _rule(layout, best.nearest, system_role)}
        layout = replace(layout, demonstrations=(), system=layout.system if system_role else None)
    turns = layout.conversation("{question}", best.text, system_role=system_role)
    messages = [turn._asdict() for turn in turns]
    if form == "messages":
        return messages
    return {
        "prompt": record.best.full_text,
        "messages": messages,
        **chosen,
        "placement": layout.placement,
        # For ``apply_chat_template``; a template ignores a name that it does not read.
        "chat_template_kwargs": {} if layout.thinking is None else dict.fromkeys(SWITCHES, layout.thinking),
        "extractor": {"variant": record.config.task.extractor, "glue": layout.glue, **_extractor(record.config)}
        | ({"turn": "user"} if layout.extractor_turn else {}),
        "model": record.model,
        "task": record.task,
        "trial_id": record.trial_id,
    }


def _rule(layout: Layout, nearest: int, system_role: bool) -> dict[str, Any]:
    """Return what it takes to put the demonstrations of a question in front of it."""
    # A system message stands before all turns, as part of the first one where the template has no role for it.
    first = "" if system_role or layout.system is None else f"{layout.system}\n\n"
    pool = []
    for shown in layout.demonstrations:
        alone = replace(layout, system=None, demonstrations=(shown,))
        turns = [turn for turn in alone.conversation("?", layout.demonstrated, system_role=system_role)[:-1]
                 if turn.role != "system"]  # fmt: skip
        pool.append({"question": shown.question, "messages": [turn._asdict() for turn in turns]})
    return {
        "nearest": nearest,
        "likeness": "greater_ray.likeness.nearest",
        "rule": "In front of the last message stand the messages of the nearest questions, the most alike last; a "
        "question that is the same but for blanks is left out.",
        **({"first_message_begins_with": first} if first else {}),
        "pool": pool,
    }


def _extractor(config: TrialConfig) -> dict[str, str]:
    """The extractor's text; nothing where the rows that decide its form are gone."""
    from greater_ray.tasks import extractor, load_task

    try:
        return extractor(load_task(config.task), config.task.extractor)._asdict()
    except GreaterRayError:
        return {}

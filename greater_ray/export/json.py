"""JSON with all that is needed to use the prompt."""

from dataclasses import replace
from typing import Any

from greater_ray.config import TrialConfig
from greater_ray.errors import GreaterRayError
from greater_ray.export import Format
from greater_ray.export._turns import has_system_role, layout_of
from greater_ray.records import TrialRecord
from greater_ray.types import SWITCHES, Layout


def whole(record: TrialRecord) -> dict[str, Any]:
    """Return prompt, messages, extractor and model; of nearest demonstrations their pool and the rule."""
    from greater_ray.tasks import load_task

    best = record.best
    layout = layout_of(record, load_task(record.config.task) if best.demonstrations else None)
    system_role = has_system_role(record)
    chosen: dict[str, Any] = {}
    if best.nearest:
        chosen = {"demonstrations": _rule(layout, best.nearest, system_role)}
        layout = replace(layout, demonstrations=(), system=layout.system if system_role else None)
    turns = layout.conversation("{question}", best.text, system_role=system_role)
    return {
        "prompt": best.full_text,
        "messages": [turn._asdict() for turn in turns],
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


PLUGIN = Format("JSON with all that is needed to use the prompt", whole)

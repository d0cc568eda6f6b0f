"""What a method may know of a trial: of test rows no more than how long a prompt may be beside them."""

from collections.abc import Collection, Mapping
from typing import Any

from greater_ray.assembly import Parts
from greater_ray.config import TrialConfig
from greater_ray.errors import DataError
from greater_ray.evaluation import read_answer
from greater_ray.final import evaluated_rows
from greater_ray.protocols import Problem, Task, closed_set, reads_likeliest
from greater_ray.types import TokenIds
from greater_ray.work import PromptRoom


def inferred(task: Task) -> str | None:
    """Say what was inferred from a user's own rows; None where nothing was."""
    how = str(task.provenance.get("answer_type_from", ""))
    files = [task.provenance, *task.provenance.get("files", {}).values()]
    told = [*dict.fromkeys(str(file["read_as"]) for file in files if "read_as" in file)]
    told += [f"answers are read as '{task.answer_type}' ({how})"] if how.startswith("inferred") else []
    return f"{task.name}: {'; '.join(told)}" if told else None


def moved(config: TrialConfig, facts: Mapping[str, Any]) -> str | None:
    """Say what stands elsewhere because the model knows no system message; None where nothing does."""
    layout = config.layout
    if facts.get("system_role") is not False or (layout.placement != "system" and not layout.system):
        return None
    what = "the prompt" if layout.placement == "system" else "the text meant for it"
    return f"{config.model.name}: its chat template has no system message; {what} stands in front of the user's turn"


def not_run(config: TrialConfig, facts: Mapping[str, Any]) -> str | None:
    """Say that a model brings code that is not run; None where it brings none."""
    told = (
        f"{config.model.name}: the model brings code of its own, which is not run; transformers' own class computes it"
    )
    return told if facts.get("code_not_run") else None


def problem_of(parts: Parts) -> Problem:
    """Return what the method gets."""
    evaluated = evaluated_rows(parts)
    return Problem(
        examples=tuple(parts.task.train()),
        model=parts.model,
        seed=parts.config.seed,
        dev=tuple(parts.task.dev()),
        optimizer=parts.writer,
        read=lambda example, answer: read_answer(parts.task, example, answer),
        score_choices=reads_likeliest(parts.task),
        choices=closed_set(parts.task),
        room=parts.model.ask(PromptRoom(evaluated)) if evaluated else None,
        prompt_first=parts.config.make_layout("", "").prompt_first,
    )


def refuse_long_prompts(parts: Parts, problem: Problem, prompts: Collection[TokenIds]) -> None:
    """Tell before the search what would only show in the final evaluation.

    Raises:
        DataError: a prompt does not fit the context window beside a row that is to be evaluated.
    """
    model, length, room = parts.model, max(map(len, prompts)), problem.room
    if room is None or length <= room:
        return
    rows = evaluated_rows(parts)
    while len(rows) > 1:
        half = rows[: len(rows) // 2]
        fits = (model.ask(PromptRoom(half)) or 0) >= length
        rows = rows[len(half) :] if fits else half
    left = model.ask(PromptRoom(rows)) or 0
    raise DataError(
        f"row '{rows[0].id}': beside it, up to {parts.config.decoding.max_reasoning_tokens} tokens of reasoning and "
        f"the answer, the model's context window has room for {max(0, left)} tokens of prompt, the start prompt "
        f"has {length}; lower it, shorten the prompt or leave the row out.",
        setting="decoding.max_reasoning_tokens",
        value=parts.config.decoding.max_reasoning_tokens,
    )

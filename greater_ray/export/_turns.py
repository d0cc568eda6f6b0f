"""The turns that ask a question, with the question left open: what every format but plain text is made of."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.records import TrialRecord
from greater_ray.types import Demonstration, Layout

# Stands for the question while the turns are built; no model reads or writes it.
_OPEN = "\x00question\x00"


class Turn(NamedTuple):
    """One turn. ``parts`` are the texts around the question, or the only text of a turn that does not hold it."""

    role: str
    parts: tuple[str, ...]

    def filled(self, question: str, escaped: Callable[[str], str] = str) -> str:
        """Return the text with a question, or what stands for one, in its place; the rest goes through ``escaped``."""
        return question.join(map(escaped, self.parts))


@dataclass(frozen=True)
class PromptTurns:
    """How a trial's best prompt asks: the turns up to the question's own, and the layout they are of."""

    turns: tuple[Turn, ...]
    layout: Layout
    record: TrialRecord
    task: Task

    def messages(self, question: str, escaped: Callable[[str], str] = str) -> list[dict[str, str]]:
        """Return chat messages with ``question`` in its place; all other text goes through ``escaped``."""
        return [{"role": turn.role, "content": turn.filled(question, escaped)} for turn in self.turns]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The turns of the demonstrations: what the user says, and what the assistant does."""
        said = [turn.parts[0] for turn in self.turns[:-1] if turn.role != "system"]
        return list(zip(said[::2], said[1::2], strict=True))

    @property
    def system(self) -> str | None:
        """The system message, if there is one."""
        return self.turns[0].parts[0] if self.turns[0].role == "system" else None


def refuse_nearest(record: TrialRecord, form: str) -> None:
    """Refuse a prompt whose questions have demonstrations of their own: it is no fixed conversation.

    Raises:
        ConfigError: it is one.
    """
    if record.best.nearest:
        why = f"every question has {record.best.nearest} demonstrations of its own; json gives the pool and the rule."
        raise ConfigError(why, setting="format", value=form, allowed=("text", "json"))


def layout_of(record: TrialRecord, task: Task | None) -> Layout:
    """Return the layout under which the best prompt was measured; without a task, an extractor is left open."""
    from greater_ray.tasks import extractor

    said = ("", "") if task is None else extractor(task, record.config.task.extractor)
    layout = record.config.make_layout(*said)
    if task is None or not record.best.demonstrations:
        return layout
    shown = tuple(Demonstration(**d.model_dump()) for d in record.best.demonstrations)
    return replace(layout, demonstrations=shown, demonstrated=record.best.text)


def template(text: str) -> str:
    """Return a template of jinja2 or nunjucks that renders to a text."""
    return text.replace("{", "{{ '{' }}").replace("\r", "{{ '\\r' }}")


def has_system_role(record: TrialRecord) -> bool:
    """Tell whether the model of the run has a system message."""
    return bool(record.model.get("system_role", True))


def prompt_turns(record: TrialRecord, form: str) -> PromptTurns:
    """Return how the best prompt of a record asks.

    Raises:
        ConfigError: every question has demonstrations of its own.
        DataError: the rows that decide how the extractor reads are gone.
    """
    from greater_ray.tasks import load_task

    refuse_nearest(record, form)
    task = load_task(record.config.task)
    layout = layout_of(record, task)
    turns = layout.conversation(_OPEN, record.best.text, system_role=has_system_role(record))
    return PromptTurns(tuple(Turn(t.role, tuple(t.content.split(_OPEN))) for t in turns), layout, record, task)

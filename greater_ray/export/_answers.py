"""The answers to a trial's best prompt, with the rows that they are to."""

from greater_ray.errors import ConfigError, DataError
from greater_ray.models.endpoint import ASK
from greater_ray.protocols import Task
from greater_ray.records import EvaluationRecord, ExampleRecord, TrialRecord
from greater_ray.results.scores import SPLITS_SHOWN
from greater_ray.types import Example, Layout


def measured(record: TrialRecord, form: str) -> tuple[EvaluationRecord, Task, dict[str, Example]]:
    """Return an evaluation of the best prompt, its task, and the rows by id.

    Raises:
        ConfigError: the best prompt was measured on no rows.
        DataError: the rows are gone, or others than those that were measured.
    """
    from greater_ray.tasks import load_task

    found = next((e for split in SPLITS_SHOWN if (e := record.evaluation(split, record.best)) is not None), None)
    if found is None:
        raise ConfigError("the prompt was measured on no rows.", setting="format", value=form)
    task = load_task(record.config.task)
    return found, task, _rows(task, found)


def _rows(task: Task, found: EvaluationRecord) -> dict[str, Example]:
    listed = {"train": task.train, "dev": task.dev, "test": task.test}[found.split]()
    rows = {row.id: row for row in listed}
    # Of an answer its record holds the target alone, which tells whether the row is still the one.
    other = [a.id for a in found.examples if a.id not in rows or rows[a.id].target != a.target]
    if other:
        why = f"the {found.split} rows of '{task.name}' are others than those that were measured ({other[0]})."
        raise DataError(why, setting="task.name", value=task.name)
    return rows


def said_by(record: TrialRecord, layout: Layout, answer: ExampleRecord) -> list[dict[str, str]]:
    """Return what followed the question: one turn, or a reasoning and the answer in a turn of its own."""
    reasoning = answer.reasoning_text
    if layout.extractor_turn:
        ask = layout.extractor.strip()
    elif str(record.model.get("answers", "")).startswith("asked for in a turn"):
        ask = ASK.format(extractor=layout.extractor.strip())
    else:
        whole = reasoning + layout.glue + layout.extractor + answer.answer_text
        return [{"role": "assistant", "content": whole}]
    return [
        {"role": "assistant", "content": reasoning},
        {"role": "user", "content": ask},
        {"role": "assistant", "content": answer.answer_text},
    ]

"""Chat messages, with ``{question}`` for the question."""

from greater_ray.export import Format
from greater_ray.export._turns import has_system_role, layout_of, refuse_nearest
from greater_ray.records import TrialRecord


def messages(record: TrialRecord) -> list[dict[str, str]]:
    """Return the turns with the prompt where the search had it, behind the demonstrations it was measured with.

    Raises:
        ConfigError: every question has demonstrations of its own.
    """
    from greater_ray.tasks import load_task

    refuse_nearest(record, "messages")
    # Only demonstrations hold the extractor, so that without them no rows are needed.
    layout = layout_of(record, load_task(record.config.task) if record.best.demonstrations else None)
    turns = layout.conversation("{question}", record.best.text, system_role=has_system_role(record))
    return [turn._asdict() for turn in turns]


PLUGIN = Format("chat messages as JSON, with {question} for the question", messages)

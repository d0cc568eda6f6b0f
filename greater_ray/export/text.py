"""The prompt as plain text."""

from greater_ray.export import Format
from greater_ray.records import TrialRecord


def text(record: TrialRecord) -> str:
    """Return the best prompt with its frozen prefix."""
    return record.best.full_text


PLUGIN = Format("the prompt as plain text", text)

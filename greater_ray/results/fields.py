"""Means over the subjects of MMLU, by field, as published tables have them."""

from collections.abc import Mapping
from typing import NamedTuple

from greater_ray.tasks import mmlu_fields


class FieldMean(NamedTuple):
    """The mean of so many subjects; ``of`` is how many the field has."""

    mean: float | None
    subjects: int
    of: int

    @property
    def complete(self) -> bool:
        """Whether every subject has a score."""
        return self.subjects == self.of


def field_means(scores: Mapping[str, float]) -> dict[str, FieldMean]:
    """Average the scores of subjects: each field apart, and all subjects together as ``average``.

    Every subject counts alike, however many rows it has (GPO, Tang et al. 2025, Table 5; its averages are those over
    the 57 subjects, not over the four fields). A mean over none is None.

    Args:
        scores: the score of each subject, by the name of its task (``mmlu/anatomy``); other tasks are passed over.

    Returns:
        The means of ``stem``, ``humanities``, ``social sciences``, ``other`` and ``average``, in this order.
    """
    means = {}
    everything = [subject for subjects in mmlu_fields().values() for subject in subjects]
    for field, subjects in {**mmlu_fields(), "average": everything}.items():
        found = [scores[f"mmlu/{subject}"] for subject in subjects if f"mmlu/{subject}" in scores]
        means[field] = FieldMean(sum(found) / len(found) if found else None, len(found), len(subjects))
    return means

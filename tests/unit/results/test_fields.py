"""Means over MMLU's subjects: checked against the averages that GPO's Table 5 prints."""

import pytest

from greater_ray.results import FieldMean, field_means
from greater_ray.tasks import mmlu_fields

FIELDS = ("stem", "humanities", "social sciences", "other")
# Published by method: the four fields, then the average. APO's own average does not follow from its fields.
PUBLISHED = {
    "Empty": (31.05, 36.54, 41.75, 37.2, 35.96),
    "CoT": (32.53, 37.05, 41.05, 36.94, 36.36),
    "SGDM": (32.88, 38.36, 41.88, 38.02, 37.2),
    "APE": (33.51, 38.69, 42.02, 37.96, 37.5),
    "OPRO": (34.76, 38.72, 43.55, 37.11, 38.05),
    "PE2": (33.77, 37.95, 44.8, 38.25, 38.07),
    "GPO": (35.0, 38.84, 46.61, 38.6, 39.14),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_average_over_subjects_is_the_published_one(method: str) -> None:
    *fields, average = PUBLISHED[method]
    of_field = dict(zip(FIELDS, fields, strict=True))
    scores = {f"mmlu/{subject}": of_field[field] for field, subjects in mmlu_fields().items() for subject in subjects}
    means = field_means({**scores, "gsm8k": 0.0})
    assert tuple(means) == (*FIELDS, "average")
    assert [means[field].mean for field in FIELDS] == pytest.approx(fields)
    assert means["average"].mean == pytest.approx(average, abs=0.0051)
    assert means["average"] == FieldMean(means["average"].mean, 57, 57)


def test_a_mean_says_how_many_subjects_it_has() -> None:
    means = field_means({"mmlu/anatomy": 0.2, "mmlu/astronomy": 0.4, "mmlu/virology": 0.9})
    assert means["stem"] == (pytest.approx(0.3), 2, 19)
    assert means["humanities"] == (None, 0, 13)
    assert (means["average"].mean, means["average"].complete) == (pytest.approx(0.5), False)

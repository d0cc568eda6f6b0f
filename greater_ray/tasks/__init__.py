"""Benchmark rows, their splits, extractors and answer readers; rows from a hub, a folder, a file or a generator.

What other packages use of it is imported from here.
"""

from greater_ray.tasks._frames import keep_rows
from greater_ray.tasks._registry import (
    Extractor,
    answer_room,
    available_groups,
    available_tasks,
    expand,
    extractor,
    extractor_variants,
    load_task,
    task_aliases,
)
from greater_ray.tasks.mmlu import fields as mmlu_fields

__all__ = [
    "Extractor",
    "answer_room",
    "available_groups",
    "available_tasks",
    "expand",
    "extractor",
    "extractor_variants",
    "keep_rows",
    "load_task",
    "mmlu_fields",
    "task_aliases",
]

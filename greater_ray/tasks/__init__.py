"""Benchmark rows, their splits, extractors and answer readers; rows from a hub, a folder, a file or a generator.

What other packages use of it is imported from here.
"""

from greater_ray.tasks._frames import keep_rows
from greater_ray.tasks._registry import (
    Extractor,
    available_groups,
    available_tasks,
    expand,
    extractor,
    extractor_variants,
    load_task,
)

__all__ = [
    "Extractor",
    "available_groups",
    "available_tasks",
    "expand",
    "extractor",
    "extractor_variants",
    "keep_rows",
    "load_task",
]

"""Pictures of results, as matplotlib figures: ``plots.accuracy(load("runs/mine")).savefig("accuracy.pdf")``.

Every function takes what ``load`` returns, some cells of it (``results.select(...)``) or, where it says so, one of its
frames, whole or filtered. The numbers are those of the frames and of the report. A notebook shows a figure that is the
last value of a cell. matplotlib is an extra: ``pip install 'greater-ray[plots]'``.
"""

from greater_ray.plots.scores import accuracy, transfer
from greater_ray.plots.search import ranks, steps
from greater_ray.plots.spent import costs, curves

__all__ = ["accuracy", "costs", "curves", "ranks", "steps", "transfer"]

"""What a folder holds, as plain values and as pandas frames: the layer below every face that shows results.

from greater_ray import load
results = load("runs/mine")            # a grid or a single run, finished or not
for cell in results.finished:
    print(cell.title, cell.outcome.prompt, cell.scores)
results.cell_frame()                   # one row per cell and split; also step_frame() and answer_frame()
"""

from greater_ray.results.cells import CellResult, Results
from greater_ray.results.fields import FieldMean, field_means
from greater_ray.results.folders import load, of_grid
from greater_ray.results.scores import Outcome, SplitScore, costs, scores

__all__ = [
    "CellResult",
    "FieldMean",
    "Outcome",
    "Results",
    "SplitScore",
    "costs",
    "field_means",
    "load",
    "of_grid",
    "scores",
]

"""One HTML file from the records of a grid or a run: tables, charts, and the life of every prompt.

``write_report(load("runs/mine"), Path("report.html"))`` reads records, steps and remembered rollouts; nothing in the
folder is changed. The file opens from disk and asks no network for anything.
"""

from greater_ray.report.collect import Report, collect
from greater_ray.report.watch import watch
from greater_ray.report.write import SIZE_LIMIT, write_report

__all__ = ["SIZE_LIMIT", "Report", "collect", "watch", "write_report"]

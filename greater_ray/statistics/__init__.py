"""What is noise: intervals, paired tests, comparisons of methods, and what a number of rows can resolve.

Here stands what every evaluation needs: intervals of scores and the paired test of two prompts. It needs no
scipy, whose import takes longer than most evaluations; the rest loads it at the first use. The other questions:

- ``comparison.py``: two methods over seeds and rows of one task, and the mean over tasks;
- ``tables.py``: many comparisons side by side (Holm; wins, draws and losses);
- ``power.py``: what a number of rows can resolve, and how many would do.

Plain numbers go in and come out. Wrong input is a ``ValueError``.
"""

from greater_ray.statistics.intervals import Interval, accuracy, mean, score_interval
from greater_ray.statistics.pairs import Paired, paired

__all__ = ["Interval", "Paired", "accuracy", "mean", "paired", "score_interval"]

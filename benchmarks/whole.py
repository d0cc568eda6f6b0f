"""An engine that is asked without anything between: all of the work is one unit. For twins and references."""

from typing import Any

from greater_ray.types import Layout, Usage
from greater_ray.work import BaseEngine, Unit, Work


class WholeModel(BaseEngine):
    """A ``GradientModel`` that computes all rows of a piece of work in one go, and remembers nothing.

    So what shards, memory and joining do can be compared with it. ``layout`` is that of every unit, ``usage`` the sum
    of what the units have cost.
    """

    layout: Layout | None = None
    usage = Usage()

    def ask(self, work: Work[Any]) -> Any:
        """Have work done; see ``GradientModel``."""
        result, cost = self.run(Unit(work, self.layout))
        self.usage = self.usage + cost
        return result

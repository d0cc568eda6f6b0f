"""Models that compute every unit of work once, for tests that ask for the same ones in many runs.

What a unit gives depends on nothing but the unit; that is tested where engines are. So a loop that is interrupted,
killed or limited in a hundred places needs no hundred computations. Results are handed out as copies, as from a
replica.
"""

import pickle
from collections.abc import Sequence
from typing import Any

from greater_ray.assembly import Models, Served
from greater_ray.config import ModelConfig
from greater_ray.protocols import Executor
from greater_ray.types import Usage
from greater_ray.work import Unit


class Remembering:
    """Passes on to an executor what it was not asked before; what fails is asked again."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.width = executor, executor.width
        self._known: dict[bytes, bytes] = {}

    def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        keys = [pickle.dumps(unit) for unit in units]
        new = {key: unit for key, unit in zip(keys, units, strict=True) if key not in self._known}
        for key, result in zip(new, self.executor.run(list(new.values())), strict=True):
            self._known[key] = pickle.dumps(result)
        return [pickle.loads(self._known[key]) for key in keys]


def remembering(models: Models) -> Models:
    """Return models that remember what they have computed, over others."""
    served: dict[ModelConfig, Served] = {}

    def serve(config: ModelConfig) -> Served:
        if config not in served:
            model = models(config)
            served[config] = model._replace(executor=Remembering(model.executor))
        return served[config]

    return serve

"""A real engine in a process that can be told to die.

It is ``ModelConfig(name="tests.cluster.engines:fragile", revision=F)``. The folder ``F`` holds ``model`` (a link to a
model folder; without one the engine is simulated and starts faster) and orders: a file ``die-<unit>`` with a number
ends the process, as ``kill -9`` would, in so many calls of that unit; ``die-row`` holds the id of a row that always
does; ``wait-loading`` keeps it from loading as long as it is there.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.simulated import SimulatedEngine
from greater_ray.config import ModelConfig
from greater_ray.types import Usage
from greater_ray.work import BaseEngine, Unit, Work


class Fragile(BaseEngine):
    """Passes every unit of work on to an engine, unless it is told to die."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine: BaseEngine = SimulatedEngine(0.001)
        if (folder / "model").exists():
            from greater_ray.models.engine import Engine

            self.engine = Engine.load(ModelConfig(name=str(folder / "model"), threads=1))
        self.facts = self.engine.facts

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        self._obey(unit.work)
        return self.engine.run(unit)

    def _obey(self, work: Work) -> None:
        order = self.folder / f"die-{work.kind}"
        if order.exists():
            left = int(order.read_text())
            if left:
                order.write_text(str(left - 1))
                os.kill(os.getpid(), signal.SIGKILL)
        poison = self.folder / "die-row"
        if poison.exists() and any(e.id == poison.read_text() for e in work.shard):
            os.kill(os.getpid(), signal.SIGKILL)


def fragile(config: ModelConfig) -> Fragile:
    """Load the engine of a control folder."""
    folder = Path(config.revision or "")
    order = folder / "die-loading"
    if order.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    while (folder / "wait-loading").exists():
        time.sleep(0.05)
    return Fragile(folder)


class Shown(BaseEngine):
    """Tells which GPUs its process sees, and which its settings name."""

    def __init__(self, config: ModelConfig) -> None:
        self.facts = {"seen": os.environ.get("CUDA_VISIBLE_DEVICES"), "named": config.device}


def control(folder: Path, model: Path | None = None) -> dict[str, str]:
    """Make a control folder and return the model's settings."""
    folder.mkdir(parents=True)
    if model is not None:
        (folder / "model").symlink_to(model)
    return {"name": "tests.cluster.engines:fragile", "revision": str(folder)}

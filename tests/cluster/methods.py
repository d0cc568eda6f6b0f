"""GReaTer, but its process dies once, in the middle, and takes the run folder with it."""

import os
import shutil
import signal
from pathlib import Path

from greater_ray.methods.greater import Greater, GreaterConfig, GreaterState
from greater_ray.protocols import Problem, StepInfo


class DiesOnceConfig(GreaterConfig):
    """``order`` is a file with the folder to remove; the process dies at the second step if it is there."""

    order: str = ""


class DiesOnce(Greater):
    config_type = DiesOnceConfig

    def step(self, problem: Problem, config: DiesOnceConfig, state: GreaterState) -> tuple[GreaterState, StepInfo]:
        order = Path(config.order)
        if state.step == 1 and order.exists():
            shutil.rmtree(order.read_text())
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(problem, config, state)


PLUGIN = DiesOnce()

"""GReaTer, but its process dies in the middle: once, and it takes the run folder with it, or every time."""

import os
import shutil
import signal
from pathlib import Path

from greater_ray.methods.greater import Greater, GreaterConfig, GreaterState
from greater_ray.protocols import Problem, StepInfo


class DiesOnceConfig(GreaterConfig):
    """``order`` is a file with the folder to remove; the process dies at the second step if it is there.

    With ``always`` it dies there whatever is there.
    """

    order: str = ""
    always: bool = False


class DiesOnce(Greater):
    config_type = DiesOnceConfig

    def step(self, problem: Problem, config: DiesOnceConfig, state: GreaterState) -> tuple[GreaterState, StepInfo]:
        order = Path(config.order)
        if state.step == 1 and config.order and order.exists():
            shutil.rmtree(order.read_text())
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if state.step == 1 and config.always:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(problem, config, state)


PLUGIN = DiesOnce()

"""A legitimate method that never finds anything better: what it tries is always worse than its start."""

from typing import Any, ClassVar

from greater_ray.config import Config
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo


class StubbornConfig(Config):
    """``accepted`` is what a step says of its only candidate."""

    accepted: int | None = None


class Stubborn:
    """Tries the start with its first token repeated, and goes back."""

    summary = "never finds anything better"
    source = "tests"
    seeded = False
    selects_by = "train"
    config_type = StubbornConfig
    state_type = MethodState
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"budget": {"steps": 9}}}

    def start(self, problem: Problem, config: StubbornConfig) -> MethodState:
        ids = problem.encode("Think step by step.")
        return MethodState(prompt_ids=ids, best=((1.0, ids),), initial_loss=1.0)

    def step(self, problem: Problem, config: StubbornConfig, state: MethodState) -> tuple[MethodState, StepInfo]:
        info = StepInfo(
            position=None,
            prompt_ids=state.prompt_ids,
            prompt_text=" Think step by step.",
            loss=1.0,
            best_loss=1.0,
            accepted=config.accepted,
            candidates=(Candidate(None, " Think think", None, 2.0),),
        )
        return state.model_copy(update={"step": state.step + 1, "steps_since_best": state.steps_since_best + 1}), info


PLUGIN = Stubborn()

"""No optimization: any given prompt, measured by the same loop, evaluator and ledger as every other method.

Transfer is this method on another model: ``prompt`` is what an optimizer found, ``reference`` what it started from.
"""

from typing import Any

from greater_ray.config import Config
from greater_ray.errors import ConfigError
from greater_ray.protocols import MethodState, Problem, StepInfo
from greater_ray.types import TokenIds

# Nothing is tuned, so nothing is put in front of the prompt either.
AS_IT_IS: dict[str, Any] = {"layout": {"frozen_prefix": ""}, "budget": {"steps": 0}}


class FixedConfig(Config):
    """``reference`` is a prompt to compare with on the same rows; without one only ``prompt`` is measured."""

    prompt: str = ""
    reference: str | None = None


class FixedState(MethodState, frozen=True):
    """``chosen`` is the prompt that is measured; ``prompt_ids`` is the one it is compared with."""

    chosen: TokenIds

    @property
    def result(self) -> TokenIds:
        """The given prompt."""
        return self.chosen


class Fixed:
    """The method; stateless."""

    summary = "no optimization: measures a given prompt"
    source = "-"
    seeded = False
    config_type: type[FixedConfig] = FixedConfig
    state_type = FixedState
    presets: dict[str, dict[str, Any]] = {"paper": AS_IT_IS}  # noqa: RUF012 - read-only

    def start(self, problem: Problem, config: FixedConfig) -> FixedState:
        """Tokenize the prompts.

        Raises:
            ConfigError: a prompt has no tokens.
        """
        chosen = _encode(problem, "prompt", config.prompt)
        reference = chosen if config.reference is None else _encode(problem, "reference", config.reference)
        return FixedState(prompt_ids=reference, chosen=chosen, finished=True)

    def step(self, problem: Problem, config: FixedConfig, state: FixedState) -> tuple[FixedState, StepInfo]:
        """Never called: the state is finished from the start."""
        raise AssertionError("a fixed prompt has no steps")


def _encode(problem: Problem, option: str, text: str) -> TokenIds:
    ids = problem.encode(text)
    if not ids:
        raise ConfigError(f"method_config.{option}: {text!r} has no tokens; give at least one word.")
    return ids


PLUGIN = Fixed()

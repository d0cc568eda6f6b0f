"""No optimization: any given prompt, measured by the same loop, evaluator and ledger as every other method.

Transfer is this method on another model: ``prompt`` is what an optimizer found, ``reference`` what it started from.
Published prompts come from a file: ``prompts_file`` and ``key``.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.config import Config, GivenDemonstration, given
from greater_ray.errors import ConfigError
from greater_ray.methods._archive import start_ids
from greater_ray.methods._prompt_files import look_up
from greater_ray.protocols import MethodState, Problem, StepInfo
from greater_ray.types import TokenIds

# Nothing is tuned, so nothing is put in front of the prompt either.
AS_IT_IS: dict[str, Any] = {"layout": {"frozen_prefix": ""}, "budget": {"steps": 0}}


class PromptConfig(Config):
    """Options of a prompt that is measured as it is."""

    prompt: str = Field(default="", description="The prompt that is measured.")
    reference: str | None = Field(
        default=None, description="A prompt to compare with on the same rows; without one only `prompt` is measured."
    )
    demonstrations: tuple[GivenDemonstration, ...] = Field(
        default=(),
        description="Worked examples beside `prompt` alone; those of `evaluation.demonstrations` stand beside both.",
    )
    nearest: int = Field(
        default=0,
        ge=0,
        description="Makes `demonstrations` a pool, of which every question is shown so many: those most like it.",
    )

    @field_validator("nearest")
    @classmethod
    def _has_a_pool(cls, value: int, info: ValidationInfo) -> int:
        given = len(info.data.get("demonstrations", ()))
        if value > given:
            allowed = "input should be at most {given}, the number of method_config.demonstrations"
            raise PydanticCustomError("nearest", allowed, {"given": given})
        return value


class FixedConfig(PromptConfig):
    """The prompt itself, or where it stands.

    The file is read when the config is resolved. From then on ``prompt`` holds the text, so the identity of a run is
    that of its prompt and not of a path; ``key`` stays as its name.
    """

    prompts_file: str | None = Field(default=None, description="JSON or YAML file in which the prompt stands.")
    key: str | None = Field(
        default=None,
        description="Where it stands there, level by level, as in `Llama-3/{task}/APE`; `{task}` is the task's name.",
    )


class FixedState(MethodState, frozen=True):
    """``chosen`` is the prompt that is measured; ``prompt_ids`` is the one it is compared with."""

    chosen: TokenIds

    @property
    def result(self) -> TokenIds:
        """The given prompt."""
        return self.chosen


class Given:
    """A prompt that is measured as it is; stateless."""

    summary: str
    source: str
    seeded = False
    selects_by: Literal["train", "dev"] = "train"
    config_type: type[PromptConfig] = PromptConfig
    state_type = FixedState
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": AS_IT_IS}

    def most_steps(self, config: PromptConfig, num_rows: int) -> int:
        """Return 0: there is nothing to search."""
        return 0

    def start(self, problem: Problem, config: PromptConfig) -> FixedState:
        """Tokenize the prompts.

        Raises:
            ConfigError: a prompt has no tokens.
        """
        chosen = start_ids(problem, config.prompt, "prompt")
        reference = chosen if config.reference is None else start_ids(problem, config.reference, "reference")
        return FixedState(
            prompt_ids=reference,
            chosen=chosen,
            finished=True,
            demonstrations=given(config.demonstrations),
            nearest=config.nearest,
        )

    def step(self, problem: Problem, config: PromptConfig, state: FixedState) -> tuple[FixedState, StepInfo]:
        """Never called: the state is finished from the start."""
        raise AssertionError("a fixed prompt has no steps")


class Fixed(Given):
    """The method; stateless."""

    summary = "no optimization: measures a given prompt"
    source = "-"
    config_type = FixedConfig

    def resolve(self, config: FixedConfig, task: str) -> FixedConfig:
        """Put the text from the file in the place of the file's name.

        Raises:
            ConfigError: no single prompt is named, or the file does not hold it.
        """
        if config.prompts_file is None:
            if config.key is not None and not config.prompt:
                raise ConfigError(
                    "needs a file to look in; give §method_config.prompts_file.", setting="method_config.key"
                )
            return config
        if config.prompt:
            raise ConfigError("a prompt is given as well; give one of the two.", setting="method_config.prompts_file")
        if not config.key:
            raise ConfigError(
                "missing; it says where in §method_config.prompts_file the prompt is.", setting="method_config.key"
            )
        key, prompt = look_up(config.prompts_file, config.key, task)
        return config.model_copy(update={"prompt": prompt, "key": key, "prompts_file": None})


PLUGIN = Fixed()

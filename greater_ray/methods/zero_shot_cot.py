"""Zero-shot chain of thought: one trigger sentence after the question, nothing optimized.

Kojima et al., "Large Language Models are Zero-Shot Reasoners", NeurIPS 2022: the first trigger of their Table 4.
"""

from pydantic import Field

from greater_ray.methods.fixed import Given, PromptConfig


class ZeroShotCotConfig(PromptConfig):
    """The options of a fixed prompt, which is the trigger."""

    prompt: str = Field(default="Let's think step by step.", description="The trigger sentence.")


class ZeroShotCot(Given):
    """The method; stateless."""

    summary = 'the trigger "Let\'s think step by step.", nothing optimized'
    source = "Kojima et al., NeurIPS 2022, arXiv 2205.11916"
    config_type = ZeroShotCotConfig


PLUGIN = ZeroShotCot()

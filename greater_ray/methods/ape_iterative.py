"""Iterative APE: the best prompts are put in other words, round after round; no reasons, no wrong answers.

Zhou et al., "Large Language Models Are Human-Level Prompt Engineers", ICLR 2023 (Section 3.3), in the form in which
the code released with PE2 runs it and the GReaTer paper compares with it.
"""

from pydantic import Field

from greater_ray.methods._archive import Scored
from greater_ray.methods._beam import (
    BeamConfig,
    BeamSearch,
    Expansion,
    Node,
    paraphrase_wording,
    paraphrases,
    search_presets,
)
from greater_ray.methods._writer import Asker


class ApeIterativeConfig(BeamConfig):
    """``temperature`` 0.7 and at most 50 tokens per reply are the script's; here the tags need some tokens more."""

    max_new_tokens: int = Field(default=150, ge=1, description="Tokens that a reply of the writer may have.")


class ApeIterative(BeamSearch[ApeIterativeConfig]):
    """The method; stateless."""

    summary = "beam search over paraphrases of the best prompts"
    source = "Zhou et al., ICLR 2023, arXiv 2211.01910; as in PE2's code"
    config_type = ApeIterativeConfig
    stops_when_perfect = False
    presets = search_presets(max_new_tokens=50)

    def expand(self, asker: Asker, config: ApeIterativeConfig, parent: Scored, node: Node) -> Expansion:
        """Paraphrase a prompt."""
        return paraphrases(asker, config, parent)

    def meta(self, config: ApeIterativeConfig) -> str:
        """Return the paraphrase request."""
        return paraphrase_wording(config)


PLUGIN = ApeIterative()

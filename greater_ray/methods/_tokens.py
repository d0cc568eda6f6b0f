"""What methods share that change a prompt token by token: the list of best prompts, and scoring without reasoning."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from greater_ray.config import Config
from greater_ray.protocols import NUM_BEST, Problem
from greater_ray.types import Example, LossSpec, Rollout, TokenIds
from greater_ray.work import Rollouts

# GReaTer's, which other methods share so that start and length are matched.
INITIAL_PROMPT = " proper logical reasoning and think step by step. Finally, give the actual correct answer."


class NoReasoningConfig(Config):
    """Options of gradient methods whose loss holds no reasoning: the extractor directly follows the prompt."""

    initial_prompt: str = Field(
        default=INITIAL_PROMPT,
        description="The prompt that the search starts from: GReaTer's, so start and length are matched.",
    )
    label_loss: Literal["ce", "choice"] = Field(
        default="ce", description="The label's cross-entropy, or minus the log of its share among the task's choices."
    )
    token_filter: Literal["none", "ascii", "letters", "released"] = Field(
        default="ascii", description="Which tokens may stand in a prompt."
    )
    criterion: Literal["loss", "mistakes"] = Field(
        default="loss",
        description="What compares prompts: the label's mean loss, or the share of rows where it is not the likeliest.",
    )
    batch_size: int = Field(default=32, ge=1, description="Training rows of one batch.")

    @property
    def loss(self) -> LossSpec:
        """The label's term alone: no fluency, no temperature."""
        return LossSpec(ce_temperature=1.0, fluency="nll", fluency_weight=0.0, label=self.label_loss)


def without_reasoning(
    problem: Problem, config: NoReasoningConfig, prompts: Sequence[TokenIds], examples: Sequence[Example]
) -> list[float]:
    """Return the criterion of each prompt over the examples; lower is better."""
    rollouts = problem.model.ask(Rollouts(examples, prompts, config.loss, reasoning_of=()))
    return [mean_fit(rows, config.criterion, config.loss) for rows in rollouts]


def mean_fit(rollouts: Sequence[Rollout], criterion: str, loss: LossSpec) -> float:
    """Return the mean loss of the label, or the share of rows whose label was missed."""
    missed = criterion == "mistakes"
    values = (float(not r.label_is_best(loss)) if missed else r.label_loss(loss) for r in rollouts)
    return math.fsum(values) / len(rollouts)


def drawn(problem: Problem, step: int, purpose: str, size: int) -> tuple[Example, ...]:
    """Draw training rows without replacement, in their own order; all of them where there are no more than ``size``."""
    rows = problem.examples
    places = problem.rng(step, purpose).sample(range(len(rows)), min(size, len(rows)))
    return tuple(rows[k] for k in sorted(places))


def remember(
    best: tuple[tuple[float, TokenIds], ...], loss: float, prompt: TokenIds
) -> tuple[tuple[float, TokenIds], ...]:
    """Insert a prompt into the list of best ones: distinct, lowest loss first, earlier first among equals."""
    if any(known == prompt for _, known in best):
        return best
    return tuple(sorted([*best, (loss, prompt)], key=lambda entry: entry[0])[:NUM_BEST])


def replaced(prompt: TokenIds, position: int, token: int) -> TokenIds:
    """Return the prompt with another token at one position."""
    return (*prompt[:position], token, *prompt[position + 1 :])

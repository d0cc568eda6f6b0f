"""PEZ: a continuous prompt, updated by gradients that are taken at its projection onto tokens.

Wen et al., "Hard Prompts Made Easy: Gradient-Based Discrete Optimization for Prompt Tuning and Discovery", NeurIPS
2023, arXiv 2302.03668, Algorithm 1. The GReaTer paper compares with it in Appendix C, Table 6, and states no settings.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from greater_ray.methods._archive import start_ids
from greater_ray.methods._tokens import NoReasoningConfig, drawn, remember, without_reasoning
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo
from greater_ray.types import TokenIds
from greater_ray.work import CheckPrompts, EncodePrompt, NearestTokens, PromptGradients, TokenEmbeddings, Work

Matrix = tuple[tuple[float, ...], ...]
# The moments of AdamW and its guard against division by zero, as torch has them.
BETAS, EPSILON = (0.9, 0.999), 1e-8


class PezConfig(NoReasoningConfig):
    """Options. Learning rate and weight decay are those of the authors' image configuration, the batch of their
    language script.
    """

    batch_size: int = Field(default=16, ge=1, description="Freshly drawn training rows of one update.")
    iterations: int = Field(
        default=25, ge=1, description="Updates of one step, after which the projected prompt is scored on dev rows."
    )
    learning_rate: float = Field(default=0.1, gt=0, description="Of AdamW.")
    weight_decay: float = Field(default=0.1, ge=0, description="Of AdamW.")


class PezState(MethodState, frozen=True):
    """``matrix`` is the continuous prompt, ``first`` and ``second`` are AdamW's moments, ``updates`` its count."""

    matrix: Matrix = ()
    first: Matrix = ()
    second: Matrix = ()
    updates: int = 0


class Pez:
    """The method; stateless."""

    summary = "gradient descent on a continuous prompt, projected onto tokens; without reasoning"
    source = "Wen et al., NeurIPS 2023, arXiv 2302.03668"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = PezConfig
    state_type = PezState
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"budget": {"steps": 120}}}

    def needs(self, config: PezConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        return {PromptGradients: ""}

    def start(self, problem: Problem, config: PezConfig) -> PezState:
        """Tokenize the initial prompt; its embedding rows are looked up in the first step.

        Raises:
            ConfigError: it has no tokens.
        """
        return PezState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: PezConfig, state: PezState) -> tuple[PezState, StepInfo]:
        """Do ``iterations`` updates, then read and score the projected prompt."""
        model, best, initial_loss = problem.model, state.best, state.initial_loss
        dev = problem.dev or problem.examples
        if not best:
            (initial_loss,) = without_reasoning(problem, config, [state.prompt_ids], dev)
            best = remember(best, initial_loss, state.prompt_ids)
        moved = Descent.of(state) if state.matrix else Descent.begin(model.ask(TokenEmbeddings(state.prompt_ids)))
        for k in range(config.iterations):
            rows = drawn(problem, state.step, f"batch {k}", config.batch_size)
            projected = model.ask(NearestTokens(moved.matrix, config.token_filter))
            gradient = model.ask(PromptGradients(rows, projected, config.loss, with_reasoning=False)).gradient
            # The gradient is taken at the projection, the update goes to the continuous prompt.
            moved = moved.update([[g / len(rows) for g in row] for row in gradient], config)
        projected = model.ask(NearestTokens(moved.matrix, config.token_filter))
        prompt, text, notes = readable(problem, projected)
        improved, loss = not state.best, None
        if prompt:
            (loss,) = without_reasoning(problem, config, [prompt], dev)
            improved = improved or loss < best[0][0]
            best = remember(best, loss, prompt)
        prompt = prompt or state.prompt_ids
        info = StepInfo(
            position=None,
            prompt_ids=prompt,
            prompt_text=text,
            loss=loss,
            best_loss=best[0][0],
            accepted=None if loss is None else 0,
            candidates=(Candidate(None, text, None, loss, "empty" if loss is None else "scored"),),
            notes=tuple(notes),
        )
        changes = {"prompt_ids": prompt, "best": best, "initial_loss": initial_loss, **moved._asdict()}
        return state.stepped(improved=improved, **changes), info


def readable(problem: Problem, projected: TokenIds) -> tuple[TokenIds, str, list[str]]:
    """Return a projected prompt as it will be used: where its text has other token ids, those of the text."""
    (check,) = problem.model.ask(CheckPrompts([projected]))
    if check.survives:
        return projected, check.text, []
    ids = problem.model.ask(EncodePrompt(check.text)) if check.text.strip() else ()
    return ids, check.text, [f"tokenized again: {len(projected)} tokens became {len(ids)}"]


class Descent(NamedTuple):
    """AdamW (Loshchilov and Hutter, ICLR 2019, Algorithm 2) on a matrix, in float64."""

    matrix: Matrix
    first: Matrix
    second: Matrix
    updates: int

    @classmethod
    def begin(cls, rows: list[list[float]]) -> "Descent":
        """Start at the given rows, with moments of zero."""
        zeros = tuple((0.0,) * len(row) for row in rows)
        return cls(tuple(map(tuple, rows)), zeros, zeros, 0)

    @classmethod
    def of(cls, state: PezState) -> "Descent":
        """Go on from a checkpoint."""
        return cls(state.matrix, state.first, state.second, state.updates)

    def update(self, gradient: Sequence[Sequence[float]], config: PezConfig) -> "Descent":
        """Return the descent one update further: decayed weights, then the step by the corrected moments."""
        beta1, beta2 = BETAS
        count = self.updates + 1
        rate = config.learning_rate / (1 - beta1**count)
        correction, keep = 1 - beta2**count, 1 - config.learning_rate * config.weight_decay
        first = _combined(self.first, gradient, lambda m, g: beta1 * m + (1 - beta1) * g)
        second = _combined(self.second, gradient, lambda v, g: beta2 * v + (1 - beta2) * g * g)
        change = _combined(first, second, lambda m, v: rate * m / (math.sqrt(v / correction) + EPSILON))
        return Descent(_combined(self.matrix, change, lambda p, c: keep * p - c), first, second, count)


def _combined(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]], with_: Any) -> Matrix:
    """Combine two matrices entry by entry."""
    return tuple(
        tuple(with_(a, b) for a, b in zip(row, other, strict=True)) for row, other in zip(left, right, strict=True)
    )


PLUGIN = Pez()

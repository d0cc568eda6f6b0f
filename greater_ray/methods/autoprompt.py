"""AutoPrompt for a causal model: one random position per step, candidates by the gradient of a loss without reasoning.

Shin et al., "AutoPrompt: Eliciting Knowledge from Language Models with Automatically Generated Prompts", EMNLP 2020,
arXiv 2010.15980, Section 2.2. The GReaTer paper compares with it in Appendix C, Table 6, and states no settings.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods._archive import start_ids
from greater_ray.methods._tokens import (
    NoReasoningConfig,
    drawn,
    remember,
    replaced,
    without_reasoning,
)
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo
from greater_ray.types import TokenIds
from greater_ray.work import CheckPrompts, Gradients, OneHotGradient, SteepestTokens, TokenTexts, Work


class AutoPromptConfig(NoReasoningConfig):
    """Options; the numbers are the defaults of the authors' code, the filters are ours.

    Where there are fewer training rows than ``batches`` times ``batch_size``, all are taken.
    """

    num_candidates: int = Field(default=10, ge=1, description="Tokens that are tried at the position.")
    batches: int = Field(default=10, ge=1, description="Batches that the gradient, and then the trial, take.")
    filter_round_trip: bool = Field(
        default=True, description="Leaves out tokens whose prompt does not survive decoding and tokenizing again."
    )

    @property
    def num_rows(self) -> int:
        """How many rows a gradient or a trial takes."""
        return self.batches * self.batch_size


class AutoPrompt:
    """The method; stateless."""

    summary = "token-by-token search by the gradient of the label's loss, without reasoning"
    source = "Shin et al., EMNLP 2020, arXiv 2010.15980"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = AutoPromptConfig
    state_type = MethodState
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"budget": {"steps": 100}}}

    def needs(self, config: AutoPromptConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        return {Gradients: ""}

    def start(self, problem: Problem, config: AutoPromptConfig) -> MethodState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: it has no tokens.
        """
        return MethodState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: AutoPromptConfig, state: MethodState) -> tuple[MethodState, StepInfo]:
        """Replace one token if that is strictly better on fresh rows; remember the prompt by its score on dev rows."""
        prompt = state.prompt_ids
        position = problem.rng(state.step, "position").randrange(len(prompt))
        backward = problem.model.ask(
            Gradients(
                drawn(problem, state.step, "gradient", config.num_rows),
                prompt,
                config.loss,
                position=position,
                with_reasoning=False,
                depth=1,
                token_filter=config.token_filter,
            )
        )
        notes: list[str] = []
        tokens = steepest(problem, config, prompt, position, backward.gradient, notes)
        slopes = problem.model.ask(OneHotGradient(backward.gradient, tokens)) if tokens else []
        prompts = [replaced(prompt, position, token) for token in tokens]
        rows = drawn(problem, state.step, "trial", config.num_rows)
        current, *losses = without_reasoning(problem, config, [prompt, *prompts], rows)
        best, initial_loss = state.best, state.initial_loss
        if not best:
            # The released code sets the bar at minus infinity, so that its result can be worse than its start.
            (initial_loss,) = without_reasoning(problem, config, [prompt], problem.dev or problem.examples)
            best = remember(best, initial_loss, prompt)
        first = min(range(len(losses)), key=lambda k: (losses[k], k), default=None)
        accepted = first if first is not None and losses[first] < current else None
        improved = not state.best
        loss = current
        if accepted is not None:
            prompt, loss = prompts[accepted], losses[accepted]
            (on_dev,) = without_reasoning(problem, config, [prompt], problem.dev or problem.examples)
            improved = improved or on_dev < best[0][0]
            best = remember(best, on_dev, prompt)
        texts = problem.model.ask(TokenTexts(tokens))
        info = StepInfo(
            position=position,
            prompt_ids=prompt,
            prompt_text=problem.model.ask(CheckPrompts([prompt]))[0].text,
            loss=loss,
            best_loss=best[0][0],
            accepted=accepted,
            candidates=tuple(
                Candidate(token, text, slope, value)
                for token, text, slope, value in zip(tokens, texts, slopes, losses, strict=True)
            ),
            notes=tuple(notes),
        )
        return state.stepped(improved=improved, prompt_ids=prompt, best=best, initial_loss=initial_loss), info


def steepest(
    problem: Problem,
    config: AutoPromptConfig,
    prompt: TokenIds,
    position: int,
    gradient: tuple[float, ...],
    notes: list[str],
) -> list[int]:
    """Return the tokens with the most negative first-order change of the loss, steepest first.

    The term of the current token is the same for all of them; the current token itself is no candidate. Where tokens
    are filtered out, deeper ones follow.
    """
    model = problem.model
    filtering = config.filter_round_trip and model.ask(CheckPrompts([prompt]))[0].survives
    if config.filter_round_trip and not filtering:
        notes.append("the prompt does not survive decoding and tokenizing again")
    kept: list[int] = []
    seen, count = 0, 4 * config.num_candidates
    while True:
        ranked = model.ask(SteepestTokens(gradient, count, config.token_filter))
        new = [token for token in ranked[seen:] if token != prompt[position]]
        if filtering and new:
            checks = model.ask(CheckPrompts([replaced(prompt, position, token) for token in new]))
            new = [token for token, check in zip(new, checks, strict=True) if check.survives]
        kept += new
        if len(kept) >= config.num_candidates:
            return kept[: config.num_candidates]
        if len(ranked) < count:
            notes.append("few candidates: the vocabulary is used up")
            return kept
        seen, count = len(ranked), 4 * count


PLUGIN = AutoPrompt()

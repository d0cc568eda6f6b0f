"""GReaTer: one prompt token per step, by the gradient of the task loss through the model's own reasoning.

Das et al., "GReaTer: Gradients over Reasoning Makes Smaller Language Models Strong Prompt Optimizers", ICLR 2025;
Algorithm 1 and Eq. 3-7. The preset ``paper`` follows the text, ``released`` the authors' code where the two differ;
``docs/methods/greater.md`` lists every difference and the option that switches it.
"""

import math
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from greater_ray.config import Config
from greater_ray.errors import ConfigError
from greater_ray.methods import _released
from greater_ray.methods._archive import start_ids
from greater_ray.methods._tokens import INITIAL_PROMPT, remember, replaced
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo
from greater_ray.types import LossSpec, Rollout, TokenIds
from greater_ray.work import (
    CheckPrompts,
    EncodePrompt,
    Gradients,
    OneHotGradient,
    Proposals,
    Rollouts,
    TokenTexts,
    Work,
)


class GreaterConfig(Config):
    """Options of GReaTer; the defaults are the paper's (Section 5, Appendix F) where the paper states them."""

    initial_prompt: str = Field(
        default=INITIAL_PROMPT,
        description="The prompt that the search starts from; it continues `layout.frozen_prefix`.",
    )
    top_k: int = Field(default=10, ge=1, description="k of Eq. 3: how many likely tokens of a row are proposed.")
    top_k_growth: int = Field(default=2, ge=1, description="By how much k grows until there are `min_candidates`.")
    min_candidates: int = Field(default=6, ge=1, description="Candidates below which k grows.")
    proposal_samples: int = Field(default=5, ge=1, description="q of Eq. 4: rows whose proposals are intersected.")
    intersections: int = Field(
        default=1, ge=1, description="How many random q-subsets are intersected and then united."
    )
    token_filter: Literal["none", "ascii", "letters", "released"] = Field(
        default="ascii", description="Which tokens may stand in a prompt."
    )
    ban_previous_token: bool = Field(default=False, description="Bans the token in front of the position.")
    filter_round_trip: bool = Field(
        default=True, description="Leaves out tokens whose prompt does not survive decoding and tokenizing again."
    )
    num_evaluated: int = Field(
        default=3, ge=1, description="mu of Eq. 7: candidates with the most negative gradient that are evaluated."
    )
    label_loss: Literal["ce", "choice"] = Field(
        default="ce", description="The label's cross-entropy, or minus the log of its share among the task's choices."
    )
    ce_temperature: float = Field(default=1.0, gt=0, description="Divides the logits of the label's cross-entropy.")
    fluency: Literal["exp", "nll"] = Field(
        default="exp", description="The fluency term: the exponential of the prompt's NLL (Eq. 6), or the NLL itself."
    )
    fluency_weight: float = Field(default=0.2, ge=0, description="lambda of Eq. 6: the weight of the fluency term.")
    gradient_without_reasoning: bool = Field(
        default=False, description="Leaves the reasoning out of the gradient (the paper's ablation)."
    )
    criterion: Literal["loss", "mistakes"] = Field(
        default="loss",
        description="Eq. 7: candidates are compared by the total loss, or by the mistake rate plus fluency.",
    )
    selection_fluency_weight: float | None = Field(
        default=None, ge=0, description="The fluency term's weight in `criterion`; none: `fluency_weight`."
    )
    candidate_reasoning: Literal["fresh", "current"] = Field(
        default="fresh",
        description="Whether a candidate reasons afresh, or is scored after the current prompt's reasoning.",
    )
    ties: Literal["first", "last"] = Field(default="first", description="Which of two equal candidates is taken.")
    always_include_current: bool = Field(
        default=False, description="Evaluates the current token too, whatever its gradient."
    )
    period_break: bool = Field(
        default=False, description="Takes a candidate with a period at once, from half the initial length on."
    )
    dynamic_length: bool = Field(
        default=True, description="Lets the prompt grow (App. B); off is Algorithm 1 as printed."
    )
    ending_characters: str = Field(default=".?!", description="What ends a sentence.")
    placeholder: str = Field(
        default="_", description="The token that is appended so that the next step can tune a further position."
    )
    placeholder_candidate: bool = Field(default=False, description="Makes it a candidate, too.")
    max_prompt_tokens: int = Field(default=128, ge=1, description="No growth beyond this length.")
    count_initial: bool = Field(default=True, description="Counts the start prompt as the first best one.")
    restart_below: float | None = Field(
        default=None, description="Below this criterion the search starts over at the first position."
    )

    @property
    def loss(self) -> LossSpec:
        """The loss whose gradient is taken."""
        return LossSpec(self.ce_temperature, self.fluency, self.fluency_weight, self.label_loss)


class GreaterState(MethodState, frozen=True):
    """``position`` is tuned next; ``open`` tells that it holds a placeholder. ``initial_length`` is in tokens."""

    position: int = 0
    open: bool = False
    initial_length: int = 0


class Choice(NamedTuple):
    """All candidates that were evaluated, in gradient order, and the index of the one that was taken."""

    accepted: int
    candidates: tuple[Candidate, ...]
    tokens: TokenIds
    losses: tuple[float, ...]


class Greater:
    """The method; stateless, so one instance serves every trial."""

    summary = "token-by-token search by the gradient through the model's own reasoning"
    seeded = True
    selects_by: Literal["train", "dev"] = "train"
    source = "Das et al., ICLR 2025, arXiv 2412.09722"
    config_type = GreaterConfig
    state_type = GreaterState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"budget": {"steps": 105}},
        "released": _released.PRESET,
    }

    def needs(self, config: GreaterConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        return {Gradients: ""}

    def start(self, problem: Problem, config: GreaterConfig) -> GreaterState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: the initial prompt has no tokens.
        """
        ids = start_ids(problem, config.initial_prompt)
        return GreaterState(prompt_ids=ids, initial_length=len(ids))

    def step(self, problem: Problem, config: GreaterConfig, state: GreaterState) -> tuple[GreaterState, StepInfo]:
        """Tune the token at ``state.position`` (Algorithm 1, lines 5-19)."""
        model, prompt, position = problem.model, state.prompt_ids, state.position
        notes: list[str] = []
        best, initial_loss = state.best, state.initial_loss
        if state.step == 0 and config.count_initial:
            rollouts = model.ask(Rollouts(problem.examples, [prompt], config.loss))[0]
            initial_loss = criterion(config, rollouts)
            best = remember(best, initial_loss, prompt)
        backward = model.ask(
            Gradients(
                problem.examples,
                prompt,
                config.loss,
                position=position,
                with_reasoning=not config.gradient_without_reasoning,
                depth=config.top_k + 16 * config.top_k_growth,
                token_filter=config.token_filter,
            )
        )
        proposed = propose(problem, config, state, backward.proposals, notes)
        tokens = proposed if self._hides_current(config, state) else sorted({*proposed, prompt[position]})
        gradients = model.ask(OneHotGradient(backward.gradient, tokens))
        ranked = sorted(zip(gradients, tokens, strict=True))
        choice = self._choose(problem, config, state, ranked)
        taken, loss = choice.tokens[choice.accepted], choice.losses[choice.accepted]
        prompt = replaced(prompt, position, taken)
        improved = not best or loss < best[0][0]
        best = remember(best, loss, prompt)
        text = choice.candidates[choice.accepted].text
        info = StepInfo(
            position=position,
            prompt_ids=prompt,
            prompt_text=model.ask(CheckPrompts([prompt]))[0].text,
            loss=loss,
            best_loss=best[0][0],
            accepted=choice.accepted,
            candidates=choice.candidates,
            notes=tuple(notes),
        )
        state = state.stepped(improved=improved, prompt_ids=prompt, best=best, initial_loss=initial_loss)
        if _released.restarts(config.restart_below, loss, len(problem.examples)):
            return state.model_copy(update=_released.restart(prompt)), info
        return self._advance(problem, config, state, text), info

    @staticmethod
    def _hides_current(config: GreaterConfig, state: GreaterState) -> bool:
        """A placeholder is not a word of the prompt, so by default it is never a candidate."""
        return state.open and not config.placeholder_candidate

    def _choose(
        self, problem: Problem, config: GreaterConfig, state: GreaterState, ranked: list[tuple[float, int]]
    ) -> Choice:
        """Evaluate the best mu candidates by gradient on all rows and take the one with the smallest criterion."""
        prompt, position, current = state.prompt_ids, state.position, state.prompt_ids[state.position]
        chosen = ranked[: config.num_evaluated]
        if config.always_include_current and not self._hides_current(config, state):
            chosen += [pair for pair in ranked[config.num_evaluated :] if pair[1] == current]
        texts = problem.model.ask(TokenTexts([token for _, token in chosen]))
        stop = _released.period_among(texts, position, state.initial_length) if config.period_break else None
        if stop is not None:
            chosen, texts = chosen[: stop + 1], texts[: stop + 1]
        prompts = [replaced(prompt, position, token) for _, token in chosen]
        reasoning_of = prompt if config.candidate_reasoning == "current" else None
        rollouts = problem.model.ask(Rollouts(problem.examples, prompts, config.loss, reasoning_of))
        losses = [criterion(config, rows) for rows in rollouts]
        candidates = tuple(
            Candidate(token, text, gradient, loss)
            for (gradient, token), text, loss in zip(chosen, texts, losses, strict=True)
        )
        winner = _released.smallest(losses, config.ties) if stop is None else stop
        return Choice(winner, candidates, tuple(token for _, token in chosen), tuple(losses))

    def _advance(self, problem: Problem, config: GreaterConfig, state: GreaterState, accepted: str) -> GreaterState:
        """Go to the next position; at the end, grow by a placeholder or go back to the start (Appendix B)."""
        position = state.position + 1
        if position < len(state.prompt_ids):
            return state.model_copy(update={"position": position, "open": False})
        ended = any(character in accepted for character in config.ending_characters)
        full = len(state.prompt_ids) >= problem.prompt_limit(config.max_prompt_tokens)
        if ended or full or not config.dynamic_length:
            return state.model_copy(update={"position": 0, "open": False})
        placeholder = problem.model.ask(EncodePrompt(config.placeholder))
        if not placeholder:
            given = config.placeholder
            raise ConfigError(f"{given!r} has no tokens.", setting="method_config.placeholder", value=given)
        prompt = (*state.prompt_ids, placeholder[0])
        return state.model_copy(update={"position": position, "prompt_ids": prompt, "open": True})


def propose(
    problem: Problem,
    config: GreaterConfig,
    state: GreaterState,
    likeliest: tuple[TokenIds, ...],
    notes: list[str],
) -> list[int]:
    """Tokens that every sample of a random q-subset finds likely (Eq. 3, 4), by token id.

    k grows until enough are found; if the lists are used up, deeper ones are asked for. Tokens that would make a
    prompt that does not survive decoding and tokenizing again are left out.
    """
    model, prompt, position = problem.model, state.prompt_ids, state.position
    rng = problem.rng(state.step, "proposal")
    num_rows = len(problem.examples)
    size = min(config.proposal_samples, num_rows)
    banned = {prompt[position]} if state.open and not config.placeholder_candidate else set()
    likeliest = _released.allowed(config.ban_previous_token, likeliest, prompt, position)
    # A prompt that fails elsewhere would fail with every candidate: then the filter has nothing to tell.
    settled = prompt[:position] if state.open else prompt
    filtering = config.filter_round_trip and (not settled or model.ask(CheckPrompts([settled]))[0].survives)
    if config.filter_round_trip and not filtering:
        notes.append("the prompt does not survive decoding and tokenizing again")
    survives: dict[int, bool] = {}
    top_k, used_up = config.top_k, False
    while True:
        depth = max(map(len, likeliest))
        if top_k > depth:
            deeper = model.ask(Proposals(problem.examples, prompt, position, 4 * top_k, config.token_filter))
            likeliest = _released.allowed(config.ban_previous_token, deeper, prompt, position)
            used_up = max(map(len, likeliest)) <= depth
        found: set[int] = set()
        for _ in range(config.intersections):
            rows = rng.sample(range(num_rows), size)
            found |= set.intersection(*(set(likeliest[row][:top_k]) for row in rows))
        found -= banned
        if filtering:
            new = sorted(found - survives.keys())
            checks = model.ask(CheckPrompts([replaced(prompt, position, token) for token in new])) if new else []
            survives.update((token, check.survives) for token, check in zip(new, checks, strict=True))
        else:
            survives.update((token, True) for token in found)
        kept = sorted(token for token in found if survives[token])
        if len(kept) >= config.min_candidates:
            return kept
        if used_up:
            notes.append("few candidates: the vocabulary is used up")
            return sorted(token for token, ok in survives.items() if ok) or [prompt[position]]
        top_k += config.top_k_growth


def criterion(config: GreaterConfig, rollouts: list[Rollout]) -> float:
    """The selection criterion over all rows: mean total loss (Eq. 6), or mistake rate plus weighted NLL."""
    weight = config.fluency_weight if config.selection_fluency_weight is None else config.selection_fluency_weight
    fluency = math.fsum(r.fluency(config.loss) for r in rollouts)
    if config.criterion == "mistakes":
        fit = math.fsum(not r.label_is_best(config.loss) for r in rollouts)
    else:
        fit = math.fsum(r.label_loss(config.loss) for r in rollouts)
    return (fit + weight * fluency) / len(rollouts)


PLUGIN = Greater()

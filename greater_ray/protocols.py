"""The seams. Whoever implements one of these can be exchanged without touching the rest.

``Executor`` runs units of work on replicas, ``GradientModel`` is what a method sees of a model, ``Task`` supplies rows
and reads answers, ``Method`` is one optimizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from greater_ray.types import (
    Answer,
    Call,
    Example,
    LossSpec,
    PromptCheck,
    Rollout,
    ShardGradient,
    TokenIds,
    Usage,
)


class Executor(Protocol):
    """Runs units of work on one or more replicas of a model.

    Contract: results come back in the order of the calls; a result is a pure function of its call, whoever computes
    it and whatever was computed before.
    """

    def run(self, calls: Sequence[Call]) -> list[tuple[Any, Usage]]:
        """Run every call and return its result and cost, aligned with ``calls``."""
        ...


class GradientModel(Protocol):
    """A language model with a fixed layout, seen by an optimizer as numbers, token ids and text.

    Contract: results are aligned with the arguments; decoding is greedy, so every call is deterministic; nothing
    returned holds a tensor.
    """

    def encode_prompt(self, text: str) -> TokenIds:
        """Tokenize prompt text as it continues the frozen prefix; its leading blank belongs to it."""
        ...

    def check_prompts(self, prompts: Sequence[TokenIds]) -> list[PromptCheck]:
        """Decode prompts and tell which of them survive decoding and tokenizing again."""
        ...

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Return the text of each token on its own."""
        ...

    def rollouts(
        self,
        examples: Sequence[Example],
        prompts: Sequence[TokenIds],
        loss: LossSpec,
        reasoning_of: TokenIds | None = None,
    ) -> list[list[Rollout]]:
        """Reason and score: one list per prompt, aligned with ``examples``. Known results are not computed again.

        With ``reasoning_of`` the reasoning is not generated but taken over from that prompt.
        """
        ...

    def gradients(
        self,
        examples: Sequence[Example],
        prompt: TokenIds,
        position: int,
        loss: LossSpec,
        *,
        with_reasoning: bool,
        depth: int,
        token_filter: str,
    ) -> ShardGradient:
        """Gradient of the summed loss at ``position``, and the ``depth`` likeliest tokens there for every example.

        The losses are those of the gradient pass; with ``with_reasoning=False`` the extractor directly follows the
        chat suffix (the paper's ablation).
        """
        ...

    def proposals(
        self, examples: Sequence[Example], prompt: TokenIds, position: int, depth: int, token_filter: str
    ) -> list[TokenIds]:
        """The ``depth`` likeliest tokens at ``position`` given x and the prompt tokens before it (paper Eq. 3)."""
        ...

    def one_hot_gradient(self, gradient: Sequence[float], tokens: Sequence[int]) -> list[float]:
        """dL/d(one-hot weight) of each token: its embedding row times ``gradient`` (paper Eq. 7)."""
        ...

    def answers(self, examples: Sequence[Example], prompt: TokenIds) -> list[Answer]:
        """Reason, extract and decode the answer, one per example."""
        ...

    @property
    def usage(self) -> Usage:
        """All that this model has computed so far."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """How one answer was read. ``prediction`` is None when no answer could be read after the extractor."""

    correct: bool
    prediction: str | None
    strict_correct: bool
    strict_prediction: str | None


class Task(Protocol):
    """Rows of one benchmark, and the reading of answers to them.

    Contract: ``train`` and ``dev`` give the same rows in the same order every time, disjoint from each other and from
    ``test``; ``score`` never raises on odd text. Only the final evaluation may call ``test``.
    """

    name: str
    answer_type: str
    provenance: dict[str, Any]

    def train(self) -> list[Example]:
        """Rows that an optimizer learns from."""
        ...

    def dev(self) -> list[Example]:
        """Rows for choosing among finished prompts."""
        ...

    def test(self) -> list[Example]:
        """Rows for the final evaluation alone."""
        ...

    def score(self, example: Example, reasoning_text: str, answer_text: str) -> Score:
        """Read the answer in two stages (after the extractor) and, beside it, strictly from the reasoning alone."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """What a method may know: the training rows, the model and a seed. There is no way from here to the test rows."""

    examples: tuple[Example, ...]
    model: GradientModel
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One evaluated replacement for the token at a position; ``loss`` is the selection criterion."""

    token: int
    text: str
    gradient: float
    loss: float


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What one step did, for the screen and for ``steps.jsonl``."""

    position: int
    prompt_ids: TokenIds
    prompt_text: str
    loss: float
    best_loss: float
    accepted: int
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


class MethodState(BaseModel, frozen=True, extra="forbid"):
    """Where an optimizer stands, as JSON. Every method's state extends this one.

    ``best`` holds the best distinct prompts so far, lowest loss first; ``initial_loss`` is the start's, if measured.
    """

    step: int = 0
    prompt_ids: TokenIds
    best: tuple[tuple[float, TokenIds], ...] = ()
    steps_since_best: int = 0
    initial_loss: float | None = None

    @property
    def result(self) -> TokenIds:
        """The best prompt so far; the current one where none has been scored."""
        return self.best[0][1] if self.best else self.prompt_ids


ConfigT = TypeVar("ConfigT", bound=BaseModel)
StateT = TypeVar("StateT", bound=MethodState)


class Method(Protocol[ConfigT, StateT]):
    """One optimizer: a configuration, a start and a step. Budget, stopping, records and resume belong to the loop.

    ``presets`` maps a name to settings of the whole trial (``method_config``, ``layout``, ``budget``); the user's
    settings override them.
    """

    summary: str
    source: str
    config_type: type[ConfigT]
    state_type: type[StateT]
    presets: Mapping[str, Mapping[str, Any]]

    def start(self, problem: Problem, config: ConfigT) -> StateT:
        """Return the state before the first step; must be cheap and deterministic."""
        ...

    def step(self, problem: Problem, config: ConfigT, state: StateT) -> tuple[StateT, StepInfo]:
        """Do one step. All randomness comes from ``(problem.seed, state.step, purpose)``."""
        ...

"""A language model by table: a dozen words, and whatever it believes is written down by hand.

It keeps the promises of ``GradientModel``: deterministic, aligned, prompts tokenized by the longest match. Whatever
method runs on it can be followed with pencil and paper.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from greater_ray.methods.greater import PLUGIN, GreaterConfig, GreaterState
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import (
    Answer,
    Conversation,
    Example,
    Generation,
    LossSpec,
    PromptCheck,
    PromptGradient,
    Rollout,
    ShardGradient,
    TokenIds,
    Usage,
)

WORDS = (" think", " step", " by", " then", " and", " check", " slow", " well", ".", "?", "!", "_", "s", " steps")


def rows(num: int) -> tuple[Example, ...]:
    """Return rows ``r0``, ``r1``, ..."""
    return tuple(Example(f"r{k}", f"question {k}", "Yes", "Yes") for k in range(num))


@dataclass
class ScriptedModel:
    """Everything is given by text; ``asked`` notes what was asked for, in order.

    ``ranking`` holds the likeliest tokens of a row, best first (the row ``""`` stands for all others), ``slope`` the
    one-hot gradient of a word, ``outcomes`` the (label CE, prompt NLL, label hit) of a whole prompt. ``table`` holds
    the embedding row of a word, ``pull`` the gradient (of one row of data) at every token of a whole prompt.
    """

    ranking: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"": WORDS[:8]})
    slope: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, tuple[float, float, bool]] = field(default_factory=dict)
    table: Mapping[str, Sequence[float]] = field(default_factory=dict)
    pull: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    words: tuple[str, ...] = WORDS
    asked: list[tuple[str, Any]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    room: int | None = None

    def id(self, word: str) -> int:
        return self.words.index(word)

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self.token_texts(tokens))

    def encode_prompt(self, text: str) -> TokenIds:
        ids: list[int] = []
        while text:
            word = max((w for w in self.words if text.startswith(w)), key=len)
            ids.append(self.id(word))
            text = text[len(word) :]
        return tuple(ids)

    def check_prompts(self, prompts: Sequence[TokenIds]) -> list[PromptCheck]:
        texts = [self.text(p) for p in prompts]
        return [PromptCheck(t, self.encode_prompt(t) == p) for t, p in zip(texts, prompts, strict=True)]

    def prompt_room(self, examples: Sequence[Example]) -> int | None:
        return self.room

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        return [self.words[t] for t in tokens]

    def rollouts(
        self,
        examples: Sequence[Example],
        prompts: Sequence[TokenIds],
        loss: LossSpec,
        reasoning_of: TokenIds | None = None,
    ) -> list[list[Rollout]]:
        self.asked.append(("rollouts", ([self.text(p) for p in prompts], reasoning_of and self.text(reasoning_of))))
        results = []
        for prompt in prompts:
            ce, nll, hit = self.outcomes.get(self.text(prompt), (9.0, 0.0, False))
            results.append([Rollout(reasoning_of or prompt, False, ce, nll, hit) for _ in examples])
        return results

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
        self.asked.append(("gradients", (position, loss, with_reasoning, token_filter)))
        lists = tuple(self._ranked(example, depth) for example in examples)
        return ShardGradient((float(len(examples)),), (0.0,) * len(examples), lists)

    def _ranked(self, example: Example, depth: int) -> TokenIds:
        words = self.ranking.get(example.id, self.ranking.get("", ()))
        return tuple(self.id(word) for word in words[:depth])

    def proposals(
        self, examples: Sequence[Example], prompt: TokenIds, position: int, depth: int, token_filter: str
    ) -> list[TokenIds]:
        self.asked.append(("proposals", (position, depth, token_filter)))
        return [self._ranked(example, depth) for example in examples]

    def one_hot_gradient(self, gradient: Sequence[float], tokens: Sequence[int]) -> list[float]:
        return [self.slope.get(self.words[t], 0.0) * gradient[0] for t in tokens]

    def prompt_gradients(
        self, examples: Sequence[Example], prompt: TokenIds, loss: LossSpec, *, with_reasoning: bool
    ) -> PromptGradient:
        self.asked.append(("prompt_gradients", (self.text(prompt), [e.id for e in examples], with_reasoning)))
        rows = self.pull[self.text(prompt)]
        gradient = tuple(tuple(value * len(examples) for value in row) for row in rows)
        return PromptGradient(gradient, (0.0,) * len(examples))

    def steepest_tokens(self, gradient: Sequence[float], count: int, token_filter: str) -> TokenIds:
        self.asked.append(("steepest_tokens", (count, token_filter)))
        ranked = sorted(range(len(self.words)), key=lambda t: (self.one_hot_gradient(gradient, [t])[0], t))
        return tuple(ranked[:count])

    def embeddings(self, tokens: Sequence[int]) -> list[list[float]]:
        return [list(self.table[self.words[t]]) for t in tokens]

    def nearest_tokens(self, vectors: Sequence[Sequence[float]], token_filter: str) -> TokenIds:
        def cosine(a: Sequence[float], b: Sequence[float]) -> float:
            return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

        return tuple(self.id(max(self.table, key=lambda word: cosine(self.table[word], v))) for v in vectors)

    def answers(self, examples: Sequence[Example], prompts: Sequence[TokenIds]) -> list[list[Answer]]:
        return [
            [Answer(r, self.text(r.reasoning), "Yes" if r.label_hit else "No") for r in rollouts]
            for rollouts in self.rollouts(examples, prompts, LossSpec())
        ]

    def questions(self, kind: str) -> list[Any]:
        """Return what was asked of one kind."""
        return [what for name, what in self.asked if name == kind]


@dataclass
class Distance(ScriptedModel):
    """The loss of a prompt is the number of words in which it differs from ``goal``."""

    goal: str = " then and check"

    def rollouts(
        self,
        examples: Sequence[Example],
        prompts: Sequence[TokenIds],
        loss: LossSpec,
        reasoning_of: TokenIds | None = None,
    ) -> list[list[Rollout]]:
        goal = self.encode_prompt(self.goal)
        wrong = [sum(a != b for a, b in zip_longest(prompt, goal)) for prompt in prompts]
        return [[Rollout((), False, float(n), 0.0, n == 0)] * len(examples) for n in wrong]


# -- one step of GReaTer on it -----------------------------------------------------------------------------------------

START = " think step by"


def config(**values: Any) -> GreaterConfig:
    """Every proposed word is evaluated, unless said otherwise."""
    settings = {"initial_prompt": START, "top_k": 8, "min_candidates": 1, "num_evaluated": 20} | values
    return GreaterConfig(**settings)


def state_at(model: ScriptedModel, position: int, text: str = START, **values: Any) -> GreaterState:
    ids = model.encode_prompt(text)
    return GreaterState(prompt_ids=ids, initial_length=len(ids), position=position, **values)


def step(
    model: ScriptedModel, cfg: GreaterConfig, state: GreaterState | None = None, num_rows: int = 4, seed: int = 0
) -> tuple[GreaterState, StepInfo]:
    problem = Problem(rows(num_rows), model, seed)
    return PLUGIN.step(problem, cfg, state or PLUGIN.start(problem, cfg))


def evaluated(info: StepInfo) -> list[str]:
    return [c.text for c in info.candidates]


def read(example: Example, answer: Answer) -> ExampleRecord:
    """Read an answer as a task does: right if it is the label."""
    return ExampleRecord(
        id=example.id,
        target=example.target,
        prediction=answer.answer_text,
        correct=answer.answer_text == example.label,
        strict_prediction=None,
        strict_correct=False,
        truncated=False,
        reasoning_tokens=0,
        label_ce=1.0,
        prompt_nll=0.0,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


# -- a writer ----------------------------------------------------------------------------------------------------------


@dataclass
class ScriptedWriter:
    """A ``TextModel`` that answers as the test says: ``reply(conversation, row)`` is the text, None a failure."""

    reply: Callable[[Conversation, int], str | None]
    asked: list[Conversation] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        self.asked.extend(conversations)
        self.usage = self.usage + Usage(calls=len(conversations), generated_tokens=len(conversations))
        texts = [self.reply(conversation, row) for row, conversation in enumerate(conversations)]
        return [Generation("", error="refused") if text is None else Generation(text) for text in texts]

    def note_unreadable(self, count: int) -> None:
        self.usage = self.usage + Usage(unreadable=count)

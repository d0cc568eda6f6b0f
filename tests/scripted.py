"""A language model by table: a dozen words, and whatever it believes is written down by hand.

It keeps the promises of ``GradientModel``: deterministic, aligned, prompts tokenized by the longest match. Whatever
method runs on it can be followed with pencil and paper.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from benchmarks.whole import WholeModel
from greater_ray.methods.greater import PLUGIN, GreaterConfig, GreaterState
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import (
    Answer,
    Conversation,
    Example,
    Generation,
    Layout,
    LossSpec,
    PromptCheck,
    PromptGradient,
    Rollout,
    ShardGradient,
    TokenIds,
    Usage,
)
from greater_ray.work import (
    Answers,
    CheckPrompts,
    EncodePrompt,
    Gradients,
    NearestTokens,
    OneHotGradient,
    PromptGradients,
    PromptRoom,
    Proposals,
    Rollouts,
    SteepestTokens,
    TokenEmbeddings,
    TokenTexts,
    computes,
)

WORDS = (" think", " step", " by", " then", " and", " check", " slow", " well", ".", "?", "!", "_", "s", " steps")


def rows(num: int) -> tuple[Example, ...]:
    """Return rows ``r0``, ``r1``, ..."""
    return tuple(Example(f"r{k}", f"question {k}", "Yes", "Yes") for k in range(num))


@dataclass
class ScriptedModel(WholeModel):
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
    facts: dict[str, Any] = field(default_factory=lambda: {"name": "scripted"})

    def id(self, word: str) -> int:
        return self.words.index(word)

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(self.word, tokens))

    def encoded(self, text: str) -> TokenIds:
        ids: list[int] = []
        while text:
            word = max((w for w in self.words if text.startswith(w)), key=len)
            ids.append(self.id(word))
            text = text[len(word) :]
        return tuple(ids)

    @computes(EncodePrompt)
    def encode_prompt(self, work: EncodePrompt, layout: Layout | None) -> tuple[TokenIds, Usage]:
        return self.encoded(work.text), Usage()

    @computes(CheckPrompts)
    def check_prompts(self, work: CheckPrompts, layout: Layout | None) -> tuple[list[PromptCheck], Usage]:
        texts = [self.text(p) for p in work.prompts]
        return [PromptCheck(t, self.encoded(t) == p) for t, p in zip(texts, work.prompts, strict=True)], Usage()

    @computes(PromptRoom)
    def prompt_room(self, work: PromptRoom, layout: Layout | None) -> tuple[int | None, Usage]:
        return self.room, Usage()

    @computes(TokenTexts)
    def token_texts(self, work: TokenTexts, layout: Layout | None) -> tuple[list[str], Usage]:
        return [self.word(t) for t in work.tokens], Usage()

    def word(self, token: int) -> str:
        return self.words[token]

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        given = work.reasoning_of
        self.asked.append(("rollouts", ([self.text(p) for p in work.prompts], given and self.text(given))))
        results = []
        for prompt in work.prompts:
            ce, nll, hit = self.outcomes.get(self.text(prompt), (9.0, 0.0, False))
            results.append([Rollout(given or prompt, False, ce, nll, hit) for _ in work.examples])
        return results, Usage()

    @computes(Gradients)
    def gradients(self, work: Gradients, layout: Layout | None) -> tuple[ShardGradient, Usage]:
        self.asked.append(("gradients", (work.position, work.loss, work.with_reasoning, work.token_filter)))
        lists = tuple(self._ranked(example, work.depth) for example in work.examples)
        return ShardGradient((float(len(work.examples)),), (0.0,) * len(work.examples), lists), Usage()

    def _ranked(self, example: Example, depth: int) -> TokenIds:
        words = self.ranking.get(example.id, self.ranking.get("", ()))
        return tuple(self.id(word) for word in words[:depth])

    @computes(Proposals)
    def proposals(self, work: Proposals, layout: Layout | None) -> tuple[list[TokenIds], Usage]:
        self.asked.append(("proposals", (work.position, work.depth, work.token_filter)))
        return [self._ranked(example, work.depth) for example in work.examples], Usage()

    @computes(OneHotGradient)
    def one_hot_gradient(self, work: OneHotGradient, layout: Layout | None) -> tuple[list[float], Usage]:
        return [self.slope.get(self.words[t], 0.0) * work.gradient[0] for t in work.tokens], Usage()

    @computes(PromptGradients)
    def prompt_gradients(self, work: PromptGradients, layout: Layout | None) -> tuple[PromptGradient, Usage]:
        num, text = len(work.examples), self.text(work.prompt)
        self.asked.append(("prompt_gradients", (text, [e.id for e in work.examples], work.with_reasoning)))
        gradient = tuple(tuple(value * num for value in row) for row in self.pull[text])
        lists = tuple((self._ranked(example, work.depth),) * len(work.prompt) for example in work.examples)
        return PromptGradient(gradient, (0.0,) * num, lists if work.depth else ()), Usage()

    @computes(SteepestTokens)
    def steepest_tokens(self, work: SteepestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        self.asked.append(("steepest_tokens", (work.count, work.token_filter)))
        slopes = self.ask(OneHotGradient(work.gradient, range(len(self.words))))
        return tuple(sorted(range(len(self.words)), key=lambda t: (slopes[t], t))[: work.count]), Usage()

    @computes(TokenEmbeddings)
    def token_embeddings(self, work: TokenEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        return [list(self.table[self.words[t]]) for t in work.tokens], Usage()

    @computes(NearestTokens)
    def nearest_tokens(self, work: NearestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        def cosine(a: Sequence[float], b: Sequence[float]) -> float:
            return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

        return tuple(
            self.id(max(self.table, key=lambda word: cosine(self.table[word], v))) for v in work.vectors
        ), Usage()

    @computes(Answers)
    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        return [
            [Answer(r, self.text(r.reasoning), "Yes" if r.label_hit else "No") for r in rollouts]
            for rollouts in self.ask(Rollouts(work.examples, work.prompts, LossSpec()))
        ], Usage()

    def questions(self, kind: str) -> list[Any]:
        """Return what was asked of one kind."""
        return [what for name, what in self.asked if name == kind]


@dataclass
class Distance(ScriptedModel):
    """The loss of a prompt is the number of words in which it differs from ``goal``."""

    goal: str = " then and check"

    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        goal = self.encoded(self.goal)
        wrong = [sum(a != b for a, b in zip_longest(prompt, goal)) for prompt in work.prompts]
        return [[Rollout((), False, float(n), 0.0, n == 0)] * len(work.examples) for n in wrong], Usage()


# -- one step of GReaTer on it -----------------------------------------------------------------------------------------

START = " think step by"


def config(**values: Any) -> GreaterConfig:
    """Every proposed word is evaluated, unless said otherwise."""
    settings = {"initial_prompt": START, "top_k": 8, "min_candidates": 1, "num_evaluated": 20} | values
    return GreaterConfig(**settings)


def state_at(model: ScriptedModel, position: int, text: str = START, **values: Any) -> GreaterState:
    ids = model.encoded(text)
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
        score=float(answer.answer_text == example.label),
        strict_prediction=None,
        strict_score=0.0,
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

"""The kinds of work. Names are the paper's: question x, prompt p, reasoning r, extractor e, label y."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from greater_ray.config import fingerprint
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
    Shard,
    ShardGradient,
    TokenIds,
)
from greater_ray.work.base import LETTERS, Asking, Work
from greater_ray.work.memory import (
    ANSWERS,
    ROLLOUTS,
    TEXT_EMBEDDINGS,
    AnswerKey,
    Memory,
    RolloutKey,
    row_key,
    shard_key,
)

ResultT = TypeVar("ResultT")

GENERATION_CHUNK = 8  # conversations of one unit
TEXT_CHUNK = 16  # texts of one unit

# -- text and tokens: no rows, no passes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodePrompt(Work[TokenIds]):
    """Tokenize prompt text as it continues what stands before it; its leading blank belongs to it."""

    text: str


@dataclass(frozen=True)
class RenderedTurns(Work[str]):
    """The turns that ask, as the chat template writes them, with ``{question}`` and ``{prompt}`` in their places."""


@dataclass(frozen=True)
class CheckPrompts(Work[list[PromptCheck]]):
    """Decode prompts and tell which of them survive decoding and tokenizing again."""

    prompts: Sequence[TokenIds]


@dataclass(frozen=True)
class TokenTexts(Work[list[str]]):
    """The text of each token on its own."""

    tokens: Sequence[int]


@dataclass(frozen=True)
class PromptRoom(Work[int | None]):
    """How many tokens of prompt fit the context window on each of the examples; None: there is no limit."""

    examples: Sequence[Example]

    def units(self, model: Asking) -> list[Self]:
        """Ask once for the same examples."""
        return [] if tuple(self.examples) in model.memory.rooms else [self]

    def remember(self, result: int | None, memory: Memory) -> None:
        """Keep it, unsaved: it costs nothing."""
        memory.rooms[tuple(self.examples)] = result

    def joined(self, results: Sequence[int | None], model: Asking) -> int | None:
        """Look it up."""
        return model.memory.rooms[tuple(self.examples)]


# -- the embedding table -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneHotGradient(Work[list[float]]):
    """dL/d(one-hot weight) of each token: its embedding row times ``gradient`` ``[hidden_size]`` (paper Eq. 7)."""

    gradient: Sequence[float]
    tokens: Sequence[int]


@dataclass(frozen=True)
class SteepestTokens(Work[TokenIds]):
    """The ``count`` allowed tokens of the vocabulary with the most negative one-hot gradient, steepest first."""

    gradient: Sequence[float]
    count: int
    token_filter: str


@dataclass(frozen=True)
class TokenEmbeddings(Work[list[list[float]]]):
    """The tokens' rows of the embedding table, ``[tokens, hidden_size]``."""

    tokens: Sequence[int]


@dataclass(frozen=True)
class NearestTokens(Work[TokenIds]):
    """For each vector ``[hidden_size]`` the allowed token whose embedding row has the largest cosine with it."""

    vectors: Sequence[Sequence[float]]
    token_filter: str


# -- rows --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowWork(Work[ResultT]):
    """Work over labelled rows: one unit per shard, which reads the shard's questions."""

    examples: Sequence[Example]

    @property
    def shard(self) -> Shard:
        """The rows."""
        return tuple(self.examples)

    def units(self, model: Asking) -> list[Self]:
        """One unit per shard."""
        return [replace(self, examples=shard) for shard in model.shards(self.examples)]


@dataclass(frozen=True)
class Proposals(RowWork[list[TokenIds]]):
    """For every row the ``depth`` likeliest tokens at ``position``, given all that stands before it (paper Eq. 3).

    That is x and the prompt's beginning; where the prompt stands in front of x, the same for every row.
    """

    prompt: TokenIds
    position: int
    depth: int
    token_filter: str

    def joined(self, results: Sequence[list[TokenIds]], model: Asking) -> list[TokenIds]:
        """One list of tokens per row."""
        return [tokens for part in results for tokens in part]


@dataclass(frozen=True)
class Rollouts(RowWork[list[list[Rollout]]]):
    """Reason under every prompt for every row and score the label: one list per prompt, aligned with ``examples``.

    With ``reasoning_of`` the reasoning is not generated but taken over from that prompt; the empty prompt ``()`` stands
    for no reasoning at all. ``reasoning`` (one per row) is filled in where units are cut.
    """

    prompts: Sequence[TokenIds]
    loss: LossSpec
    reasoning_of: TokenIds | None = None
    reasoning: Sequence[TokenIds] | None = None

    def size(self, layout: Layout | None) -> int:
        """All rows under every prompt."""
        return len(self.prompts) * super().size(layout)

    def units(self, model: Asking) -> list[Self]:
        """One unit per shard, with the prompts whose rollouts are not known for it."""
        shards = model.shards(self.examples)
        known = model.memory.of(ROLLOUTS)
        missing = []
        for shard in shards:
            name = shard_key(shard)
            missing.append(tuple(p for p in dict.fromkeys(self.prompts) if self._key(p, name) not in known))
        given: list[list[TokenIds] | None] = [None] * len(shards)
        if self.reasoning_of is not None and any(missing):
            given = [*_reasoning_of(self.reasoning_of, self.examples, self.loss, model)]
        return [
            replace(self, examples=shard, prompts=prompts, reasoning=reasoning)
            for shard, prompts, reasoning in zip(shards, missing, given, strict=True)
            if prompts
        ]

    def _key(self, prompt: TokenIds, shard: str) -> RolloutKey:
        return RolloutKey(prompt, shard, self.loss.ce_temperature, self.reasoning_of, self.loss.label)

    def remember(self, result: list[list[Rollout]], memory: Memory) -> None:
        """Keep the rollouts of every prompt."""
        name = shard_key(self.examples)
        for prompt, rollouts in zip(self.prompts, result, strict=True):
            memory.add(ROLLOUTS, self._key(prompt, name), rollouts)

    def joined(self, results: Sequence[list[list[Rollout]]], model: Asking) -> list[list[Rollout]]:
        """Look up every prompt on every shard."""
        known = model.memory.of(ROLLOUTS)
        names = [shard_key(shard) for shard in model.shards(self.examples)]
        return [[r for name in names for r in known[self._key(prompt, name)]] for prompt in self.prompts]


def _reasoning_of(prompt: TokenIds, examples: Sequence[Example], loss: LossSpec, model: Asking) -> list[list[TokenIds]]:
    """Return the reasoning under a prompt, shard by shard; there is none under the empty prompt."""
    shards = model.shards(examples)
    if not prompt:
        return [[()] * len(shard) for shard in shards]
    rollouts = iter(model.ask(Rollouts(examples, (prompt,), loss))[0])
    return [[next(rollouts).reasoning for _ in shard] for shard in shards]


@dataclass(frozen=True)
class Answers(RowWork[list[list[Answer]]]):
    """Reason, extract and decode the answer: one list per prompt, aligned with ``examples``.

    A unit has one prompt, and only rows that are new for it. ``rollouts`` (one per row) are filled in where the
    reasoning under this very prompt is known: it is taken over. With ``score_choices`` the layout's choices are scored
    after the extractor, too.
    """

    prompts: Sequence[TokenIds]
    rollouts: Sequence[Rollout] | None = None
    score_choices: bool = False

    @property
    def reasoning(self) -> list[TokenIds] | None:
        """The known reasoning of every row, if it is known."""
        return None if self.rollouts is None else [r.reasoning for r in self.rollouts]

    def units(self, model: Asking) -> list[Self]:
        """One unit per prompt and shard, with the rows that are new."""
        known, shards = model.memory.of(ANSWERS), model.shards(self.examples)
        cut = []
        for prompt in dict.fromkeys(self.prompts):
            for shard in shards:
                new = tuple(e for e in shard if AnswerKey(prompt, row_key(e)) not in known)
                if new:
                    cut.append(replace(self, examples=new, prompts=(prompt,), rollouts=_own(prompt, new, model.memory)))
        return cut

    def remember(self, result: list[list[Answer]], memory: Memory) -> None:
        """Keep every row's answer. Whether given reasoning was cut off at the limit only its rollout tells."""
        (prompt,), (answers,) = self.prompts, result
        cut = [rollout.truncated for rollout in self.rollouts or [a.rollout for a in answers]]
        for example, answer, truncated in zip(self.examples, answers, cut, strict=True):
            rollout = replace(answer.rollout, truncated=truncated)
            memory.add(ANSWERS, AnswerKey(prompt, row_key(example)), replace(answer, rollout=rollout))

    def joined(self, results: Sequence[list[list[Answer]]], model: Asking) -> list[list[Answer]]:
        """Look up every prompt on every row."""
        known, rows = model.memory.of(ANSWERS), [row_key(e) for e in self.examples]
        return [[known[AnswerKey(prompt, row)] for row in rows] for prompt in self.prompts]


def _own(prompt: TokenIds, shard: Shard, memory: Memory) -> list[Rollout] | None:
    """Return rollouts whose reasoning was generated under this very prompt, whatever the loss was."""
    name = shard_key(shard)
    for key, rollouts in memory.of(ROLLOUTS).items():
        if key.prompt == prompt and key.shard == name and key.reasoning_of is None:
            return rollouts
    return None


@dataclass(frozen=True)
class BackwardWork(RowWork[ResultT]):
    """Differentiate the summed loss of the rows, after the prompt's own reasoning or none.

    With ``with_reasoning=False`` the extractor directly follows the chat suffix (the paper's ablation). ``reasoning``
    (one per row) is filled in where units are cut, unless it is given: whoever has it need not have it made again.
    """

    prompt: TokenIds
    loss: LossSpec
    with_reasoning: bool = True
    reasoning: Sequence[TokenIds] = ()

    def units(self, model: Asking) -> list[Self]:
        """One unit per shard, with the reasoning of its rows."""
        shards = model.shards(self.examples)
        if self.reasoning:
            rows = iter(self.reasoning)
            given = [[next(rows) for _ in shard] for shard in shards]
        else:
            given = _reasoning_of(self.prompt if self.with_reasoning else (), self.examples, self.loss, model)
        return [replace(self, examples=s, reasoning=r) for s, r in zip(shards, given, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Gradients(BackwardWork[ShardGradient]):
    """Gradient of the summed loss at ``position``, and the ``depth`` likeliest tokens there for every row.

    The losses are those of the gradient pass.
    """

    position: int
    depth: int
    token_filter: str

    def joined(self, results: Sequence[ShardGradient], model: Asking) -> ShardGradient:
        """Add shards in float64, in their order."""
        return ShardGradient(
            gradient=tuple(math.fsum(column) for column in zip(*(p.gradient for p in results), strict=True)),
            losses=tuple(value for p in results for value in p.losses),
            proposals=tuple(tokens for p in results for tokens in p.proposals),
        )


@dataclass(frozen=True)
class PromptGradients(BackwardWork[PromptGradient]):
    """Gradient of the summed loss with respect to the embedding row of every prompt token.

    With a ``depth``, also so many likeliest tokens at every position for every row (paper Eq. 3): their logits are at
    hand.
    """

    depth: int = 0
    token_filter: str = "none"

    def joined(self, results: Sequence[PromptGradient], model: Asking) -> PromptGradient:
        """Add shards in float64, in their order."""
        return PromptGradient.summed(results)


# -- texts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generate(Work[list[Generation]]):
    """Continue every conversation by up to ``max_tokens``, each with a seed of its own; temperature 0 is greedy."""

    conversations: Sequence[Conversation]
    seeds: Sequence[int]
    max_tokens: int
    temperature: float

    def home(self, layout: Layout | None) -> str | None:
        """Nothing is held, but it is no small work."""
        return fingerprint([self.kind, list(self.seeds)])

    def size(self, layout: Layout | None) -> int:
        """What is read and what may be written."""
        read = sum(len(message.content) for conversation in self.conversations for message in conversation)
        return 1 + read // LETTERS + len(self.conversations) * self.max_tokens

    def units(self, model: Asking) -> list[Self]:
        """Chunks of fixed size: a text depends by rounding on the rows beside it, never on the number of replicas."""
        starts = range(0, len(self.conversations), GENERATION_CHUNK)
        return [
            replace(
                self,
                conversations=tuple(self.conversations[k : k + GENERATION_CHUNK]),
                seeds=tuple(self.seeds[k : k + GENERATION_CHUNK]),
            )
            for k in starts
        ]

    def joined(self, results: Sequence[list[Generation]], model: Asking) -> list[Generation]:
        """One generation per conversation."""
        return [generation for part in results for generation in part]


@dataclass(frozen=True)
class TextEmbeddings(Work[list[list[float]]]):
    """The mean of the last layer's hidden states over each text's tokens, ``[texts, hidden_size]``, of length one."""

    texts: Sequence[str]

    def home(self, layout: Layout | None) -> str | None:
        """Nothing is held, but it is no small work."""
        return fingerprint([self.kind, list(self.texts)])

    def size(self, layout: Layout | None) -> int:
        """All texts."""
        return 1 + sum(map(len, self.texts)) // LETTERS

    def units(self, model: Asking) -> list[Self]:
        """Chunks of texts that are new."""
        known = model.memory.of(TEXT_EMBEDDINGS)
        new = [text for text in dict.fromkeys(self.texts) if text not in known]
        return [replace(self, texts=tuple(new[k : k + TEXT_CHUNK])) for k in range(0, len(new), TEXT_CHUNK)]

    def remember(self, result: list[list[float]], memory: Memory) -> None:
        """Keep every text's embedding."""
        for text, embedding in zip(self.texts, result, strict=True):
            memory.add(TEXT_EMBEDDINGS, text, embedding)

    def joined(self, results: Sequence[list[list[float]]], model: Asking) -> list[list[float]]:
        """Look up every text."""
        known = model.memory.of(TEXT_EMBEDDINGS)
        return [known[text] for text in self.texts]

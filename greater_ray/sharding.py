"""A model as optimizers see it: work is cut into fixed shards, known results are reused, and everything is metered.

The shard is the unit of work, sums are taken in float64 in shard order, and results never depend on who computed a
shard. A (prompt, shard) pair is never generated twice: its rollouts are kept, and belong to the checkpoint.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from greater_ray.config import fingerprint
from greater_ray.portions import Allow, anything, portions
from greater_ray.protocols import Executor
from greater_ray.types import (
    Answer,
    Call,
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
    Usage,
    split_shards,
    total,
)


class LocalExecutor:
    """Runs every call in this process, on one engine."""

    width = 1

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def run(self, calls: Sequence[Call]) -> list[tuple[Any, Usage]]:
        """Run the calls in order; see ``Executor``."""
        return [getattr(self.engine, call.name)(**call.args) for call in calls]


class RolloutKey(NamedTuple):
    """What a shard's rollouts depend on. ``reasoning_of`` is the prompt whose reasoning was taken over, if any."""

    prompt: TokenIds
    shard: str
    ce_temperature: float
    reasoning_of: TokenIds | None


class AnswerKey(NamedTuple):
    """What an answer depends on: the prompt and the row."""

    prompt: TokenIds
    row: str


class ShardedModel:
    """A ``GradientModel`` over an executor, for one layout.

    ``fresh`` and ``fresh_answers`` collect what is not yet saved; ``restore`` takes saved ones back. ``allow`` is
    asked before every portion of work.
    """

    def __init__(self, executor: Executor, layout: Layout, shard_size: int) -> None:
        self.executor, self.layout, self.shard_size = executor, layout, shard_size
        self._known: dict[RolloutKey, list[Rollout]] = {}
        self._answers: dict[AnswerKey, Answer] = {}
        self._room: dict[tuple[Example, ...], int | None] = {}
        self.fresh: list[tuple[RolloutKey, list[Rollout]]] = []
        self.fresh_answers: list[tuple[AnswerKey, Answer]] = []
        self.allow: Allow = anything
        self.seen_prefixes: set[str] = set()
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        """All that was computed so far."""
        return self._usage

    def restore(
        self,
        rollouts: Iterable[tuple[RolloutKey, list[Rollout]]],
        answers: Iterable[tuple[AnswerKey, Answer]],
        usage: Usage,
        seen_prefixes: Iterable[str],
    ) -> None:
        """Go on from a checkpoint."""
        self._known.update(rollouts)
        self._answers.update(answers)
        self._usage = usage
        self.seen_prefixes = set(seen_prefixes)

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """Run calls and meter them; return their results."""
        return [result for result, _ in self._metered(calls)]

    def _metered(self, calls: Sequence[Call]) -> list[tuple[Any, Usage]]:
        """Run calls and meter them, the wall time in equal parts.

        A shard's questions are counted the first time, whether or not they are kept.
        """
        before, results = self._usage, []
        for portion in portions(calls, self.allow, lambda: self._usage - before):
            begin = time.perf_counter()
            answers = self.executor.run(portion)
            seconds = Usage(seconds=(time.perf_counter() - begin) / len(portion))
            spent = [self._first_seen(call, usage) + seconds for call, (_, usage) in zip(portion, answers, strict=True)]
            self._usage = self._usage + total(spent)
            results += [(result, usage) for (result, _), usage in zip(answers, spent, strict=True)]
        return results

    def _first_seen(self, call: Call, usage: Usage) -> Usage:
        """Take off the questions of a shard that were counted before."""
        shard = call.args.get("shard")
        if shard is None:
            return usage
        key = _shard_key(shard)
        known = key in self.seen_prefixes
        self.seen_prefixes.add(key)
        return usage - Usage(prefix_tokens=usage.prefix_tokens) if known else usage

    def mark_seen(self, shard: Shard) -> None:
        """Count this shard's questions as computed: a continued run pays for them no second time."""
        self.seen_prefixes.add(_shard_key(shard))

    def _shards(self, examples: Sequence[Example]) -> list[Shard]:
        return split_shards(examples, self.shard_size)

    def encode_prompt(self, text: str) -> TokenIds:
        """Tokenize prompt text; see ``GradientModel``."""
        (ids,) = self._run([Call("encode_prompt", {"layout": self.layout, "text": text})])
        return tuple(ids)

    def check_prompts(self, prompts: Sequence[TokenIds]) -> list[PromptCheck]:
        """Decode prompts and tell which survive; see ``GradientModel``."""
        (checks,) = self._run([Call("check_prompts", {"layout": self.layout, "prompts": list(prompts)})])
        return list(checks)

    def prompt_room(self, examples: Sequence[Example]) -> int | None:
        """Tokens of prompt that fit; see ``GradientModel``. Asked of the model once for the same examples."""
        key = tuple(examples)
        if key not in self._room:
            (self._room[key],) = self._run([Call("prompt_room", {"layout": self.layout, "examples": list(key)})])
        return self._room[key]

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Return the text of each token; see ``GradientModel``."""
        (texts,) = self._run([Call("token_texts", {"tokens": list(tokens)})])
        return list(texts)

    def rollouts(
        self,
        examples: Sequence[Example],
        prompts: Sequence[TokenIds],
        loss: LossSpec,
        reasoning_of: TokenIds | None = None,
    ) -> list[list[Rollout]]:
        """Reason and score; see ``GradientModel``. One call per shard, with all prompts that are new for it."""
        shards = self._shards(examples)
        keys = {
            (prompt, k): RolloutKey(prompt, _shard_key(shard), loss.ce_temperature, reasoning_of)
            for prompt in prompts
            for k, shard in enumerate(shards)
        }
        missing = [[p for p in dict.fromkeys(prompts) if keys[p, k] not in self._known] for k in range(len(shards))]
        given: list[list[TokenIds] | None] = [None] * len(shards)
        if reasoning_of == ():
            given = [[()] * len(shard) for shard in shards]
        elif reasoning_of is not None and any(missing):
            flat = [r.reasoning for r in self.rollouts(examples, [reasoning_of], loss)[0]]
            size = self.shard_size
            given = [flat[k * size : (k + 1) * size] for k in range(len(shards))]
        work = [k for k in range(len(shards)) if missing[k]]
        calls = [
            Call(
                "rollouts",
                {
                    "shard": shards[k],
                    "layout": self.layout,
                    "prompts": missing[k],
                    "ce_temperature": loss.ce_temperature,
                    "reasoning": given[k],
                },
            )
            for k in work
        ]
        for k, results in zip(work, self._run(calls), strict=True):
            for prompt, rollouts in zip(missing[k], results, strict=True):
                self._known[keys[prompt, k]] = rollouts
                self.fresh.append((keys[prompt, k], rollouts))
        return [[r for k in range(len(shards)) for r in self._known[keys[prompt, k]]] for prompt in prompts]

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
        """Gradient summed over all shards in float64; see ``GradientModel``."""
        at = {"position": position, "depth": depth, "token_filter": token_filter}
        parts: list[ShardGradient] = self._backward("gradients", examples, prompt, loss, with_reasoning, at)
        return ShardGradient(
            gradient=tuple(math.fsum(column) for column in zip(*(p.gradient for p in parts), strict=True)),
            losses=tuple(value for p in parts for value in p.losses),
            proposals=tuple(tokens for p in parts for tokens in p.proposals),
        )

    def prompt_gradients(
        self, examples: Sequence[Example], prompt: TokenIds, loss: LossSpec, *, with_reasoning: bool
    ) -> PromptGradient:
        """Gradient at every prompt token, summed over all shards in float64; see ``GradientModel``."""
        parts: list[PromptGradient] = self._backward("prompt_gradients", examples, prompt, loss, with_reasoning, {})
        tokens = zip(*(p.gradient for p in parts), strict=True)
        return PromptGradient(
            gradient=tuple(tuple(math.fsum(column) for column in zip(*rows, strict=True)) for rows in tokens),
            losses=tuple(value for p in parts for value in p.losses),
        )

    def _backward(
        self,
        name: str,
        examples: Sequence[Example],
        prompt: TokenIds,
        loss: LossSpec,
        with_reasoning: bool,
        further: dict[str, Any],
    ) -> list[Any]:
        """Run one backward unit per shard, after the prompt's own reasoning or none."""
        reasoning: list[TokenIds] = [()] * len(examples)
        if with_reasoning:
            reasoning = [r.reasoning for r in self.rollouts(examples, [prompt], loss)[0]]
        size = self.shard_size
        shared = {"layout": self.layout, "prompt": prompt, "loss": loss, **further}
        return self._run(
            [
                Call(name, {"shard": shard, "reasoning": reasoning[k * size : (k + 1) * size], **shared})
                for k, shard in enumerate(self._shards(examples))
            ]
        )

    def proposals(
        self, examples: Sequence[Example], prompt: TokenIds, position: int, depth: int, token_filter: str
    ) -> list[TokenIds]:
        """Likeliest tokens at a position; see ``GradientModel``."""
        shared = {"layout": self.layout, "prompt": prompt, "position": position, "depth": depth}
        calls = [
            Call("proposals", {"shard": shard, "token_filter": token_filter, **shared})
            for shard in self._shards(examples)
        ]
        return [tokens for result in self._run(calls) for tokens in result]

    def one_hot_gradient(self, gradient: Sequence[float], tokens: Sequence[int]) -> list[float]:
        """dL/d(one-hot weight) of each token; see ``GradientModel``."""
        (values,) = self._run([Call("one_hot_gradient", {"gradient": list(gradient), "tokens": list(tokens)})])
        return list(values)

    def steepest_tokens(self, gradient: Sequence[float], count: int, token_filter: str) -> TokenIds:
        """Tokens with the most negative one-hot gradient; see ``GradientModel``."""
        args = {"gradient": list(gradient), "count": count, "token_filter": token_filter}
        (tokens,) = self._run([Call("steepest_tokens", args)])
        return tuple(tokens)

    def embeddings(self, tokens: Sequence[int]) -> list[list[float]]:
        """Rows of the embedding table; see ``GradientModel``."""
        (rows,) = self._run([Call("embeddings", {"tokens": list(tokens)})])
        return [list(row) for row in rows]

    def nearest_tokens(self, vectors: Sequence[Sequence[float]], token_filter: str) -> TokenIds:
        """Tokens with the largest cosine; see ``GradientModel``."""
        args = {"vectors": [list(v) for v in vectors], "token_filter": token_filter}
        (tokens,) = self._run([Call("nearest_tokens", args)])
        return tuple(tokens)

    def answers(self, examples: Sequence[Example], prompts: Sequence[TokenIds]) -> list[list[Answer]]:
        """Reason, extract and decode; see ``GradientModel``. Reasoning that is known is taken over.

        All prompts' shards go to the executor together; of a shard, only rows that are new for a prompt are computed.
        """
        self._answer([(prompt, shard) for prompt in dict.fromkeys(prompts) for shard in self._shards(examples)])
        return [[self._answers[AnswerKey(prompt, _row_key(e))] for e in examples] for prompt in prompts]

    def answer_shards(self, shards: Sequence[Shard], prompt: TokenIds) -> list[tuple[list[Answer], Usage]]:
        """Answer whole shards together, and tell what each of them cost."""
        spent = self._answer([(prompt, shard) for shard in shards])
        return [
            ([self._answers[AnswerKey(prompt, _row_key(e))] for e in shard], usage)
            for shard, usage in zip(shards, spent, strict=True)
        ]

    def _answer(self, pairs: Sequence[tuple[TokenIds, Shard]]) -> list[Usage]:
        """Compute what is not known yet of (prompt, shard) pairs; return the cost of each pair."""
        spent = [Usage()] * len(pairs)
        work: list[tuple[int, TokenIds, Shard, list[Rollout] | None]] = []
        for k, (prompt, shard) in enumerate(pairs):
            new = tuple(e for e in shard if AnswerKey(prompt, _row_key(e)) not in self._answers)
            if new:
                work.append((k, prompt, new, self._own_rollouts(prompt, new)))
        calls = [
            Call(
                "answers",
                {
                    "shard": shard,
                    "reasoning": rows and [r.reasoning for r in rows],
                    "layout": self.layout,
                    "prompt": prompt,
                },
            )
            for _, prompt, shard, rows in work
        ]
        results = self._metered(calls) if calls else []
        for (k, prompt, shard, rows), (result, usage) in zip(work, results, strict=True):
            spent[k] = usage
            cut = [r.truncated for r in rows] if rows else [a.rollout.truncated for a in result]
            for example, answer, truncated in zip(shard, result, cut, strict=True):
                key = AnswerKey(prompt, _row_key(example))
                self._answers[key] = replace(answer, rollout=replace(answer.rollout, truncated=truncated))
                self.fresh_answers.append((key, self._answers[key]))
        return spent

    def _own_rollouts(self, prompt: TokenIds, shard: Shard) -> list[Rollout] | None:
        """Rollouts whose reasoning was generated under this very prompt, whatever the loss was."""
        name = _shard_key(shard)
        for key, rollouts in self._known.items():
            if key.prompt == prompt and key.shard == name and key.reasoning_of is None:
                return rollouts
        return None


def _row_key(example: Example) -> str:
    """Identify a row by its content: changed rows never meet old results."""
    return fingerprint([example.id, example.question, example.label])


def _shard_key(shard: Shard) -> str:
    """Identify a shard by the content of its rows."""
    return fingerprint([[example.id, example.question, example.label] for example in shard])


GENERATION_CHUNK = 8


class ReplicaTextModel:
    """A ``TextModel`` over an executor, with a ledger of its own; ``allow`` as in ``ShardedModel``.

    Conversations go out in chunks of fixed size, and every row has a seed of its own, so that a text does not depend
    on the number of replicas.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.allow: Allow = anything
        self.usage = Usage()

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        """Continue every conversation; see ``TextModel``."""
        shared = {"max_tokens": max_tokens, "temperature": temperature}
        calls = [
            Call(
                "generate",
                {
                    "conversations": list(conversations[k : k + GENERATION_CHUNK]),
                    "seeds": [seed * 2**20 + row for row in range(k, min(k + GENERATION_CHUNK, len(conversations)))],
                    **shared,
                },
            )
            for k in range(0, len(conversations), GENERATION_CHUNK)
        ]
        before, generations = self.usage, []
        for portion in portions(calls, self.allow, lambda: self.usage - before):
            begin = time.perf_counter()
            answers = self.executor.run(portion)
            self.usage = self.usage + total(u for _, u in answers) + Usage(seconds=time.perf_counter() - begin)
            generations += [generation for result, _ in answers for generation in result]
        return generations

    def note_unreadable(self, count: int) -> None:
        """Count replies that could not be read; see ``TextModel``."""
        self.usage = self.usage + Usage(unreadable=count)

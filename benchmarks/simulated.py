"""An engine that only waits: every unit of work sleeps for a time that its content decides, and returns small results.

Served like any model, by the names ``benchmarks.simulated:engine``, ``:quick`` and ``:instant``, so that everything
around a model can be measured without one. Nothing here imports torch. Times are lognormal: most units are short, a
few take many times the mean.
"""

import hashlib
import json
import math
import os
import random
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from greater_ray.config import ModelConfig
from greater_ray.types import Answer, Generation, Layout, PromptCheck, Rollout, Shard, ShardGradient, TokenIds, Usage
from greater_ray.work import (
    Answers,
    BaseEngine,
    CheckPrompts,
    EncodePrompt,
    Generate,
    Gradients,
    OneHotGradient,
    PromptRoom,
    Proposals,
    Rollouts,
    TokenTexts,
    computes,
)

SIGMA = 1.0  # of the lognormal distribution: the longest of a hundred units takes about six times the mean
LONGEST = 12.0  # times the mean; no unit takes longer
HIDDEN = 1024  # numbers of a gradient
REASONING = 64  # tokens of a row's reasoning
PROMPT = " proper logical reasoning and think step by step. Finally, give the actual correct answer."
_WORDS = sorted({*re.findall(r" \w+", PROMPT), *(f" {a}{b}" for a in "bdfgklmnprst" for b in "aeiou")})
_TOKEN = re.compile("|".join(sorted(_WORDS, key=len, reverse=True)) + "|[\x00-\x7f]")
_FIRST_WORD = 128  # ids below are characters
# A folder where every process of the engine notes begin and end of its units: the measure of busy replicas. The model
# has loaded when the folder holds the file ``LOADED``.
SPANS = "GREATER_RAY_SIMULATED_SPANS"
LOADED = "loaded"
_LOOK = 0.1  # seconds between two looks for it


def seconds_of(mean: float, *content: Any) -> float:
    """Return how long the unit of work with this content takes."""
    draw = random.Random(_digest(content)).lognormvariate(math.log(mean) - SIGMA**2 / 2, SIGMA) if mean else 0.0
    return min(draw, LONGEST * mean)


def _digest(content: Any) -> int:
    text = json.dumps(content, default=asdict, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class SimulatedEngine(BaseEngine):
    """Computes what GReaTer and the final evaluation ask for. Results and durations are functions of a unit alone."""

    def __init__(self, mean: float) -> None:
        self.mean = mean
        self.facts = {"name": "simulated", "kind": "simulated", "weights": f"none, mean {mean} s", "dtype": "none"}
        folder = os.environ.get(SPANS)
        self._spans = (Path(folder) / f"{os.getpid()}.txt").open("a", encoding="ascii") if folder else None
        while folder and not (Path(folder) / LOADED).exists():
            time.sleep(_LOOK)

    def _wait(self, *content: Any) -> None:
        begin = time.monotonic()
        time.sleep(seconds_of(self.mean, *content))
        if self._spans is not None:
            self._spans.write(f"{begin:.4f} {time.monotonic():.4f}\n")
            self._spans.flush()

    # -- text, without rows ------------------------------------------------------------------------------------------

    @staticmethod
    def _encode(text: str) -> TokenIds:
        parts = _TOKEN.findall(text)
        return tuple(_FIRST_WORD + _WORDS.index(p) if len(p) > 1 else ord(p) for p in parts)

    @staticmethod
    def _text(token: int) -> str:
        return chr(token) if token < _FIRST_WORD else _WORDS[token - _FIRST_WORD]

    @computes(EncodePrompt)
    def encode_prompt(self, work: EncodePrompt, layout: Layout) -> tuple[TokenIds, Usage]:
        return self._encode(work.text), Usage()

    @computes(PromptRoom)
    def prompt_room(self, work: PromptRoom, layout: Layout) -> tuple[None, Usage]:
        return None, Usage()

    @computes(TokenTexts)
    def token_texts(self, work: TokenTexts, layout: Layout) -> tuple[list[str], Usage]:
        return [self._text(token) for token in work.tokens], Usage()

    @computes(CheckPrompts)
    def check_prompts(self, work: CheckPrompts, layout: Layout) -> tuple[list[PromptCheck], Usage]:
        texts = ["".join(map(self._text, prompt)) for prompt in work.prompts]
        return [PromptCheck(t, self._encode(t) == tuple(p)) for t, p in zip(texts, work.prompts, strict=True)], Usage()

    @computes(OneHotGradient)
    def one_hot_gradient(self, work: OneHotGradient, layout: Layout) -> tuple[list[float], Usage]:
        return [work.gradient[token % len(work.gradient)] for token in work.tokens], Usage()

    # -- shards --------------------------------------------------------------------------------------------------------

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout) -> tuple[list[list[Rollout]], Usage]:
        self._wait("rollouts", work.shard, work.prompts)
        results = [[self._rollout(example.id, prompt) for example in work.shard] for prompt in work.prompts]
        return results, self._usage(work.shard, len(work.prompts))

    @staticmethod
    def _rollout(row: str, prompt: TokenIds) -> Rollout:
        draw = random.Random(_digest([row, prompt]))
        reasoning = tuple(draw.choices(range(_FIRST_WORD, _FIRST_WORD + len(_WORDS)), k=REASONING))
        return Rollout(reasoning, False, draw.expovariate(1.0), draw.uniform(1.0, 3.0), draw.random() < 0.5)

    @computes(Answers)
    def answers(self, work: Answers, layout: Layout) -> tuple[list[list[Answer]], Usage]:
        (prompt,), shard = work.prompts, work.shard
        self._wait("answers", shard, prompt)
        rollouts = [self._rollout(example.id, prompt) for example in shard]
        texts = [e.label if r.label_hit else "nothing" for e, r in zip(shard, rollouts, strict=True)]
        return [[Answer(r, "simulated", text) for r, text in zip(rollouts, texts, strict=True)]], self._usage(shard)

    @computes(Gradients)
    def gradients(self, work: Gradients, layout: Layout) -> tuple[ShardGradient, Usage]:
        shard = work.shard
        self._wait("gradients", shard, work.prompt, work.position)
        draw = random.Random(_digest(["gradient", [example.id for example in shard], work.prompt, work.position]))
        gradient = tuple(draw.gauss(0.0, 1.0) for _ in range(HIDDEN))
        proposals = self._likeliest(work.prompt, work.position, work.depth)
        return ShardGradient(gradient, (1.0,) * len(shard), (proposals,) * len(shard)), self._usage(shard)

    @computes(Proposals)
    def proposals(self, work: Proposals, layout: Layout) -> tuple[list[TokenIds], Usage]:
        self._wait("proposals", work.shard, work.prompt, work.position, work.depth)
        return [self._likeliest(work.prompt, work.position, work.depth)] * len(work.shard), self._usage(work.shard)

    @staticmethod
    def _likeliest(prompt: TokenIds, position: int, depth: int) -> TokenIds:
        """All rows agree, so that a step always finds candidates."""
        words = list(range(_FIRST_WORD, _FIRST_WORD + len(_WORDS)))
        random.Random(_digest([prompt[:position], position])).shuffle(words)
        return tuple(words[:depth])

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        self._wait("generate", work.conversations, work.seeds)
        texts = [f"text {_digest(pair):x}" for pair in zip(work.conversations, work.seeds, strict=True)]
        return [Generation(text) for text in texts], Usage(calls=len(texts), generated_tokens=len(texts))

    @staticmethod
    def _usage(shard: Shard, prompts: int = 1) -> Usage:
        rows = prompts * len(shard)
        return Usage(calls=rows, prefill_tokens=20 * rows, generated_tokens=REASONING * rows, passes=REASONING)


def engine(config: ModelConfig) -> SimulatedEngine:
    """Units of work of 1.75 seconds on average."""
    return SimulatedEngine(1.75)


def quick(config: ModelConfig) -> SimulatedEngine:
    """Units of work of 5 milliseconds on average."""
    return SimulatedEngine(0.005)


def instant(config: ModelConfig) -> SimulatedEngine:
    """Units of work that take no time: what is left is the way to the replica and back."""
    return SimulatedEngine(0.0)

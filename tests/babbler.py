"""A writer for contract tests: whatever it is asked, it says a few random words in every form a method may look for.

It is an engine of one's own, named ``tests.babbler:load`` in a config. A tiny random model writes nothing readable, so
with it a text method would never leave its start.
"""

import random
from typing import Any, ClassVar

from greater_ray.types import Conversation, Generation, Layout, Usage
from greater_ray.work import BaseEngine, Generate, computes

WORDS = ("think", "step", "by", "check", "slowly", "then", "answer", "plan", "facts", "first", "rule", "out", "every")


class Babbler(BaseEngine):
    """What it says depends on the conversation and the seed, or on the conversation alone where it is greedy."""

    facts: ClassVar[dict[str, Any]] = {"name": "babbler"}

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        pairs = zip(work.conversations, work.seeds, strict=True)
        replies = [babble(c, seed if work.temperature else 0) for c, seed in pairs]
        usage = Usage(calls=len(replies), prefill_tokens=len(replies), generated_tokens=9 * len(replies))
        return replies, usage


def babble(conversation: Conversation, seed: int) -> Generation:
    rng = random.Random(f"{[message.content for message in conversation]} {seed}")
    if rng.random() < 0.1:
        return Generation("I would rather not.")
    text = " ".join(rng.choices(WORDS, k=rng.randint(3, 7)))
    tags = ("prompt", "summary", "reason")
    return Generation("\n".join(f"<{tag}>{text}</{tag}>" for tag in tags) + f"\n<score>{rng.randint(0, 1)}</score>")


class Mumbler(Babbler):
    """Writes a word without any tags, in which no method finds a prompt."""

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        _, usage = super().generate(work, layout)
        return [Generation("mm")] * len(work.conversations), usage


def load(config: object) -> Babbler:
    return Babbler()


def mumble(config: object) -> Mumbler:
    return Mumbler()

"""The rows of a shard under some prompts, run to the end in batches that fit into memory, and what that has cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from greater_ray.models._decode import Decoder, Parts, RowBatch, RowResult, choice_room, common_beginning
from greater_ray.models._kv import Prefix
from greater_ray.models._memory import MicroBatch
from greater_ray.models._prefixes import Heads, fed_tokens
from greater_ray.models._spans import SpanBuilder
from greater_ray.types import Layout, TokenIds, Usage


@dataclass(frozen=True, slots=True)
class PromptedRows:
    """All rows under the first prompt, then all under the next one, with the keys and values of their heads.

    ``parts`` are those of every (prompt, row), ``size`` is the number of rows. ``heads`` and ``prefix`` are of every
    row, or of one for all where nothing of a row stands in them (``spans.shared_head``).
    """

    parts: Sequence[Parts]
    size: int
    heads: Heads
    prefix: Prefix
    spans: SpanBuilder

    @torch.no_grad()
    def run(
        self,
        decoder: Decoder,
        memory: MicroBatch,
        layout: Layout,
        temperature: float = 1.0,
        *,
        reasoning: Sequence[TokenIds] | None = None,
        choices: Sequence[TokenIds] = (),
        line_ends: frozenset[int] | None = None,
    ) -> tuple[list[RowResult], Usage]:
        """Reason, score the label, and score the choices where there are some; results are aligned with ``parts``.

        With ``reasoning`` (one per part) nothing is decoded in its place. With ``line_ends``, tokens at which an answer
        ends, answers are decoded too. Label and choices are scored at ``temperature``.
        """
        spans, parts = self.spans, self.parts
        longest = max(len(p.label) for p in parts)
        tail = 1 + len(spans.extractor) + max(longest, layout.max_answer_tokens, choice_room(choices))
        common = self._common()
        passes = 0

        def work(start: int, stop: int) -> list[RowResult]:
            nonlocal passes
            batch = self._batch(decoder, start, stop)
            if reasoning is None:
                logits = batch.prefill(layout.max_reasoning_tokens + tail)
                batch.reason(logits, layout.max_reasoning_tokens)
            else:
                batch.given(reasoning[start:stop], max(map(len, reasoning)) + tail)
            logits = batch.score(spans.extractor, temperature)
            if choices:
                passes += batch.score_choices(logits, choices, temperature)
            if line_ends is not None:
                batch.answer(logits, layout.max_answer_tokens, line_ends)
            passes += 2 + (spans.shared_head or common > 0) + max(r.generated for r in batch.results)
            return batch.results

        rows = memory.map(work, len(parts))
        usage = Usage(
            calls=len(parts),
            prefix_tokens=fed_tokens(self.heads),
            prefill_tokens=self._prefilled(common) + (sum(map(len, reasoning)) if reasoning is not None else 0),
            generated_tokens=sum(r.generated for r in rows),
            scored_tokens=sum(len(spans.extractor) + len(p.label) for p in parts)
            + len(parts) * sum(len(choice) - 1 for choice in choices),
            passes=passes,
        )
        return rows, usage

    def _batch(self, decoder: Decoder, start: int, stop: int) -> RowBatch:
        """Return some of the parts, with what they have in common run already."""
        few = self.parts[start:stop]
        if self.spans.shared_head:
            return RowBatch.behind_prompts(decoder, self.prefix, few)
        return RowBatch.behind_beginning(decoder, self.prefix, [k % self.size for k in range(start, stop)], few)

    def _common(self) -> int:
        """Return how many tokens all prompts begin with, which are run once per row."""
        prompts = [part.prompt for part in self.parts[:: self.size]]
        return 0 if self.spans.shared_head or len(prompts) == 1 else len(common_beginning(prompts))

    def _prefilled(self, common: int) -> int:
        """Return how many tokens of prompts and suffixes are run where ``common`` ones of a prompt are run once."""
        parts, shared = self.parts, self.spans.shared_head
        prompts = sum(1 + len(p.prompt) for p in (parts[:: self.size] if shared else parts))
        suffixes = sum(shared + len(p.suffix) for p in parts)
        spared = common * (len(parts) - self.size) - self.size if common else 0
        return prompts + suffixes - spared

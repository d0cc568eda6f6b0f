"""The same engine with transformers' ``generate`` in the place of its own decoding: what a careful user would write.

All rows of all candidates are one batch, weights are packed, rollouts are remembered and gradients are the engine's.
The label is scored by one more pass over prompt and reasoning.
"""

from collections.abc import Sequence
from typing import Any

import torch

from greater_ray.models.engine import Engine
from greater_ray.types import Layout, Rollout, TokenIds, Usage
from greater_ray.work import Rollouts, computes


class GeneratingEngine(Engine):
    """An engine that decodes with ``model.generate``; ``cache`` is ``dynamic`` or ``static``."""

    def __init__(self, *arguments: Any, cache: str = "dynamic", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cache = cache

    @classmethod
    def beside(cls, engine: Engine, cache: str) -> "GeneratingEngine":
        """Return one over the same model."""
        limits = {"decode_rows": engine._decode_batch.limit, "gradient_rows": engine._gradient_batch.limit}
        return cls(engine.model, engine.tokenizer, facts=engine.facts, cache=cache, **limits)

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout) -> tuple[list[list[Rollout]], Usage]:
        """Reason with ``generate``, then score as after known reasoning."""
        if work.reasoning is not None:
            return super().rollouts(work, layout)
        spans, size = self.spans(layout), len(work.shard)
        contexts = [spans.head(e) + prompt + spans.suffix(e) for prompt in work.prompts for e in work.shard]
        texts, usage = self._generate(contexts, layout.max_reasoning_tokens)
        scored = []
        for k, prompt in enumerate(work.prompts):
            given = Rollouts(work.shard, [prompt], work.loss, reasoning=texts[k * size : (k + 1) * size])
            (rollouts,), used = super().rollouts(given, layout)
            scored.append(rollouts)
            usage = usage + used
        return scored, usage

    @torch.no_grad()
    def _generate(self, contexts: Sequence[TokenIds], limit: int) -> tuple[list[TokenIds], Usage]:
        """Greedy text behind left-padded contexts, up to the stop token and without blanks at its end."""
        pad, width = self.decoder.pad, max(map(len, contexts))
        output = self.model.generate(
            torch.tensor([[pad] * (width - len(row)) + list(row) for row in contexts]),
            attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in contexts]),
            max_new_tokens=limit,
            do_sample=False,
            pad_token_id=pad,
            cache_implementation=None if self.cache == "dynamic" else self.cache,
        )
        texts, generated = [], 0
        for row in output[:, width:].tolist():
            stop = next((k for k, token in enumerate(row) if token in self.decoder.stop_tokens), len(row))
            generated += min(stop + 1, len(row))
            text = row[:stop]
            while text and text[-1] in self.decoder.blank_tokens:
                text.pop()
            texts.append(tuple(text))
        passes = output.shape[1] - width
        return texts, Usage(
            calls=len(contexts), prefill_tokens=sum(map(len, contexts)), generated_tokens=generated, passes=passes
        )

"""The structure of the published implementation, as a ``GradientModel``: what the speed-up is measured against.

Written from its description: batches of nine for generation and scoring, every candidate scored in two halves of the
rows, reasoning of the current prompt regenerated at every step, one unbatched full-length forward per sample for the
proposal and another with a backward through all weights for the gradient, whole-sequence logits, nothing reused.
Layout, loss and selection are ours, so that both make the same choices.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.whole import WholeModel
from greater_ray.models._spans import SpanBuilder
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, Rollout, ShardGradient, TokenIds, Usage
from greater_ray.work import (
    CheckPrompts,
    EncodePrompt,
    Gradients,
    OneHotGradient,
    PromptRoom,
    Proposals,
    Rollouts,
    TokenTexts,
    Unit,
    Work,
    computes,
)

BATCH = 9


# What costs this structure nothing: the engine tells it, and nothing is counted. Deeper proposals are asked for only
# where lists run short.
FREE = frozenset({EncodePrompt, CheckPrompts, PromptRoom, TokenTexts, OneHotGradient, Proposals})


class ReferenceModel(WholeModel):
    """One sample at a time where the published code does so, batches of nine elsewhere."""

    def __init__(self, engine: Engine, layout: Layout) -> None:
        self.engine, self.layout, self.facts = engine, layout, engine.facts
        self.model: Any = engine.model
        self.spans = SpanBuilder(engine.tokenizer, layout)
        self.pad = engine.decoder.pad
        self._counted = Usage()

    @property
    def kinds(self) -> frozenset[type[Work[Any]]]:
        """All that a step of GReaTer asks for."""
        return self.all_kinds() | FREE

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        """Compute one unit as the published code does; see ``BaseEngine``."""
        if type(unit.work) in FREE:
            return self.engine.run(unit)[0], Usage()
        self._counted = Usage()
        return super().run(unit)

    def _count(self, **tokens: int) -> None:
        self._counted = self._counted + Usage(**tokens)

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, device=self.engine.device)

    def _context(self, example: Example, prompt: TokenIds) -> TokenIds:
        return self.spans.head(example) + prompt + self.spans.suffix(example)

    @torch.no_grad()
    def _generate(self, examples: Sequence[Example], prompt: TokenIds) -> list[TokenIds]:
        """Greedy reasoning with ``model.generate`` over left-padded batches of nine."""
        texts: list[TokenIds] = []
        for start in range(0, len(examples), BATCH):
            rows = [list(self._context(e, prompt)) for e in examples[start : start + BATCH]]
            width = max(map(len, rows))
            ids = self._tensor([[self.pad] * (width - len(r)) + r for r in rows])
            mask = self._tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
            limit = self.layout.max_reasoning_tokens
            output = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, pad_token_id=self.pad
            )
            for row in output[:, width:].tolist():
                stop = next((k for k, t in enumerate(row) if t in self.engine.decoder.stop_tokens), len(row))
                generated = row[: stop + 1]
                self._count(calls=1, generated_tokens=len(generated))
                text = row[:stop]
                while text and text[-1] in self.engine.decoder.blank_tokens:
                    text.pop()
                texts.append(tuple(text))
            self._count(prefill_tokens=sum(map(len, rows)), passes=output.shape[1] - width)
        return texts

    def _sequence(self, example: Example, prompt: TokenIds, reasoning: TokenIds) -> TokenIds:
        return self._context(example, prompt) + reasoning + self.spans.extractor + self.spans.label(example)

    def _parts(self, logits_T: Tensor, example: Example, prompt: TokenIds, length: int, loss: LossSpec) -> Any:
        label, head = self.spans.label(example), len(self.spans.head(example))
        entropy = torch.nn.functional.cross_entropy
        label_logits = logits_T[length - len(label) - 1 : length - 1]
        ce = entropy(label_logits / loss.ce_temperature, self._tensor(label))
        nll = entropy(logits_T[head - 1 : head - 1 + len(prompt)], self._tensor(prompt))
        return ce, nll, label_logits.argmax(-1).tolist() == list(label)

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout) -> tuple[list[list[Rollout]], Usage]:
        """Score every prompt in two halves of the rows."""
        examples, loss = work.examples, work.loss
        half = (len(examples) + 1) // 2
        results = [
            self._score(examples[:half], prompt, loss) + self._score(examples[half:], prompt, loss)
            for prompt in work.prompts
        ]
        return results, self._counted

    @torch.no_grad()
    def _score(self, examples: Sequence[Example], prompt: TokenIds, loss: LossSpec) -> list[Rollout]:
        texts = self._generate(examples, prompt)
        results = []
        for start in range(0, len(examples), BATCH):
            chunk = list(zip(examples[start : start + BATCH], texts[start : start + BATCH], strict=True))
            rows = [list(self._sequence(e, prompt, r)) for e, r in chunk]
            width = max(map(len, rows))
            ids = self._tensor([r + [self.pad] * (width - len(r)) for r in rows])
            mask = self._tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
            logits_BTV = self.model(ids, attention_mask=mask, use_cache=False).logits
            self._count(scored_tokens=sum(map(len, rows)), passes=1)
            for k, (example, reasoning) in enumerate(chunk):
                ce, nll, hit = self._parts(logits_BTV[k], example, prompt, len(rows[k]), loss)
                results.append(Rollout(reasoning, False, float(ce), float(nll), hit))
        return results

    @computes(Gradients)
    def gradients(self, work: Gradients, layout: Layout) -> tuple[ShardGradient, Usage]:
        """Regenerate all reasoning; then two passes a row, the second one back through all weights."""
        examples, prompt, position, loss = work.examples, work.prompt, work.position, work.loss
        texts = self._generate(examples, prompt)
        rows = [self._sequence(e, prompt, r) for e, r in zip(examples, texts, strict=True)]
        banned = self.engine._banned(work.token_filter)
        proposals = []
        for example, row in zip(examples, rows, strict=True):
            with torch.no_grad():
                logits_TV = self.model(self._tensor([row]), use_cache=False).logits[0]
            self._count(scored_tokens=len(row), passes=1)
            last = logits_TV[len(self.spans.head(example)) - 1 + position].masked_fill(banned, -torch.inf)
            proposals.append(tuple(last.topk(work.depth).indices.tolist()))
        total = torch.zeros(self.model.get_input_embeddings().weight.shape[1], dtype=torch.float64)
        losses = []
        self.model.requires_grad_(True)
        try:
            for example, row in zip(examples, rows, strict=True):
                place = len(self.spans.head(example)) + position
                embeds = self.model.get_input_embeddings()(self._tensor([row])).detach()
                leaf = embeds[:, place].clone().requires_grad_(True)
                embeds = torch.cat([embeds[:, :place], leaf[:, None], embeds[:, place + 1 :]], dim=1)
                logits_TV = self.model(inputs_embeds=embeds, use_cache=False).logits[0]
                ce, nll, _ = self._parts(logits_TV, example, prompt, len(row), loss)
                value = ce + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll)
                value.backward()
                assert leaf.grad is not None
                total += leaf.grad[0].double().cpu()
                losses.append(float(value.detach()))
                self._count(scored_tokens=len(row), backward_tokens=len(row), passes=1)
        finally:
            self.model.requires_grad_(False)
            self.model.zero_grad(set_to_none=True)
        return ShardGradient(tuple(total.tolist()), tuple(losses), tuple(proposals)), self._counted

"""One replica: a frozen causal language model that proposes, reasons, scores and differentiates, shard by shard.

Every method that is marked with a kind of work (``greater_ray.work``) computes units of it. A result is plain numbers,
ids and text, and depends on nothing but the unit: what is cached here (questions' keys and values, token ids) only
saves time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from greater_ray.config import ModelConfig
from greater_ray.errors import DataError
from greater_ray.models._attention import SHARED, WIDE
from greater_ray.models._backward import layer_without_gradient
from greater_ray.models._choices import choice_ids, rollout_of
from greater_ray.models._decode import Decoder, Parts, RowBatch
from greater_ray.models._device import hardware
from greater_ray.models._fitted import fit
from greater_ray.models._generation import Writer
from greater_ray.models._gradients import RowGradient, begin, row_gradients
from greater_ray.models._head import widen_head
from greater_ray.models._kv import Masks, Prefix
from greater_ray.models._logits import ranked_tokens
from greater_ray.models._memory import MicroBatch
from greater_ray.models._placement import shows_system
from greater_ray.models._pooling import mean_hidden_states
from greater_ray.models._prefixes import Heads, Prefixes, fed_tokens
from greater_ray.models._probe import refuse_unsupported, takes_common_prefix
from greater_ray.models._rows import PromptedRows
from greater_ray.models._spans import SpanBuilder
from greater_ray.models._spread import devices_of
from greater_ray.models._vocabulary import Vocabulary
from greater_ray.models.faults import device_faults, is_out_of_memory
from greater_ray.models.identity import peculiar, weights_hash
from greater_ray.models.sources import ModelSource, load, resolve, too_large
from greater_ray.types import (
    Answer,
    Example,
    Generation,
    Layout,
    PromptGradient,
    Rollout,
    Shard,
    ShardGradient,
    TokenIds,
    Usage,
)
from greater_ray.work import (
    Answers,
    Generate,
    Gradients,
    PromptGradients,
    PromptRoom,
    Proposals,
    Rollouts,
    TextEmbeddings,
    computes,
)
from greater_ray.work.kinds import BackwardWork

T = TypeVar("T")


class Engine(Vocabulary):
    """A model and its tokenizer, ready for units of work.

    Args:
        model: any ``AutoModelForCausalLM``; it is put into eval mode and frozen.
        tokenizer: its tokenizer; never changed.
        prefix_memory: how many bytes of questions' keys and values may be kept; given up when memory runs out.
        decode_rows, gradient_rows: how many rows are computed at once, at most; halved when memory runs out.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        facts: dict[str, Any] | None = None,
        prefix_memory: int = 4 * 2**30,
        decode_rows: int | None = None,
        gradient_rows: int | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        widen_head(model)
        self.tokenizer = tokenizer
        # Where ids and positions go; a model may be spread over several devices.
        self.device, self.devices = model.get_input_embeddings().weight.device, devices_of(model)
        self.facts = {
            **(facts or {}),
            "architecture": type(model).__name__,
            "weights": weights_hash(model, tokenizer),
            "parameters": model.num_parameters(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "attn_implementation": model.config._attn_implementation,
            "threads": torch.get_num_threads(),
            "system_role": shows_system(tokenizer),
            **peculiar(model, tokenizer),
        }
        self.hardware = hardware(self.devices)
        self.config = model.config.get_text_config()
        self._spans: dict[Layout, SpanBuilder] = {}
        self._filters: dict[str, Tensor] = {}
        self._prefixes = Prefixes(prefix_memory)
        self._decode_batch = MicroBatch(decode_rows, self._prefixes.evict)
        self._gradient_batch = MicroBatch(gradient_rows, self._prefixes.evict)
        blanks = frozenset(i for i, text in enumerate(self._vocabulary()) if text and not text.strip())
        stop = model.generation_config.eos_token_id
        stop = tokenizer.eos_token_id if stop is None else stop
        self.decoder = Decoder(
            model=model,
            masks=Masks(self.config, model.dtype),
            num_layers=self.config.num_hidden_layers,
            device=self.device,
            stop_tokens=frozenset(stop if isinstance(stop, list) else [] if stop is None else [stop]),
            blank_tokens=blanks,
            pad=tokenizer.pad_token_id or 0,
            look=1 if self.device.type == "cpu" else 8,
        )
        refuse_unsupported(self.decoder, len(tokenizer))
        self._cut = layer_without_gradient(model)
        # Measured on CPU; elsewhere one product of the whole is fewer kernels to start.
        if self.device.type == "cpu" and model.config._attn_implementation in (SHARED, WIDE):
            self.decoder = replace(self.decoder, shares=takes_common_prefix(self.decoder, len(tokenizer)))
        self._writer = Writer(self.decoder, tokenizer, self.config, self._decode_batch)

    @classmethod
    @device_faults()
    def load(
        cls, config: ModelConfig, progress: Callable[[str], None] | None = None, source: ModelSource | None = None
    ) -> "Engine":
        """Load a model from a hub, a folder, a GGUF file or the built-in source, with fixed threads.

        Raises:
            ModelError: it cannot be found or loaded; the sentence says why and what else there is.
            DeviceError: nothing can be computed on the device.
        """
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        source = source or resolve(config, progress)
        model, tokenizer = load(source, config, progress)
        facts = {"name": source.name, "kind": source.kind, "revision": source.revision, "sha256": source.sha256}
        device = next(model.parameters()).device
        fit(model)
        # Measured on CPU: beyond these sizes a batch gets no faster, only larger.
        rows = {"decode_rows": 96, "gradient_rows": 8} if device.type == "cpu" else {}
        try:
            return cls(model, tokenizer, facts=facts, **rows)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise too_large(source.name, devices_of(model)) from error
            raise

    # -- rows --------------------------------------------------------------------------------------------------------

    def limit_prefix_memory(self, num_bytes: int) -> None:
        """Keep at most so many bytes of questions' keys and values."""
        self._prefixes.memory = num_bytes

    def _prefix(self, parts: Sequence[Parts], layout: Layout) -> tuple[Heads, Prefix]:
        """The heads of rows with their keys and values: one for all rows where nothing of a row stands in them."""
        heads = tuple(part.head for part in (parts[:1] if self.spans(layout).shared_head else parts))
        return heads, self._prefixes.of(heads, self.decoder, self._decode_batch)

    def _parts(self, shard: Shard, prompt: TokenIds, layout: Layout, reasoning: int) -> list[Parts]:
        """Token ids of every row, checked against the context window with ``reasoning`` tokens to come."""
        spans = self.spans(layout)
        window = self._writer.window
        if window is not None:
            for example in shard:
                needed = len(prompt) + self._beside_prompt(example, layout, reasoning)
                if needed > window:
                    raise DataError(
                        f"row '{example.id}': {len(spans.head(example))} tokens of question with {len(prompt)} of "
                        f"prompt and up to {reasoning} of reasoning need {needed} tokens, the model's context window "
                        f"has {window}; lower decoding.max_reasoning_tokens or leave the row out."
                    )
        return [Parts(spans.head(e), prompt, spans.suffix(e), spans.label(e)) for e in shard]

    def _beside_prompt(self, example: Example, layout: Layout, reasoning: int) -> int:
        """How many tokens a row takes beside the prompt, with ``reasoning`` tokens and an answer, label or choice."""
        spans = self.spans(layout)
        choices = map(len, spans.choices) if layout.choices else ()
        answer = max(layout.max_answer_tokens, len(spans.label(example)), *choices)
        own = len(spans.head(example)) + len(spans.suffix(example))
        return own + reasoning + len(spans.extractor) + answer

    @computes(PromptRoom)
    def prompt_room(self, work: PromptRoom, layout: Layout) -> tuple[int | None, Usage]:
        """How many tokens of prompt the context window has room for on every example; None without a window."""
        window = self._writer.window
        if window is None:
            return None, Usage()
        beside = max(self._beside_prompt(e, layout, layout.max_reasoning_tokens) for e in work.examples)
        return window - beside, Usage()

    # -- units of work -----------------------------------------------------------------------------------------------

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout) -> tuple[list[list[Rollout]], Usage]:
        """Reason under every prompt for every row of the shard, and score the label; all rows decoded together.

        With ``work.reasoning`` (one per row) nothing is decoded: the label is scored after that reasoning.
        """
        given = None if work.reasoning is None else list(work.reasoning) * len(work.prompts)
        size, choices = len(work.shard), choice_ids(self.spans(layout), work.shard, work.loss)
        asked = self._prompted(work.shard, work.prompts, layout)
        rows, usage = asked.run(
            self.decoder, self._decode_batch, layout, work.loss.ce_temperature, reasoning=given, choices=choices
        )
        labels = [choices.index(self.spans(layout).label(e)) if choices else 0 for e in work.shard] * len(work.prompts)
        rollouts = [rollout_of(row, label) for row, label in zip(rows, labels, strict=True)]
        return [rollouts[k : k + size] for k in range(0, len(rollouts), size)], usage

    @computes(Answers)
    def answers(self, work: Answers, layout: Layout) -> tuple[list[list[Answer]], Usage]:
        """Reason (unless the reasoning is known), extract and decode the answer of every row."""
        given, size = work.reasoning, len(work.shard)
        choices = self.spans(layout).choices if work.score_choices else ()
        given = given and given * len(work.prompts)
        asked = self._prompted(work.shard, work.prompts, layout)
        rows, usage = asked.run(
            self.decoder, self._decode_batch, layout, reasoning=given, choices=choices, line_ends=self._line_ends
        )
        decode = self.tokenizer.decode
        # Chat markup is no text: what is quoted from here into a question to the writer must not hold any.
        texts = [[decode(list(ids), skip_special_tokens=True) for ids in (r.reasoning, r.answer)] for r in rows]
        answers = [
            Answer(rollout_of(row), reasoning, said, row.choice_nlls or None)
            for row, (reasoning, said) in zip(rows, texts, strict=True)
        ]
        return [answers[k : k + size] for k in range(0, len(answers), size)], usage

    def _prompted(self, shard: Shard, prompts: Sequence[TokenIds], layout: Layout) -> PromptedRows:
        """The rows of a shard under every prompt, with the keys and values of their heads."""
        parts = [p for prompt in prompts for p in self._parts(shard, prompt, layout, layout.max_reasoning_tokens)]
        heads, prefix = self._prefix(parts[: len(shard)], layout)
        return PromptedRows(parts, len(shard), heads, prefix, self.spans(layout))

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        """Continue every conversation, each with a seed of its own; temperature 0 is greedy."""
        self._prefixes.in_use = None
        return self._writer.generate(work.conversations, work.seeds, work.max_tokens, work.temperature)

    @computes(TextEmbeddings)
    def text_embeddings(self, work: TextEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        """Mean of the last hidden states over each text's tokens, of length one; a text beyond the window is cut."""
        self._prefixes.in_use = None
        contexts = [tuple(self.tokenizer(text).input_ids)[: self._writer.window] for text in work.texts]
        for text, ids in zip(work.texts, contexts, strict=True):
            if not ids:
                raise DataError(f"text {text!r} has no tokens, so it has no embedding.")
        embeddings = mean_hidden_states(self.decoder, contexts, self._decode_batch)
        usage = Usage(calls=len(contexts), prefill_tokens=sum(map(len, contexts)), passes=1)
        return embeddings, usage

    @cached_property
    def _line_ends(self) -> frozenset[int]:
        """Tokens that begin with a line break: an answer ends there once it has begun."""
        return frozenset(i for i, text in enumerate(self._vocabulary()) if text.startswith("\n"))

    @computes(Gradients)
    def gradients(self, work: Gradients, layout: Layout) -> tuple[ShardGradient, Usage]:
        """Gradient of the shard's summed loss at a position, and the likeliest tokens there, per row."""
        banned = self._banned(work.token_filter)

        def read(rows: list[RowGradient]) -> list[tuple[Tensor, float, TokenIds]]:
            lists = ranked_tokens(torch.stack([row.logits[0] for row in rows]), banned, work.depth)
            return [(r.gradient[0].double(), r.loss, own) for r, own in zip(rows, lists, strict=True)]

        rows, usage = self._differentiate(work, layout, read, work.position)
        gradient = torch.stack([part for part, _, _ in rows]).sum(dim=0)
        lists = [tokens for _, _, tokens in rows]
        if self.spans(layout).shared_head:
            # Equal but for rounding: what precedes the prompt is the same for all rows.
            lists = [lists[0]] * len(lists)
        return ShardGradient(tuple(gradient.tolist()), tuple(loss for _, loss, _ in rows), tuple(lists)), usage

    @computes(PromptGradients)
    def prompt_gradients(self, work: PromptGradients, layout: Layout) -> tuple[PromptGradient, Usage]:
        """Gradient of the shard's summed loss with respect to the table row of every prompt token."""
        scale, banned = self._embedding_scale(), self._banned(work.token_filter) if work.depth else None

        def read(rows: list[RowGradient]) -> list[tuple[Tensor, float, tuple[TokenIds, ...]]]:
            lists = [() if banned is None else tuple(ranked_tokens(r.logits, banned, work.depth)) for r in rows]
            return [(r.gradient.double() * scale, r.loss, own) for r, own in zip(rows, lists, strict=True)]

        rows, usage = self._differentiate(work, layout, read)
        gradient = torch.stack([part for part, _, _ in rows]).sum(dim=0)
        proposals = [lists for _, _, lists in rows] if work.depth else []
        if proposals and self.spans(layout).shared_head:
            proposals = [proposals[0]] * len(proposals)
        losses = tuple(value for _, value, _ in rows)
        return PromptGradient(tuple(map(tuple, gradient.tolist())), losses, tuple(proposals)), usage

    def _differentiate(
        self, work: BackwardWork[Any], layout: Layout, read: Callable[[list[RowGradient]], list[T]], first: int = 0
    ) -> tuple[list[T], Usage]:
        """Forward, and back to the prompt's token at ``first``; ``read`` keeps of rows what is needed."""
        spans, reasoning = self.spans(layout), work.reasoning
        parts = self._parts(work.shard, work.prompt, layout, max(map(len, reasoning)))
        heads, prefix = self._prefix(parts, layout)
        choices = choice_ids(self.spans(layout), work.shard, work.loss)

        def differentiate(start: int, stop: int) -> list[T]:
            few = slice(start, stop)
            rows = range(start, stop) if len(heads) == len(parts) else [0] * (stop - start)
            begun = begin(self.decoder, prefix, rows, parts[few], first)
            gradients = row_gradients(
                self.decoder, begun, parts[few], reasoning[few], spans.extractor, work.loss, choices
            )
            return read(gradients)

        rows = self._gradient_batch.map(differentiate, len(parts))
        common = 1 + len(work.prompt) + len(spans.extractor)
        lengths = [
            common + len(p.suffix) + len(r) + (sum(map(len, choices)) or len(p.label))
            for r, p in zip(reasoning, parts, strict=True)
        ]
        usage = Usage(
            calls=len(parts),
            prefix_tokens=fed_tokens(heads),
            scored_tokens=sum(lengths),
            backward_tokens=sum(lengths) - (1 + first) * len(parts),
            passes=2,
        )
        return rows, usage

    @computes(Proposals)
    @torch.no_grad()
    def proposals(self, work: Proposals, layout: Layout) -> tuple[list[TokenIds], Usage]:
        """The likeliest tokens at a position given all that stands before it (paper Eq. 3), per row.

        Where nothing of a row stands there, the first row speaks for all.
        """
        banned, prompt = self._banned(work.token_filter), work.prompt[: work.position]
        spans = self.spans(layout)
        shard = work.shard[:1] if spans.shared_head else work.shard
        parts = [Parts(p.head, p.prompt, (), ()) for p in self._parts(shard, prompt, layout, 0)]
        heads, prefix = self._prefix(parts, layout)

        def propose(start: int, stop: int) -> list[TokenIds]:
            batch = RowBatch(self.decoder, prefix, range(start, stop), parts[start:stop])
            return ranked_tokens(batch.prefill(0), banned, work.depth)

        usage = Usage(
            calls=len(parts),
            prefix_tokens=fed_tokens(heads),
            prefill_tokens=len(parts) * (1 + work.position),
            passes=1,
        )
        lists = self._decode_batch.map(propose, len(parts))
        return lists * (len(work.shard) // len(lists)), usage

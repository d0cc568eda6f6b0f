"""The slow twin of the engine: a plain loop over samples and tokens. No cache, no batch, no padding, full logits.

Only what it is asked twice, for the very same sequence, it remembers; that is no part of a computation.

Whatever the fast engine computes is compared with this. The one-hot gradient is taken literally, with respect to an
indicator over the candidates that is multiplied with their embedding rows (paper 4.2, Eq. 7).
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.whole import WholeModel
from greater_ray.models._spans import SpanBuilder
from greater_ray.protocols import GradientModel
from greater_ray.types import (
    Answer,
    Example,
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
    TextEmbeddings,
    TokenEmbeddings,
    TokenTexts,
    computes,
)


class SlowTwin(WholeModel):
    """A ``GradientModel`` of plain loops."""

    def __init__(self, model: Any, tokenizer: Any, layout: Layout) -> None:
        self.facts = {"name": "slow twin"}
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.layout = layout
        self.spans = SpanBuilder(tokenizer, layout)
        self.embed = model.get_input_embeddings()
        stop = model.generation_config.eos_token_id
        self.stop = set(stop) if isinstance(stop, list) else {stop}
        self._last: dict[TokenIds, Tensor] = {}
        self._tokens: dict[str, list[int]] = {}

    # -- plain pieces --------------------------------------------------------------------------------------------------

    def logits(self, ids: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]

    def last_logits(self, ids: Sequence[int]) -> Tensor:
        key = tuple(ids)
        if key not in self._last:
            self._last[key] = self.logits(ids)[-1].clone()
        return self._last[key]

    def context(self, example: Example, prompt: TokenIds) -> TokenIds:
        return self.spans.head(example) + prompt + self.spans.suffix(example)

    def reason(self, example: Example, prompt: TokenIds) -> tuple[TokenIds, bool]:
        ids = list(self.context(example, prompt))
        begin = len(ids)
        truncated = True
        for _ in range(self.layout.max_reasoning_tokens):
            token = int(self.last_logits(ids).argmax())
            if token in self.stop:
                truncated = False
                break
            ids.append(token)
        reasoning = ids[begin:]
        while (
            reasoning and not self.tokenizer.decode([reasoning[-1]]).strip() and self.tokenizer.decode([reasoning[-1]])
        ):
            reasoning.pop()
        return tuple(reasoning), truncated

    def loss(
        self, logits_T: Tensor, example: Example, prompt: TokenIds, loss: LossSpec, length: int
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the label and mean NLL of the prompt, from the logits of a whole sequence."""
        label = self.spans.label(example)
        head = len(self.spans.head(example))
        log_label = torch.log_softmax(logits_T.to(_wide(logits_T)) / loss.ce_temperature, dim=-1)
        log_prompt = torch.log_softmax(logits_T.to(_wide(logits_T)), dim=-1)
        ce = -sum(log_label[length - len(label) - 1 + k, t] for k, t in enumerate(label)) / len(label)
        nll = -sum(log_prompt[head - 1 + k, t] for k, t in enumerate(prompt)) / len(prompt)
        return ce, nll

    def sequence(self, example: Example, prompt: TokenIds, reasoning: TokenIds) -> TokenIds:
        return self.context(example, prompt) + reasoning + self.spans.extractor + self.spans.label(example)

    def total_loss(self, example: Example, prompt: TokenIds, reasoning: TokenIds, loss: LossSpec) -> float:
        ids = self.sequence(example, prompt, reasoning)
        ce, nll = self.loss(self.logits(ids), example, prompt, loss, len(ids))
        return float(ce + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll))

    def indicator_gradient(
        self,
        example: Example,
        prompt: TokenIds,
        reasoning: TokenIds,
        position: int,
        loss: LossSpec,
        tokens: Sequence[int],
    ) -> Tensor:
        """dL/d eps over ``tokens``, which must hold the current token."""
        ids = self.sequence(example, prompt, reasoning)
        rows = self.embed(torch.tensor(list(tokens))).detach()
        eps = torch.zeros(len(tokens), dtype=rows.dtype)
        eps[list(tokens).index(prompt[position])] = 1.0
        eps.requires_grad_(True)
        place = len(self.spans.head(example)) + position
        embeds = self.embed(torch.tensor(list(ids))).detach()
        embeds = torch.cat([embeds[:place], (eps @ rows)[None], embeds[place + 1 :]])[None]
        logits = self.model(inputs_embeds=embeds, use_cache=False).logits[0]
        ce, nll = self.loss(logits, example, prompt, loss, len(ids))
        total = ce + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll)
        return torch.autograd.grad(total, eps)[0]

    # -- GradientModel -------------------------------------------------------------------------------------------------

    @computes(EncodePrompt)
    def encode_prompt(self, work: EncodePrompt, layout: Layout | None) -> tuple[TokenIds, Usage]:
        return self.spans.encode_prompt(work.text), Usage()

    @computes(CheckPrompts)
    def check_prompts(self, work: CheckPrompts, layout: Layout | None) -> tuple[list[PromptCheck], Usage]:
        return [self.spans.check(p) for p in work.prompts], Usage()

    @computes(PromptRoom)
    def prompt_room(self, work: PromptRoom, layout: Layout | None) -> tuple[int, Usage]:
        layout, longest = self.layout, 0
        for example in work.examples:
            answer = max(layout.max_answer_tokens, len(self.spans.label(example)))
            ids = len(self.context(example, ())) + layout.max_reasoning_tokens + len(self.spans.extractor) + answer
            longest = max(longest, ids)
        return self.model.config.max_position_embeddings - longest, Usage()

    @computes(TokenTexts)
    def token_texts(self, work: TokenTexts, layout: Layout | None) -> tuple[list[str], Usage]:
        return [self.tokenizer.decode([t]) for t in work.tokens], Usage()

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        results = []
        for prompt in work.prompts:
            rows = []
            for example in work.examples:
                given = prompt if work.reasoning_of is None else work.reasoning_of
                reasoning, truncated = self.reason(example, given) if given else ((), False)
                ids = self.sequence(example, prompt, reasoning)
                logits = self.logits(ids)
                ce, nll = self.loss(logits, example, prompt, work.loss, len(ids))
                label = self.spans.label(example)
                hit = logits[len(ids) - len(label) - 1 : -1].argmax(-1).tolist() == list(label)
                rows.append(Rollout(reasoning, truncated, float(ce), float(nll), hit))
            results.append(rows)
        return results, Usage()

    @computes(Gradients)
    def gradients(self, work: Gradients, layout: Layout | None) -> tuple[ShardGradient, Usage]:
        """The gradient is returned over the whole vocabulary's indicator; ``one_hot_gradient`` reads it off."""
        every = list(range(self.embed.weight.shape[0]))
        total = torch.zeros(len(every), dtype=torch.float64)
        losses = []
        prompt, position = work.prompt, work.position
        for example in work.examples:
            reasoning = self.reason(example, prompt)[0] if work.with_reasoning else ()
            total += self.indicator_gradient(example, prompt, reasoning, position, work.loss, every).double()
            losses.append(self.total_loss(example, prompt, reasoning, work.loss))
        proposals = self.ask(Proposals(work.examples, prompt, position, work.depth, work.token_filter))
        return ShardGradient(tuple(total.tolist()), tuple(losses), tuple(proposals)), Usage()

    @computes(Proposals)
    def proposals(self, work: Proposals, layout: Layout | None) -> tuple[list[TokenIds], Usage]:
        lists = []
        for example in work.examples:
            last = self.last_logits(self.spans.head(example) + work.prompt[: work.position]).tolist()
            allowed = [t for t in self._allowed_tokens(work.token_filter) if t < len(last)]
            lists.append(tuple(sorted(allowed, key=lambda t: (-last[t], t))[: work.depth]))
        return lists, Usage()

    def _allowed_tokens(self, token_filter: str) -> list[int]:
        if token_filter not in self._tokens:
            every = range(self.embed.weight.shape[0])
            self._tokens[token_filter] = [t for t in every if self._allowed(t, token_filter)]
        return self._tokens[token_filter]

    def _allowed(self, token: int, token_filter: str) -> bool:
        if token in self.tokenizer.all_special_ids or token >= len(self.tokenizer):
            return False
        text = self.tokenizer.decode([token])
        if token_filter == "ascii":
            return bool(text) and all(" " <= c <= "~" for c in text)
        if token_filter == "letters":
            return text in {".", ","} or (bool(text) and all(c == " " or ("a" <= c.lower() <= "z") for c in text))
        raise AssertionError(token_filter)

    @computes(OneHotGradient)
    def one_hot_gradient(self, work: OneHotGradient, layout: Layout | None) -> tuple[list[float], Usage]:
        return [work.gradient[t] for t in work.tokens], Usage()

    @computes(PromptGradients)
    def prompt_gradients(self, work: PromptGradients, layout: Layout | None) -> tuple[PromptGradient, Usage]:
        """The table's rows are the leaves; the factor on the way into the model is measured, not read."""
        prompt, loss = work.prompt, work.loss
        table = self.embed.weight.detach()
        factor = (self.embed(torch.tensor([prompt[0]])) / table[[prompt[0]]]).median()
        total = torch.zeros(len(prompt), table.shape[1], dtype=torch.float64)
        losses = []
        for example in work.examples:
            reasoning = self.reason(example, prompt)[0] if work.with_reasoning else ()
            ids = self.sequence(example, prompt, reasoning)
            rows = table[list(prompt)].clone().requires_grad_(True)
            place = len(self.spans.head(example))
            embeds = self.embed(torch.tensor(list(ids))).detach()
            embeds = torch.cat([embeds[:place], rows * factor, embeds[place + len(prompt) :]])[None]
            logits = self.model(inputs_embeds=embeds, use_cache=False).logits[0]
            ce, nll = self.loss(logits, example, prompt, loss, len(ids))
            value = ce + loss.fluency_weight * (nll.exp() if loss.fluency == "exp" else nll)
            total += torch.autograd.grad(value, rows)[0].double()
            losses.append(float(value.detach()))
        at = [
            self.ask(Proposals(work.examples, prompt, position, work.depth, work.token_filter))
            for position in range(len(prompt) if work.depth else 0)
        ]
        return PromptGradient(tuple(map(tuple, total.tolist())), tuple(losses), tuple(zip(*at, strict=True))), Usage()

    @computes(SteepestTokens)
    def steepest_tokens(self, work: SteepestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        """The gradient is that of ``gradients``: one number per token."""
        allowed = self._allowed_tokens(work.token_filter)
        return tuple(sorted(allowed, key=lambda t: (work.gradient[t], t))[: work.count]), Usage()

    @computes(TokenEmbeddings)
    def token_embeddings(self, work: TokenEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        return [self.embed.weight[t].double().tolist() for t in work.tokens], Usage()

    @computes(NearestTokens)
    def nearest_tokens(self, work: NearestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        nearest = []
        for vector in work.vectors:
            cosines = {}
            for token in self._allowed_tokens(work.token_filter):
                row = self.embed.weight[token].double()
                wide = torch.tensor(list(vector), dtype=torch.float64)
                cosines[token] = float(row @ wide / (row.norm() * wide.norm()))
            nearest.append(min(cosines, key=lambda t: (-cosines[t], t)))
        return tuple(nearest), Usage()

    @computes(TextEmbeddings)
    def text_embeddings(self, work: TextEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        vectors = []
        for text in work.texts:
            ids = torch.tensor([self.tokenizer(text).input_ids])
            with torch.no_grad():
                hidden_TD = self.model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states[-1][0]
            mean_D = hidden_TD.double().mean(dim=0)
            vectors.append((mean_D / mean_D.norm()).tolist())
        return vectors, Usage()

    @computes(Answers)
    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        return [self._answers(work.examples, prompt) for prompt in work.prompts], Usage()

    def _answers(self, examples: Sequence[Example], prompt: TokenIds) -> list[Answer]:
        results = []
        line_end = {t for t in range(len(self.tokenizer)) if self.tokenizer.decode([t]).startswith("\n")}
        rollouts = self.ask(Rollouts(examples, [prompt], LossSpec()))[0]
        for example, rollout in zip(examples, rollouts, strict=True):
            ids = list(self.context(example, prompt) + rollout.reasoning + self.spans.extractor)
            begin = len(ids)
            for _ in range(self.layout.max_answer_tokens):
                token = int(self.last_logits(ids).argmax())
                written = self.tokenizer.decode(ids[begin:]).strip()
                if token in self.stop or (written and token in line_end):
                    break
                ids.append(token)
            texts = [self.tokenizer.decode(list(t), skip_special_tokens=True) for t in (rollout.reasoning, ids[begin:])]
            results.append(Answer(rollout, *texts))
        return results


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def assert_equal_to_twin(fast: GradientModel, slow: SlowTwin, rows: Sequence[Example], text: str) -> None:
    """Compare rollouts under two prompts, the gradient at a position and the proposals there, in float64."""
    prompt, loss = fast.ask(EncodePrompt(text)), LossSpec(fluency="nll")
    ours, theirs = (m.ask(Rollouts(rows, [prompt, prompt[:3]], loss)) for m in (fast, slow))
    for a, b in zip(ours[0] + ours[1], theirs[0] + theirs[1], strict=True):
        assert (a.reasoning, a.truncated, a.label_hit) == (b.reasoning, b.truncated, b.label_hit)
        assert a.label_ce == pytest.approx(b.label_ce, rel=1e-9, abs=1e-9)
        assert a.prompt_nll == pytest.approx(b.prompt_nll, rel=1e-9)
    place = {"position": 2, "depth": 12, "token_filter": "ascii"}
    a, b = (m.ask(Gradients(rows, prompt, loss, **place)) for m in (fast, slow))
    every = list(range(slow.embed.weight.shape[0]))
    mine = torch.tensor(fast.ask(OneHotGradient(a.gradient, every)), dtype=torch.float64)
    reference = torch.tensor(b.gradient, dtype=torch.float64)
    assert float((mine - reference).norm()) <= 1e-9 * float(reference.norm())
    assert a.losses == pytest.approx(b.losses, rel=1e-9)
    assert a.proposals == b.proposals
    assert fast.ask(Proposals(rows, prompt, *place.values())) == list(b.proposals)
    assert fast.ask(PromptRoom(rows)) == slow.ask(PromptRoom(rows))

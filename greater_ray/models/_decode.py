"""Batched greedy decoding over preallocated keys and values, and scoring of the label on what was generated.

One ``RowBatch`` takes (prompt, question) rows through the life of a rollout: prefill of prompt and suffix on the cached
head, greedy reasoning with finished rows dropped, the extractor and label on the generated keys and values, and, if
asked, the decoded answer. Nothing is ever computed twice, and logits only where they are read (paper 4.3: the
extraction is one more pass over keys and values that exist already).

Shape suffixes: B rows, Q query tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from greater_ray.models._head import largest_only
from greater_ray.models._kv import NEVER, Masks, Prefix, SlotStore
from greater_ray.models._logits import mean, token_losses, widen
from greater_ray.types import TokenIds


@dataclass(frozen=True, slots=True)
class Parts:
    """The token ids of one row around its reasoning: ``head`` and ``suffix`` are all before and behind the prompt."""

    head: TokenIds
    prompt: TokenIds
    suffix: TokenIds
    label: TokenIds


@dataclass(slots=True)
class RowResult:
    """What one row gave. ``generated`` counts decoded tokens: of the reasoning with its stop token, and the answer."""

    reasoning: TokenIds = ()
    truncated: bool = False
    generated: int = 0
    prompt_nll: float = 0.0
    label_ce: float = 0.0
    label_hit: bool = False
    answer: TokenIds = ()
    choice_nlls: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Decoder:
    """The model with all that decoding needs to know about it."""

    model: Any
    masks: Masks
    num_layers: int
    device: torch.device  # of ids and positions
    stop_tokens: frozenset[int]
    blank_tokens: frozenset[int]
    pad: int
    # Whether the model's attention takes a prefix that rows have in common.
    shares: bool = False
    # After how many tokens it is looked whether rows have ended: to look, a GPU is waited for.
    look: int = 1


# Tokens of choices that are scored in one pass; bounds the logits that it holds.
CHOICE_TOKENS = 16
# Takes next-token logits [B, V] and the caller's numbers of their rows; returns one token a row, [B].
Choice = Callable[[Tensor, Sequence[int]], Tensor]


def greedy(logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
    """Take the likeliest token of every row."""
    return logits_BV.argmax(dim=-1)


class RowBatch:
    """Rows decoded together. ``order[k]`` is the row of the caller that stands at place k after rows were swapped."""

    def __init__(self, decoder: Decoder, prefix: Prefix, members: Sequence[int], parts: Sequence[Parts]) -> None:
        self.decoder, self.parts = decoder, parts
        self.prefix, self.members = prefix, list(members)
        self.results = [RowResult() for _ in parts]
        # Of a prompt's beginning that stands in the prefix: how many tokens, and their mean NLL.
        self.begun = [(0, 0.0)] * len(parts)
        self.order = list(range(len(parts)))

    @classmethod
    def behind_prompts(cls, decoder: Decoder, prefix: Prefix, parts: Sequence[Parts]) -> "RowBatch":
        """Rows whose prompts stand in front of the questions: every prompt is run once, on the prefix of one row."""
        prompts = {part.prompt: place for place, part in enumerate({p.prompt: p for p in parts}.values())}
        first = cls(decoder, prefix, [0] * len(prompts), [Parts(parts[0].head, p, (), ()) for p in prompts])
        places = [prompts[part.prompt] for part in parts]
        return cls._behind(first, places, [(p, len(p.prompt)) for p in parts])

    @classmethod
    def behind_beginning(
        cls, decoder: Decoder, prefix: Prefix, members: Sequence[int], parts: Sequence[Parts]
    ) -> "RowBatch":
        """Rows whose prompts may begin alike: what they have in common is run once for every row of the prefix."""
        heads = dict(zip(members, (part.head for part in parts), strict=True))
        common = common_beginning([part.prompt for part in parts])
        if len(heads) == len(parts) or not common:
            return cls(decoder, prefix, members, parts)
        places = {member: place for place, member in enumerate(heads)}
        first = cls(decoder, prefix, list(heads), [Parts(head, common, (), ()) for head in heads.values()])
        return cls._behind(first, [places[member] for member in members], [(part, len(common)) for part in parts])

    @classmethod
    def _behind(cls, first: "RowBatch", places: Sequence[int], rows: Sequence[tuple[Parts, int]]) -> "RowBatch":
        """Rows behind those of another batch, each with so many tokens of its prompt in that one."""
        first.prefill(0, share=False)
        # Its last token is fed again, as that of a head is.
        first.store.positions[:, -1] = NEVER
        parts = [replace(part, head=part.head + part.prompt[:n], prompt=part.prompt[n:]) for part, n in rows]
        batch = cls(first.decoder, first.store.as_prefix(), places, parts)
        batch.begun = [(n, first.results[place].prompt_nll) for place, (_, n) in zip(places, rows, strict=True)]
        return batch

    def _tensor(self, rows: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self.decoder.device)

    def _feed(self, ids: Tensor, positions: Tensor, keep: Tensor | int, groups: Tensor | None = None) -> Tensor:
        """Run ``ids`` ``[B, Q]`` at ``positions`` (``NEVER`` marks padding); return logits at the kept places.

        ``groups``: see ``Masks.build``.
        """
        store, extent = self.store, self.store.extent
        stop = extent.cursor + ids.shape[1]
        store.positions[: extent.rows, extent.cursor : stop] = positions
        mask = self.decoder.masks.build(positions, store.positions[: extent.rows, :stop], groups)
        output = self.decoder.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions.clamp(min=0),
            past_key_values=store.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        extent.cursor = stop
        logits: Tensor = output.logits
        return logits

    def prefill(self, room: int, share: bool = True) -> Tensor:
        """Run prompt and suffix on the cached prefix, note the prompt's NLL, return next-token logits ``[B, V]``.

        With ``share``, rows behind the same row of the prefix read it there, if the model can and it is worth it.

        The last head token is fed again with the prompt, because its logits score the prompt's first token; prompts and
        suffixes of unequal length are padded on the left, so that all prompts end in one slot, and all rows in another.
        """
        longest, longest_s = max(len(p.prompt) for p in self.parts), max(len(p.suffix) for p in self.parts)
        width = 1 + longest + longest_s
        slots = self.prefix.positions.shape[1] + width + room
        decoder = self.decoder
        self.store = SlotStore(decoder.num_layers, len(self.parts), slots, decoder.device)
        if share and decoder.shares and 2 * len(set(self.members)) <= len(self.members) and self.prefix.nbytes:
            self.store.share_prefix(self.prefix, self.members)
        else:
            self.store.put_prefix(self.prefix, self.members)
        ids, positions = [], []
        self.next_position = list[int]()
        for part in self.parts:
            pad, gap, begin = longest - len(part.prompt), longest_s - len(part.suffix), len(part.head) - 1
            middle, end = begin + 1 + len(part.prompt), begin + 1 + len(part.prompt) + len(part.suffix)
            ids.append(
                [decoder.pad] * pad + [part.head[-1], *part.prompt] + [decoder.pad] * gap + list(part.suffix),
            )
            positions.append([NEVER] * pad + [*range(begin, middle)] + [NEVER] * gap + [*range(middle, end)])
            self.next_position.append(end)
        keep = torch.tensor([*range(longest), width - 1])  # on the host: it fits hidden states on any device
        logits_BQV = self._feed(self._tensor(ids), self._tensor(positions), keep)
        for result, (_, nll) in zip(self.results, self.begun, strict=True):
            result.prompt_nll = nll
        if longest:
            targets = [[decoder.pad] * (longest - len(p.prompt)) + list(p.prompt) for p in self.parts]
            losses = token_losses(logits_BQV[:, :longest], self._tensor(targets))
            for result, part, (tokens, nll), own in zip(self.results, self.parts, self.begun, losses, strict=True):
                if part.prompt:
                    total = tokens * nll + math.fsum(own[longest - len(part.prompt) :])
                    result.prompt_nll = total / (tokens + len(part.prompt))
        return logits_BQV[:, -1]

    def reason(self, logits_BV: Tensor, limit: int, choose: Choice = greedy) -> None:
        """Decode up to ``limit`` tokens a row; a row that stops is swapped out of the running rows.

        Whether rows have stopped is looked at every ``decoder.look`` tokens; what they decode until then is not read.
        """
        texts: list[list[int]] = [[] for _ in self.parts]
        self.unfed = [False] * len(self.parts)
        look = self.decoder.look if choose is greedy else 1
        unread: list[Tensor] = []
        positions_B = self._tensor(self.next_position) - 1
        for step in range(limit):
            chosen_B = choose(logits_BV, self.order[: self.store.extent.rows]).to(self.decoder.device)
            unread.append(chosen_B)
            positions_B = positions_B + 1
            if len(unread) == look or step + 1 == limit:
                chosen = self._read(unread, texts)
                running = self.order[: self.store.extent.rows]
                if step + 1 == limit:
                    for row in running:
                        self.results[row].truncated = self.unfed[row] = True
                if not running or step + 1 == limit:
                    break
                unread, chosen_B = [], self._tensor(chosen)
                positions_B = self._tensor([self.next_position[row] + len(texts[row]) - 1 for row in running])
            with largest_only(self.decoder.model) if choose is greedy else nullcontext():
                logits_BV = self._feed(chosen_B[:, None], positions_B[:, None], 1)[:, -1]
        self.store.extent.rows = len(self.parts)
        for row, text in enumerate(texts):
            kept = len(text)
            while kept and text[kept - 1] in self.decoder.blank_tokens:
                kept -= 1
            self.results[row].reasoning = tuple(text[:kept])
            self.unfed[row] &= kept == len(text)

    def _read(self, unread: Sequence[Tensor], texts: list[list[int]]) -> list[int]:
        """Fetch the tokens ``[B]`` of some steps and retire the rows that stop; return the last of those that go on."""
        steps: list[list[int]] = torch.stack(list(unread)).tolist()
        for place in range(self.store.extent.rows - 1, -1, -1):
            row = self.order[place]
            for tokens in steps:
                self.results[row].generated += 1
                if tokens[place] in self.decoder.stop_tokens:
                    self._retire(place, steps[-1])
                    break
                texts[row].append(tokens[place])
        return steps[-1][: self.store.extent.rows]

    def _retire(self, place: int, chosen: list[int]) -> None:
        """Move a finished row behind the running ones."""
        last = self.store.extent.rows - 1
        if place != last:
            self.store.swap_rows(place, last)
            self.order[place], self.order[last] = self.order[last], self.order[place]
            chosen[place], chosen[last] = chosen[last], chosen[place]
        self.store.extent.rows = last

    def given(self, reasoning: Sequence[TokenIds], room: int) -> None:
        """Take known reasoning instead of decoding it: one pass in place of one per token."""
        self.prefill(room)
        self.unfed = [False] * len(self.parts)
        longest = max(map(len, reasoning))
        if longest:
            ids = [[*r, *[self.decoder.pad] * (longest - len(r))] for r in reasoning]
            positions = [
                [begin + k if k < len(r) else NEVER for k in range(longest)]
                for r, begin in zip(reasoning, self.next_position, strict=True)
            ]
            self._feed(self._tensor(ids), self._tensor(positions), 1)
        for result, tokens in zip(self.results, reasoning, strict=True):
            result.reasoning = tokens

    def score(self, extractor: TokenIds, temperature: float) -> Tensor:
        """Score the label after the extractor on the generated keys and values; return its first logits ``[B, V]``.

        The block starts with the last reasoning token of rows that ran into the limit: it was chosen but never fed.
        Slots behind the kept reasoning (trailing blanks) are masked.
        """
        self._hide_dropped_reasoning()
        longest = max(len(p.label) for p in self.parts)
        ids, positions, self.answer_position = [], [], [0] * len(self.parts)
        for row in self.order:
            part, result = self.parts[row], self.results[row]
            end = self.next_position[row] + len(result.reasoning)
            first = (result.reasoning[-1], end - 1) if self.unfed[row] else (self.decoder.pad, NEVER)
            tail = [*extractor, *part.label, *[self.decoder.pad] * (longest - len(part.label))]
            ids.append([first[0], *tail])
            positions.append([first[1], *range(end, end + len(tail))])
            self.answer_position[row] = end + len(extractor)
        keep = torch.arange(len(extractor), len(extractor) + longest)
        self.label_slot = self.store.extent.cursor + 1 + len(extractor)
        logits_BQV = self._feed(self._tensor(ids), self._tensor(positions), keep)
        labels = [self.parts[row].label for row in self.order]
        targets = [[*label, *[self.decoder.pad] * (longest - len(label))] for label in labels]
        losses = token_losses(logits_BQV, self._tensor(targets), temperature)
        likeliest = logits_BQV.argmax(dim=-1).tolist()
        for place, (row, label) in enumerate(zip(self.order, labels, strict=True)):
            self.results[row].label_ce = mean(losses[place][: len(label)])
            self.results[row].label_hit = likeliest[place][: len(label)] == list(label)
        return logits_BQV[:, 0]

    def _hide_dropped_reasoning(self) -> None:
        ends = self._tensor([[self.next_position[row] + len(self.results[row].reasoning)] for row in self.order])
        self.store.positions.masked_fill_(self.store.positions >= ends, NEVER)

    def score_choices(self, logits_BV: Tensor, choices: Sequence[TokenIds], temperature: float) -> int:
        """Score alternative continuations of the extractor, given the logits ``[B, V]`` of their first tokens.

        They take turns in the slots where the label was scored, as many at once as fit ``CHOICE_TOKENS``; those of one
        pass do not see each other. Return the number of passes; choices of one token need none.
        """
        first_BV = widen(logits_BV).div(temperature).log_softmax(dim=-1)
        begun = torch.tensor([choice[0] for choice in choices], device=first_BV.device)
        sums: list[list[float]] = first_BV[:, begun].tolist()
        passes = _packed([len(choice) - 1 for choice in choices], CHOICE_TOKENS)
        for numbers in passes:
            self.store.extent.cursor = self.label_slot
            self.store.positions[:, self.label_slot :] = NEVER
            fed = [token for number in numbers for token in choices[number][:-1]]
            offsets = [k for number in numbers for k in range(len(choices[number]) - 1)]
            groups = [place for place, number in enumerate(numbers, 1) for _ in choices[number][:-1]]
            positions = [[self.answer_position[row] + k for k in offsets] for row in self.order]
            logits_BQV = self._feed(
                self._tensor([fed] * len(self.order)),
                self._tensor(positions),
                len(fed),
                torch.tensor(groups, device=self.decoder.device),
            )
            begin = 0
            for number in numbers:
                following = choices[number][1:]
                log_p = widen(logits_BQV[:, begin : begin + len(following)]).div(temperature).log_softmax(dim=-1)
                index = self._tensor([following] * len(self.order)).to(log_p.device)[..., None]
                for place, rest in enumerate(log_p.gather(2, index).sum(dim=(1, 2)).tolist()):
                    sums[place][number] += rest
                begin += len(following)
        for place, row in enumerate(self.order):
            nlls = (-total / len(choice) for total, choice in zip(sums[place], choices, strict=True))
            self.results[row].choice_nlls = tuple(nlls)
        return len(passes)

    def answer(self, logits_BV: Tensor, limit: int, line_ends: frozenset[int]) -> None:
        """Decode the answer after the extractor, over the slots where the label was scored.

        It ends at a stop token, or at a line break once something has been written.
        """
        stop_tokens, blank_tokens = self.decoder.stop_tokens, self.decoder.blank_tokens
        self.store.extent.cursor = self.label_slot
        self.store.positions[:, self.label_slot :] = NEVER
        texts: list[list[int]] = [[] for _ in self.parts]
        done = [False] * len(self.parts)
        for step in range(limit):
            chosen = logits_BV.argmax(dim=-1).tolist()
            for place, row in enumerate(self.order):
                written = any(token not in blank_tokens for token in texts[row])
                done[row] |= chosen[place] in stop_tokens or (written and chosen[place] in line_ends)
                if not done[row]:
                    texts[row].append(chosen[place])
                    self.results[row].generated += 1
            if all(done) or step + 1 == limit:
                break
            positions = [[self.answer_position[row] + step] for row in self.order]
            with largest_only(self.decoder.model):
                logits_BV = self._feed(self._tensor([[t] for t in chosen]), self._tensor(positions), 1)[:, -1]
        for result, text in zip(self.results, texts, strict=True):
            result.answer = tuple(text)


def common_beginning(prompts: Sequence[TokenIds]) -> TokenIds:
    """Return the tokens that all prompts begin with, but for the last token of the shortest."""
    shortest = min(map(len, prompts))
    first = prompts[0]
    equal = (all(prompt[k] == first[k] for prompt in prompts) for k in range(shortest - 1))
    return first[: next((k for k, same in enumerate(equal) if not same), max(0, shortest - 1))]


def choice_room(choices: Sequence[TokenIds]) -> int:
    """Return how many slots behind the extractor scoring takes."""
    groups = _packed([len(choice) - 1 for choice in choices], CHOICE_TOKENS)
    return max((sum(len(choices[number]) - 1 for number in numbers) for numbers in groups), default=0)


def _packed(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Group the numbers of all sizes but 0, in order: a group is of one, or its sizes sum up to ``limit`` at most."""
    groups: list[list[int]] = []
    filled = limit
    for number, size in enumerate(sizes):
        if not size:
            continue
        if filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(number)
        filled += size
    return groups

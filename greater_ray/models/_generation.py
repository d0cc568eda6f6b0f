"""Text in reply to conversations: chat markup, one batched prefill, and decoding, greedy or sampled.

A row's text depends on its conversation, its seed and the settings, and on the rows beside it by rounding alone: every
row draws from a random stream of its own, and padding is masked.
"""

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from greater_ray.models._decode import Choice, Decoder, Parts, RowBatch, RowResult, greedy
from greater_ray.models._kv import NEVER, Prefix, SlotStore
from greater_ray.models._memory import MicroBatch
from greater_ray.models._placement import BROKEN, markup_tokens, render, shows_system
from greater_ray.types import Conversation, Generation, Message, TokenIds, Usage

# With less room for a reply a question is not asked: a prompt would be cut off.
LEAST_REPLY = 64


class Writer:
    """A model and its tokenizer, ready to continue conversations; ``batch`` says how many rows fit at once."""

    def __init__(self, decoder: Decoder, tokenizer: Any, config: Any, batch: MicroBatch) -> None:
        self.decoder, self.tokenizer, self.config, self.batch = decoder, tokenizer, config, batch
        self._special = markup_tokens(tokenizer)

    @property
    def window(self) -> int | None:
        """How many tokens a sequence may have, if that is limited.

        With longrope no more than in training: beyond, all positions turn otherwise, those of cached keys too, and a
        row would depend on the rows beside it.
        """
        limits = [getattr(self.config, "max_position_embeddings", None), *_longrope_limits(self.config)]
        return min((limit for limit in limits if limit is not None), default=None)

    # -- conversation to token ids -------------------------------------------------------------------------------------

    def encode(self, conversation: Conversation) -> TokenIds:
        """Token ids of a conversation up to where the reply goes on, with exactly one BOS where the model has one.

        Raises:
            _Unusable: the chat template refuses the turns, or a turn contains markup of this model.
        """
        for token in self._special:
            if any(token in message.content for message in conversation):
                raise _Unusable(f"the conversation contains '{token}', which is markup of this model.")
        try:
            text = self._render(conversation if self._takes_system else without_system(conversation))
        except BROKEN as error:
            raise _Unusable(f"the model's chat template refuses this conversation: {error}.") from error
        ids = tuple(self.tokenizer(text, add_special_tokens=False).input_ids)
        # A template may write it behind a line break.
        written = self.tokenizer.bos_token is not None and self.tokenizer.bos_token in text
        return ids if written else self._bos + ids

    def _render(self, conversation: Conversation) -> str:
        if conversation[-1].role == "assistant":
            return self._render(conversation[:-1]) + conversation[-1].content
        if not self.tokenizer.chat_template:
            turns = [f"{message.role.capitalize()}: {message.content}\n\n" for message in conversation]
            return "".join(turns) + "Assistant:"
        return render(self.tokenizer, conversation)

    @cached_property
    def _takes_system(self) -> bool:
        """Whether a system turn is shown: by a template that can, or where there is none."""
        return not self.tokenizer.chat_template or shows_system(self.tokenizer)

    @cached_property
    def _bos(self) -> TokenIds:
        """The BOS that must be put in front where the rendered text does not begin with it."""
        bos = self.tokenizer.bos_token_id
        needed = bos is not None and (not self.tokenizer.chat_template or bos in self.tokenizer("a").input_ids)
        return (bos,) if needed else ()

    def _request(self, conversation: Conversation, seed: int, max_tokens: int) -> "_Request":
        try:
            ids = self.encode(conversation)
        except _Unusable as error:
            return _Request((), seed, 0, str(error))
        room = max_tokens if self.window is None else min(max_tokens, self.window - len(ids))
        if room < min(max_tokens, LEAST_REPLY):
            least = min(max_tokens, LEAST_REPLY)
            return _Request(
                (),
                seed,
                0,
                f"{len(ids)} tokens of conversation and {least} of reply do not fit the model's context window of "
                f"{self.window}.",
            )
        return _Request(ids, seed, room, None)

    # -- token ids to text ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, conversations: Sequence[Conversation], seeds: Sequence[int], max_tokens: int, temperature: float
    ) -> tuple[list[Generation], Usage]:
        """Continue every conversation by up to ``max_tokens``; temperature 0 takes the likeliest token.

        A reply that was begun in the conversation's last turn comes back with its beginning. A conversation that cannot
        be continued gives a ``Generation`` with an error; the others go on. A long one leaves its reply fewer tokens,
        ``LEAST_REPLY`` or more.
        """
        requests = [self._request(c, seed, max_tokens) for c, seed in zip(conversations, seeds, strict=True)]
        usable = [request for request in requests if request.error is None]
        passes, done = 0, dict[int, RowResult]()
        for room in sorted({request.room for request in usable}, reverse=True):
            equal = [request for request in usable if request.room == room]
            results, used = self._continue(equal, room, temperature)
            passes += used
            done.update(zip(map(id, equal), results, strict=True))
        generations, generated = [], 0
        for conversation, request in zip(conversations, requests, strict=True):
            if request.error is not None:
                generations.append(Generation("", error=request.error))
                continue
            result = done[id(request)]
            generated += result.generated
            text = self.tokenizer.decode(
                list(result.reasoning), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            begun = conversation[-1].content if conversation[-1].role == "assistant" else ""
            generations.append(Generation(begun + text, truncated=result.truncated))
        prefill = sum(len(request.ids) for request in usable)
        usage = Usage(calls=len(requests), prefill_tokens=prefill, generated_tokens=generated, passes=passes)
        return generations, usage

    def _continue(
        self, requests: Sequence["_Request"], max_tokens: int, temperature: float
    ) -> tuple[list[RowResult], int]:
        """Decode replies of up to ``max_tokens``; return them, and how many passes that took."""
        passes = 0

        def work(start: int, stop: int) -> list[RowResult]:
            nonlocal passes
            chosen = requests[start:stop]
            # Made anew for every attempt: a batch that ran out of memory has drawn already.
            streams = [random.Random(request.seed) for request in chosen]
            batch = _TextBatch(self.decoder, [request.ids for request in chosen])
            batch.reason(batch.begin(max_tokens), max_tokens, _sampler(streams, temperature) if temperature else greedy)
            passes += max(result.generated for result in batch.results)
            return batch.results

        return self.batch.map(work, len(requests)), passes


def without_system(conversation: Conversation) -> Conversation:
    """Put the text of system turns in front of the first user turn."""
    system = [message.content for message in conversation if message.role == "system"]
    turns = [message for message in conversation if message.role != "system"]
    if system:
        first = next((k for k, message in enumerate(turns) if message.role == "user"), None)
        if first is None:
            turns.insert(0, Message("user", "\n\n".join(system)))
        else:
            turns[first] = Message("user", "\n\n".join([*system, turns[first].content]))
    return tuple(turns)


def _longrope_limits(config: Any) -> list[int]:
    """Return the lengths beyond which a longrope changes its frequencies; one per type of layer that has its own."""
    parameters = getattr(config, "rope_parameters", None) or {}
    ropes = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    of_config = getattr(config, "original_max_position_embeddings", None)
    found = [
        rope.get("original_max_position_embeddings", of_config) for rope in ropes if rope.get("rope_type") == "longrope"
    ]
    return [limit for limit in found if limit is not None]


class _Unusable(Exception):  # noqa: N818 - becomes the error of one row
    """Why a conversation cannot be continued."""


class _Request(NamedTuple):
    """A conversation as token ids and the room for its reply in tokens, or why it is none."""

    ids: TokenIds
    seed: int
    room: int
    error: str | None


class _TextBatch(RowBatch):
    """Rows that begin at token ids of their own, without cached questions."""

    def __init__(self, decoder: Decoder, contexts: Sequence[TokenIds]) -> None:
        nothing = Prefix(torch.empty(len(contexts), 0, dtype=torch.long, device=decoder.device), [])
        super().__init__(decoder, nothing, range(len(contexts)), [Parts(ids, (), (), ()) for ids in contexts])

    def begin(self, room: int) -> Tensor:
        """Run the contexts, padded on the left to one length; return next-token logits ``[B, V]``."""
        decoder, longest = self.decoder, max(len(part.head) for part in self.parts)
        self.store = SlotStore(decoder.num_layers, len(self.parts), longest + room, decoder.device)
        pads = [longest - len(part.head) for part in self.parts]
        ids = [[decoder.pad] * pad + list(part.head) for pad, part in zip(pads, self.parts, strict=True)]
        positions = [[NEVER] * pad + list(range(longest - pad)) for pad in pads]
        self.next_position = [longest - pad for pad in pads]
        return self._feed(self._tensor(ids), self._tensor(positions), 1)[:, -1]


def _sampler(streams: Sequence[random.Random], temperature: float) -> Choice:
    """Draw every row's token from softmax(logits / temperature), in float64, with one number of the row's own stream.

    ``random.Random`` takes the whole seed; torch's generator on the CPU takes its low 32 bits only.
    """

    def choose(logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        cumulated = (logits_BV.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
        drawn = torch.tensor([[streams[row].random()] for row in rows], dtype=torch.float64, device=logits_BV.device)
        places = torch.searchsorted(cumulated, drawn * cumulated[:, -1:], right=True)
        return places[:, 0].clamp(max=cumulated.shape[1] - 1)

    return choose

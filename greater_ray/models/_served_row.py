"""One row at a server: what is asked of it and said so far, and what it has cost."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from greater_ray.errors import DataError, EndpointError
from greater_ray.models._chat import SETTING, Reply
from greater_ray.models._pieces import pieces
from greater_ray.types import Conversation, Example, Layout, Message, Usage

# How the answer is asked for where the model cannot be made to go on after the extractor.
ASK = "Complete this sentence with your final answer, and write nothing else: {extractor}"
# What a server answers to a request that it would refuse again: malformed, too large, not to be processed.
_REFUSES_ROW = (400, 413, 422)


class Way(NamedTuple):
    """How a server is asked: ``request(messages, max_tokens=..., temperature=..., seed=..., **extra)``.

    ``going_on`` are the arguments by which it goes on with a turn that was begun, None where it does not; ``extra``
    go along with every request; ``cost`` counts a reply.
    """

    request: Callable[..., Reply]
    cost: Callable[[Reply], Usage]
    going_on: dict[str, Any] | None
    extra: dict[str, Any]


class ServedRow:
    """A question under a prompt, its reasoning and its answer. ``reasoning`` holds thoughts that were told apart too.

    Raises:
        DataError: by every call that asks: the server refuses this row, for instance because it is too long.
        EndpointError: it does not answer.
    """

    def __init__(self, way: Way, layout: Layout, example: Example, prompt: str) -> None:
        self._way, self._layout, self._example = way, layout, example
        self._question = layout.conversation(example.question, prompt, system_role=True)
        self._said = ""  # the reply without the thoughts, which no server wants back
        self._read: int | None = None  # tokens up to the extractor, once the server has told them
        self._likelihoods: dict[str, tuple[float, bool]] = {}
        self.reasoning, self.truncated = "", False
        self.reasoning_tokens: int | None = None
        self.usage = Usage(calls=1)

    def _ask(self, messages: Conversation, max_tokens: int, **more: Any) -> Reply:
        more = {**self._way.extra, **more}
        reply = self._way.request(messages, max_tokens=max_tokens, temperature=0.0, seed=0, **more)
        self.usage += self._way.cost(reply)
        if reply.error is not None and not reply.refused:
            kind = DataError if reply.status in _REFUSES_ROW else EndpointError
            raise kind(f"row '{self._example.id}': {reply.error}")
        return reply

    def take_over(self, reasoning: str, truncated: bool) -> None:
        """Go on from reasoning that is known."""
        self.reasoning = self._said = reasoning
        self.truncated = truncated

    def reason(self) -> None:
        """Have the model reason."""
        reply = self._ask(self._question, self._layout.max_reasoning_tokens)
        self._said, self.truncated = reply.text, reply.truncated
        self.reasoning = "\n\n".join(filter(None, (reply.thoughts, reply.text)))
        self.reasoning_tokens = None if reply.tokens is None else reply.tokens[1]

    def _after_extractor(self, max_tokens: int) -> Reply:
        """Have the model go on after the extractor, and note how much it has read."""
        if self._layout.extractor_turn:
            reply = self._ask(self._asked(self._layout.extractor.strip()), max_tokens)
        else:
            reply = self._ask(self._begun(), max_tokens, **(self._way.going_on or {}))
        self._read = None if reply.tokens is None else reply.tokens[0]
        return reply

    def _begun(self, more: str = "") -> Conversation:
        """Return the conversation up to the extractor and ``more``, which the model is to go on from."""
        if self._layout.extractor_turn:
            return (*self._asked(self._layout.extractor.strip()), Message("assistant", more))
        text = self._said + self._layout.glue + self._layout.extractor + self._layout.label_prefix * bool(more) + more
        return (*self._question, Message("assistant", text))

    def _asked(self, ask: str) -> Conversation:
        """Return the conversation with a further turn that asks for the answer."""
        if self._said:
            return (*self._question, Message("assistant", self._said), Message("user", ask))
        # Two turns of one side in a row are refused by many templates.
        (*before, last) = self._question
        return (*before, Message("user", f"{last.content}\n\n{ask}"))

    def answer(self) -> str:
        """Return what the model says after the extractor."""
        layout = self._layout
        if layout.extractor_turn or self._way.going_on is not None:
            return self._after_extractor(layout.max_answer_tokens).text
        # It may say the sentence again before it completes it.
        most = layout.max_answer_tokens + len(pieces(layout.extractor))
        reply = self._ask(self._asked(ASK.format(extractor=layout.extractor.strip())), most)
        return completion(reply.text, layout.extractor)

    def likelihood(self, label: str) -> tuple[float, bool]:
        """Return the mean negative log-likelihood per token of a label after the extractor (nats), and if all are best.

        Raises:
            EndpointError: the server does not tell what it should.
        """
        if label not in self._likelihoods:
            self._likelihoods[label] = self._told(label)
        return self._likelihoods[label]

    def _told(self, label: str) -> tuple[float, bool]:
        if self._read is None:
            self._after_extractor(1)
        reply = self._ask(self._begun(label), 1, prompt_logprobs=0, **(self._way.going_on or {}))
        told = reply.prompt_logprobs
        if self._read is None or not isinstance(told, Sequence) or len(told) <= self._read:
            why = f"row '{self._example.id}': the endpoint did not tell the likelihood of the label."
            raise EndpointError(why, setting=SETTING)
        try:
            # Per token a mapping whose first entry is the token that was given.
            entries = [next(iter(entry.values())) for entry in told[self._read :] if entry is not None]
            logs = [float(entry["logprob"]) for entry in entries]
            hit = all(int(entry["rank"]) == 1 for entry in entries)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
            why = f"row '{self._example.id}': the endpoint's likelihoods are malformed."
            raise EndpointError(why, setting=SETTING) from None
        return -math.fsum(logs) / len(logs), hit

    def share(self, label: str, choices: Sequence[str]) -> tuple[float, bool]:
        """Return minus the log of the label's share among the choices (``LossSpec``), and if it is the likeliest."""
        if label not in choices:
            raise DataError(f"row '{self._example.id}': the label '{label}' is none of the task's choices.")
        nlls = [self.likelihood(choice)[0] for choice in choices]
        own, best = self.likelihood(label)[0], min(nlls)
        return own - best + math.log(math.fsum(math.exp(best - nll) for nll in nlls)), own == best


def completion(text: str, sentence: str) -> str:
    """Return what completes a sentence: without the sentence itself, if the model said it again."""
    words = re.escape(" ".join(sentence.split())).replace(r"\ ", r"\s+")
    said = re.match(rf"\W*{words}", text, re.IGNORECASE)
    return text[said.end() :] if said else text

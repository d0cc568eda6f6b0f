"""Plain values that cross the seams: frozen, without torch, small enough to send to another machine.

Vocabulary (used everywhere): a *question* x is answered with *reasoning* r under a *prompt* p; an *extractor* e makes
the model state its answer, and the *label* y is the gold answer as it would follow the extractor.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from greater_ray.likeness import nearest

TokenIds = tuple[int, ...]

# Where a prompt can stand, by name; any other text is a form of the user's turn with both slots.
PLACEMENTS = ("after", "before", "system")
SLOTS = ("{question}", "{prompt}")
# What chat templates call the switch of a model's thoughts: Qwen3 and many others; DeepSeek and Granite.
SWITCHES = ("enable_thinking", "thinking")
# What chat templates that write a date take for today: else a run that goes on another day would be another run. It is
# what Llama 3's writes where it is told no date.
TEMPLATE_DATE = "2024-07-26"


# What an extractor opens in front of a label, and what closes it in a whole sentence.
_CLOSED = {"(": ")", "**": "**"}


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled row.

    ``target`` is the gold answer as the data set prints it, for instance ``"(A)"``; ``label`` is the text that is
    scored after the extractor, for instance ``"A"``. ``references`` are further right answers, where there are any;
    ``rationale`` is the row's own way to the answer, where it shows one.
    """

    id: str
    question: str
    target: str
    label: str
    references: tuple[str, ...] = ()
    rationale: str | None = None

    @property
    def shown(self) -> "Demonstration":
        """The row as a worked example."""
        return Demonstration(self.id, self.question, self.label, self.rationale)


Shard = tuple[Example, ...]


class Message(NamedTuple):
    """One turn of a chat; ``role`` is ``"system"``, ``"user"`` or ``"assistant"``."""

    role: str
    content: str


Conversation = tuple[Message, ...]


class Demonstration(NamedTuple):
    """A worked example that is shown as two turns: its question, and its answer as it would follow the extractor.

    ``rationale`` is the reasoning in front of the answer, where there is some.
    """

    id: str
    question: str
    label: str
    rationale: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands in front of the questions: demonstrations, or of a pool of them the ``nearest`` to each question."""

    rows: tuple[Demonstration, ...] = ()
    nearest: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def count(self) -> int:
        """How many stand in front of a question at most."""
        return min(self.nearest, len(self.rows)) if self.nearest else len(self.rows)

    def fewer(self) -> "Shown":
        """Return this without the last one, or without the farthest of the nearest."""
        if not self.nearest:
            return Shown(self.rows[:-1])
        return Shown(self.rows, self.count - 1) if self.count > 1 else Shown()


@dataclass(frozen=True, slots=True)
class Layout:
    """The text around the prompt: all that changes the token ids of a sequence besides x, p, r and y.

    A sequence reads ``chat opening, x, joint, frozen_prefix, p, chat suffix, r, glue, extractor, label_prefix + y``.
    ``choices`` are all labels of a task whose answers are a closed set. ``placement`` puts ``frozen_prefix, p``
    elsewhere: ``"before"`` the question, with the joint between them, into the ``"system"`` message, or where
    ``{prompt}`` stands in a text that is the user's turn. ``system`` is a fixed system message; ``thinking``
    switches a model's thoughts on or off by the arguments ``SWITCHES`` of its chat template. ``date`` is what the
    template takes for today, ``template_kwargs`` are further arguments of it: pairs of name and JSON text.

    ``demonstrations`` stand in front of the question as turns of user and assistant, and belong to what precedes it.
    Their questions are asked under the text ``demonstrated``, placed as p is: it is constant where p varies.
    With ``nearest`` they are a pool, of which so many are shown: those whose questions are most like x, the most alike
    next to it (``likeness.nearest``). Layout and question alone decide which, and x is never its own demonstration.

    With ``extractor_turn`` the extractor is a user's turn of its own behind r, in place of glue and extractor, and the
    assistant's next turn begins with y.
    """

    extractor: str
    label_prefix: str = " "
    choices: tuple[str, ...] = ()
    joint: str = " "
    frozen_prefix: str = "Use"
    glue: str = " "
    max_reasoning_tokens: int = 1024
    max_answer_tokens: int = 10
    placement: str = "after"
    system: str | None = None
    thinking: bool | None = None
    date: str = TEMPLATE_DATE
    template_kwargs: tuple[tuple[str, str], ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    demonstrated: str = ""
    nearest: int = 0
    extractor_turn: bool = False

    @property
    def prompt_first(self) -> bool:
        """Whether the prompt stands in front of the question."""
        question, prompt = map(self.placement.find, SLOTS)
        return self.placement != "after" and prompt <= question

    def shown(self, question: str) -> tuple[Demonstration, ...]:
        """Return the demonstrations in front of a question, in their order."""
        if not self.nearest:
            return self.demonstrations
        pool = [demonstration.question for demonstration in self.demonstrations]
        return tuple(self.demonstrations[place] for place in nearest(question, pool, self.nearest))

    def at(self, question: str) -> "Layout":
        """Return the layout that shows every question what this one shows ``question``."""
        return replace(self, demonstrations=self.shown(question), nearest=0) if self.nearest else self

    def conversation(self, question: str, prompt: str, *, system_role: bool) -> Conversation:
        """Return the turns that ask a question under a prompt, given without its frozen prefix.

        Demonstrations stand in front of it. Without a ``system_role`` in the chat template, a fixed system message
        stands in front of the first user's turn, and a prompt that belongs there in every user's turn.
        """
        apart = self.placement == "system" and system_role
        turns: list[Message] = []
        for shown in self.shown(question):
            turns.append(Message("user", shown.question if apart else self._asked(shown.question, self.demonstrated)))
            turns += self.answered(shown)
        turns.append(Message("user", question if apart else self._asked(question, prompt)))
        system = self._trimmed(prompt) if apart else self.system
        if system is None:
            return tuple(turns)
        if system_role:
            return Message("system", system), *turns
        first, *rest = turns
        return Message("user", "\n\n".join(filter(None, (system, first.content)))), *rest

    def answered(self, shown: Demonstration) -> Conversation:
        """Return what follows a demonstration's question: the assistant gives its reasoning, extractor and label.

        Where the extractor is a turn of its own, it is asked behind a reasoning.
        """
        if self.extractor_turn:
            label = Message("assistant", shown.label)
            if not (shown.rationale or "").strip():
                return (label,)
            return Message("assistant", (shown.rationale or "").strip()), Message("user", self.extractor.strip()), label
        closing = next((end for begin, end in _CLOSED.items() if self.extractor.endswith(begin)), "")
        answer = f"{self.extractor.lstrip()}{self.label_prefix}{shown.label}{closing}"
        rationale = (shown.rationale or "").strip()
        return (Message("assistant", rationale + (self.glue or " ") + answer if rationale else answer),)

    def _trimmed(self, prompt: str) -> str:
        """Return frozen prefix and prompt as they stand in a message of their own, or at its beginning."""
        return (self.frozen_prefix + prompt).rstrip() if self.frozen_prefix else prompt.strip()

    def _asked(self, question: str, prompt: str) -> str:
        """Return the user's turn."""
        if self.placement == "after":
            # Without a frozen prefix the prompt's own leading blank separates it from the question.
            joint = self.joint if self.frozen_prefix else self.joint.rstrip(" ")
            return question + joint + self.frozen_prefix + prompt
        form = "{prompt}" + self.joint + "{question}" if self.placement in PLACEMENTS else self.placement
        filled = dict(zip(SLOTS, (question, self._trimmed(prompt)), strict=True))
        return "".join(filled.get(part, part) for part in re.split(f"({'|'.join(map(re.escape, SLOTS))})", form))


@dataclass(frozen=True, slots=True)
class LossSpec:
    """L = label term + fluency_weight * fluency(p), per sample (paper Eq. 6).

    The label term is ``"ce"``, the mean cross-entropy of the label's tokens as in the paper, or ``"choice"``, minus the
    log of the label's share among the layout's choices. A choice's likelihood is the geometric mean over its tokens, so
    that long labels are no less likely than short ones, and the share is the softmax over the choices' mean
    log-likelihoods: it is above one half for the label whose likelihood exceeds that of all others together.

    ``fluency`` is ``"exp"`` for exp(mean NLL of p), as in the paper, or ``"nll"`` for the mean NLL itself.
    """

    ce_temperature: float = 1.0
    fluency: str = "exp"
    fluency_weight: float = 0.2
    label: str = "ce"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a computation cost. Tokens are counted every time a model processes them; seconds are wall time.

    ``calls`` counts rows. ``prefix_tokens`` are those of the questions, whose keys and values are computed once and
    kept, what all rows of a shard begin with once for all of them; ``passes`` are forward passes, however many rows
    each held. ``unreadable`` counts replies of a writer that could not be read, also those that were asked for again.
    """

    calls: int = 0
    prefix_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    backward_tokens: int = 0
    passes: int = 0
    seconds: float = 0.0
    unreadable: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @property
    def tokens(self) -> int:
        """All tokens processed, forward and backward."""
        forward = self.prefix_tokens + self.prefill_tokens + self.generated_tokens + self.scored_tokens
        return forward + self.backward_tokens

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with the total beside the parts."""
        return {**asdict(self), "tokens": self.tokens}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Usage":
        """Read what ``to_json`` wrote; the total follows from the parts.

        Raises:
            ValueError: it holds something else.
        """
        unknown = value.keys() - {"tokens", *(f.name for f in fields(cls))}
        if unknown:
            raise ValueError(f"unknown parts of a usage: {sorted(unknown)}")
        return cls(**{name: number for name, number in value.items() if name != "tokens"})


@dataclass(frozen=True, slots=True)
class Rollout:
    """The model's reasoning for one (prompt, example), and how the label fares after it.

    ``label_ce`` is the mean cross-entropy of the label tokens, ``prompt_nll`` the mean negative log-probability of the
    prompt tokens given all before them (nats), ``label_hit`` whether every label token is the argmax (teacher-forced).
    Where the loss compares choices, ``choice_ce`` is minus the log of the label's share among them (nats), and
    ``choice_hit`` whether the label is the likeliest. What a model does not tell is None.
    """

    reasoning: TokenIds
    truncated: bool
    label_ce: float | None
    prompt_nll: float | None
    label_hit: bool | None
    choice_ce: float | None = None
    choice_hit: bool | None = None

    def label_loss(self, spec: LossSpec) -> float:
        """Return the label's term of the loss."""
        loss = self.label_ce if spec.label == "ce" else self.choice_ce
        assert loss is not None
        return loss

    def fluency(self, spec: LossSpec) -> float:
        """Return the prompt's term of the loss, without its weight."""
        assert self.prompt_nll is not None
        return math.exp(self.prompt_nll) if spec.fluency == "exp" else self.prompt_nll

    def label_is_best(self, spec: LossSpec) -> bool:
        """Tell whether the label is the argmax: token by token, or among the choices."""
        return bool(self.label_hit if spec.label == "ce" else self.choice_hit)


@dataclass(frozen=True, slots=True)
class Answer:
    """A rollout read out: the reasoning as text, and what the model says after the extractor.

    ``reasoning_tokens`` is how many tokens the reasoning had where that is not the number of its ids (an endpoint).

    ``choice_nlls``: the mean negative log-likelihood per token of each of the layout's choices after the extractor, in
    nats, where they were asked for.
    """

    rollout: Rollout
    reasoning_text: str
    answer_text: str
    choice_nlls: tuple[float, ...] | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ShardGradient:
    """Gradients of the summed loss over one shard.

    ``gradient``: dL/d(input embedding) at the position, summed over the shard, ``[hidden_size]``;
    ``proposals``: for every example the most likely next tokens at the position, best first, banned tokens left out.
    """

    gradient: tuple[float, ...]
    losses: tuple[float, ...]
    proposals: tuple[TokenIds, ...]


@dataclass(frozen=True, slots=True)
class PromptGradient:
    """Gradients of the summed loss over some rows, at all prompt tokens at once.

    ``gradient``: dL/d(row of the embedding table) for every prompt token, ``[tokens, hidden_size]``; ``losses``: one
    per row; ``proposals``: for every row and prompt token the most likely tokens there, best first, banned tokens left
    out; empty where none are asked for.
    """

    gradient: tuple[tuple[float, ...], ...]
    losses: tuple[float, ...]
    proposals: tuple[tuple[TokenIds, ...], ...] = ()

    @classmethod
    def summed(cls, parts: Sequence["PromptGradient"]) -> "PromptGradient":
        """Add gradients over different rows for one prompt, in float64 and in their order."""
        tokens = zip(*(part.gradient for part in parts), strict=True)
        return cls(
            gradient=tuple(tuple(math.fsum(column) for column in zip(*rows, strict=True)) for rows in tokens),
            losses=tuple(value for part in parts for value in part.losses),
            proposals=tuple(lists for part in parts for lists in part.proposals),
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote in reply to a conversation; ``error`` says why there is nothing, where there is nothing."""

    text: str
    truncated: bool = False
    error: str | None = None


class PromptCheck(NamedTuple):
    """A prompt as text, and whether tokenizing that text gives the same ids again."""

    text: str
    survives: bool


def split_shards(examples: Sequence[Example], size: int) -> list[Shard]:
    """Cut ``examples`` into consecutive shards of ``size`` rows, the last one possibly shorter.

    The shard, not the machine, is the unit of work: its shape never depends on who computes it.
    """
    if size < 1:
        raise ValueError(f"shard size must be at least 1, not {size}")
    return [tuple(examples[i : i + size]) for i in range(0, len(examples), size)]


def total(usages: Iterable[Usage]) -> Usage:
    """Sum usages."""
    result = Usage()
    for usage in usages:
        result = result + usage
    return result

"""What methods share that write a batch of prompts and score them in every step: asking again, scoring, cutting."""

from collections.abc import Callable, Sequence
from itertools import cycle

from greater_ray.methods._asking import WARMER, only_duplicates
from greater_ray.methods._text import (
    END_TAG,
    START_TAG,
    Proposal,
    Scored,
    TextConfig,
    accuracy,
    archived,
    ask,
    canonical,
    tagged,
)
from greater_ray.protocols import Problem
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example, Generation

# A greedy writer would only repeat an unreadable reply, so it samples when it is asked again.
RETRY_TEMPERATURE = 0.7
CUT = "[...]"


Reader = Callable[[Generation], str | None]


def between(start: str, end: str) -> Reader:
    """Return what reads the text between two tags; a reply that was cut off before the closing one has none."""

    def read(reply: Generation) -> str | None:
        return None if reply.truncated and end not in reply.text else tagged(reply.text, start, end)

    return read


def written(reply: Generation) -> str | None:
    """Read free text as it is; nothing is unreadable."""
    return reply.text.strip() or None


def readable(
    problem: Problem,
    conversations: Sequence[Conversation],
    config: TextConfig,
    step: int,
    purpose: str,
    notes: list[str],
    *,
    read: Reader = between(START_TAG, END_TAG),  # noqa: B008 - a function without state
    temperature: float | None = None,
) -> list[str | None]:
    """Ask, and ask those again whose replies cannot be read, at most ``config.retries`` times, with other seeds.

    One text per conversation, aligned; None where no reply could be read. Errors of the writer are noted.
    """
    own = config.temperature if temperature is None else temperature
    texts: list[str | None] = [None] * len(conversations)
    for attempt in range(1 + config.retries):
        missing = [k for k, text in enumerate(texts) if text is None]
        if not missing:
            break
        replies = ask(
            problem,
            [conversations[k] for k in missing],
            config,
            step,
            f"{purpose} {attempt}",
            temperature=own if attempt == 0 else own or RETRY_TEMPERATURE,
        )
        notes.extend(note for reply in replies if reply.error and (note := f"the writer: {reply.error}") not in notes)
        for k, reply in zip(missing, replies, strict=True):
            texts[k] = read(reply) if reply.error is None else None
        problem.note_unreadable(sum(texts[k] is None for k in missing))
    return texts


def new_proposals(
    problem: Problem,
    conversations: Sequence[Conversation],
    config: TextConfig,
    step: int,
    purpose: str,
    notes: list[str],
    judge: Callable[[Sequence[str | None]], list[Proposal]],
) -> list[Proposal]:
    """Ask for prompts and judge them; where all that could be read were duplicates, once more and warmer.

    Returns what was written in both attempts, the first one first: one proposal per conversation and attempt.
    """
    proposals: list[Proposal] = []
    for attempt in range(2):
        temperature = config.temperature + WARMER * attempt
        wanted = f"{purpose} warmer" if attempt else purpose
        new = judge(readable(problem, conversations, config, step, wanted, notes, temperature=temperature))
        proposals += new
        if not only_duplicates(new):
            break
    return proposals


class Round:
    """The archive after this step's new prompts were scored in one call, and what that scoring showed.

    ``scores`` holds the new prompts by text, ``rows`` their answers, in the order of ``new``. ``parents`` are those of
    one attempt's proposals; a second attempt has the same ones.
    """

    def __init__(
        self,
        problem: Problem,
        archive: tuple[Scored, ...],
        proposals: Sequence[Proposal],
        rows: Sequence[Example],
        step: int,
        parents: Sequence[int | None] | None = None,
    ) -> None:
        own = cycle(parents or [None])
        usable = [(p, parent) for p, parent in zip(proposals, own, strict=False) if p.usable]
        self.rows: list[list[ExampleRecord]] = problem.score([p.ids for p, _ in usable], rows) if usable else []
        values = [accuracy(records) for records in self.rows]
        texts = [(p.text, p.ids) for p, _ in usable]
        self.archive = archived(archive, texts, values, step, [parent for _, parent in usable])
        self.new = self.archive[len(archive) :]
        self.scores = {scored.text: scored.score for scored in self.new}
        self.failed = len(proposals) - len(usable)


def find(archive: Sequence[Scored], text: str) -> Scored | None:
    """Return the scored prompt that is the same prompt as ``text``, if there is one."""
    return next((scored for scored in archive if canonical(scored.text) == canonical(text)), None)


def cut(text: str, max_words: int) -> str:
    """Take words out of the middle of a long text; a mark stands for them."""
    words = text.split()
    if len(words) <= max_words:
        return text
    head = (max_words + 1) // 2
    tail = max_words - head
    return " ".join([*words[:head], CUT, *(words[-tail:] if tail else ())])


def shuffled(problem: Problem, epoch: int) -> list[Example]:
    """Return the training rows in the order of an epoch."""
    rows = list(problem.examples)
    problem.rng(epoch, "data order").shuffle(rows)
    return rows

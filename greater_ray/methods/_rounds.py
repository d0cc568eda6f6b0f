"""What methods share that write prompts and score them in every step: a second attempt, scoring, cutting."""

from collections.abc import Callable, Sequence
from itertools import cycle

from greater_ray.methods._archive import Scored, accuracy, archived
from greater_ray.methods._proposals import Proposal, canonical
from greater_ray.methods._writer import Asker, ReplyForm, TextConfig, only_duplicates, prompt_reader
from greater_ray.protocols import Problem
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

CUT = "[...]"


def new_proposals(
    problem: Problem,
    conversations: Sequence[Conversation],
    config: TextConfig,
    step: int,
    purpose: str,
    notes: list[str],
    judge: Callable[[Sequence[str | None]], list[Proposal]],
    form: ReplyForm = "tagged",
) -> list[Proposal]:
    """Ask for prompts and judge them; where all that could be read were duplicates, once more and warmer.

    Returns what was written in both attempts, the first one first: one proposal per conversation and attempt.
    """
    proposals: list[Proposal] = []
    for attempt in range(2):
        asker = Asker(problem, config, step, attempt, notes)
        new = judge(asker.gather(conversations, purpose, prompt_reader(form)))
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

"""The archive of a text method: every prompt that was scored, in order, and what the loop wants to know of it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from greater_ray.errors import ConfigError
from greater_ray.methods._proposals import Proposal
from greater_ray.protocols import NUM_BEST, Candidate, MethodState, Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Example, TokenIds


class Scored(BaseModel, frozen=True, extra="forbid"):
    """A prompt with its score (share of right answers, 0 to 1) on the rows that the method selects by.

    ``number`` counts scored prompts from 0; ``parent`` is the number of the prompt it was made from.
    """

    number: int
    text: str
    ids: TokenIds
    score: float
    step: int
    parent: int | None = None


class TextState(MethodState, frozen=True):
    """Every prompt that was scored, in order; ``failed`` counts proposals that could not be used."""

    archive: tuple[Scored, ...] = ()
    failed: int = 0


def accuracy(rows: Sequence[ExampleRecord]) -> float:
    """Return the mean score: the share of right answers where an answer is right or wrong."""
    return math.fsum(row.score for row in rows) / len(rows)


def dev_rows(problem: Problem) -> tuple[Example, ...]:
    """Return the rows that prompts are chosen by: dev, or train where there are no dev rows."""
    return problem.dev or problem.examples


def start_ids(problem: Problem, text: str, option: str = "initial_prompt") -> TokenIds:
    """Tokenize a start prompt, which an option of the method gives.

    Raises:
        ConfigError: it has no tokens.
    """
    ids = problem.encode(text)
    if not ids:
        why = f"{text!r} has no tokens; give at least one word."
        raise ConfigError(why, setting=f"method_config.{option}", value=text)
    return ids


def archived(
    archive: tuple[Scored, ...],
    texts: Sequence[tuple[str, TokenIds]],
    scores: Sequence[float],
    step: int,
    parents: Sequence[int | None] | None = None,
) -> tuple[Scored, ...]:
    """Append scored prompts."""
    parents = parents or [None] * len(texts)
    first = len(archive)
    new = (
        Scored(number=first + k, text=text, ids=ids, score=score, step=step, parent=parent)
        for k, ((text, ids), score, parent) in enumerate(zip(texts, scores, parents, strict=True))
    )
    return (*archive, *new)


def best_of(archive: Iterable[Scored]) -> tuple[tuple[float, TokenIds], ...]:
    """Return the best prompts as the loop wants them: error rate and ids, lowest first, earlier first among equals."""
    distinct: dict[TokenIds, float] = {}
    for scored in sorted(archive, key=lambda s: (-s.score, s.number)):
        distinct.setdefault(scored.ids, 1 - scored.score)
    return tuple((loss, ids) for ids, loss in distinct.items())[:NUM_BEST]


def candidates(proposals: Sequence[Proposal], scores: dict[str, float]) -> tuple[Candidate, ...]:
    """Return the step's candidates for its record; ``scores`` are those of the texts that were scored."""
    return tuple(
        Candidate(None, p.text, None, 1 - scores[p.text], "scored")
        if p.usable and p.text in scores
        else Candidate(None, p.text, None, None, p.status)
        for p in proposals
    )


def info(state: TextState, current: Scored, shown: tuple[Candidate, ...], notes: Sequence[str] = ()) -> StepInfo:
    """Return what a step did, for its record; the taken candidate is the one whose text is now current."""
    taken = next((k for k, c in enumerate(shown) if c.text == current.text and c.loss is not None), None)
    return StepInfo(
        position=None,
        prompt_ids=current.ids,
        prompt_text=" " + current.text,
        loss=1 - current.score,
        best_loss=state.best[0][0] if state.best else None,
        accepted=taken,
        candidates=shown,
        notes=tuple(notes),
        written=tuple(c.status for c in shown),
    )


def advanced(state: TextState, archive: tuple[Scored, ...], current: Scored, failed: int, **changes: Any) -> Any:
    """Return the next state: one step further, the archive's best prompts, and the steps since the best was found."""
    best = best_of(archive)
    improved = not state.best or best[0][0] < state.best[0][0]
    told = {
        "prompt_ids": current.ids,
        "archive": archive,
        "best": best,
        "failed": state.failed + failed,
        "initial_loss": 1 - archive[0].score if archive else None,
    }
    return state.stepped(improved=improved, **(told | changes))

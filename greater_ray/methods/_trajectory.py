"""Which of the past a step is shown: the momentum of GPO (Tang et al., AAAI 2025, Section 3)."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from greater_ray.methods._archive import Scored
from greater_ray.methods._similarity import Similarity


class Ranked(Protocol):
    """What can be chosen for a trajectory."""

    @property
    def text(self) -> str:
        """Its words."""
        ...

    @property
    def score(self) -> float:
        """How good it is, or the prompt that it is about."""
        ...


RankedT = TypeVar("RankedT", bound=Ranked)


def choose(newest_first: Sequence[RankedT], num: int, by: str, similarity: Similarity) -> tuple[RankedT, ...]:
    """Return at most ``num`` of them, the one that matters most first.

    ``relevance``: the newest, then those most like it; ``recency``: the newest ones; ``importance``: the best ones.
    Among equals the newer one goes first, by importance the older one.
    """
    if by == "recency" or not newest_first:
        return tuple(newest_first[:num])
    if by == "importance":
        oldest_first = newest_first[::-1]
        return tuple(sorted(oldest_first, key=lambda item: -item.score)[:num])
    newest, *past = newest_first
    alike = similarity(newest.text, [item.text for item in past])
    ranked = sorted(range(len(past)), key=lambda k: -alike[k])
    return (newest, *(past[k] for k in ranked[: num - 1]))


def retrieve(
    archive: Sequence[Scored], trajectory: Sequence[int], num: int, by: str, similarity: Similarity
) -> tuple[Scored, ...]:
    """Return at most ``num`` prompts of the trajectory, each once; see ``choose``."""
    distinct = dict.fromkeys(trajectory if by == "importance" else reversed(trajectory))
    items = [archive[number] for number in distinct]
    return choose(items[::-1] if by == "importance" else items, num, by, similarity)

"""A batch of work in portions that fit a budget, so that a limit is not passed by a whole batch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from greater_ray.types import Call, Usage

# With a limit, so many calls of a batch run before it is known what one of them costs.
FIRST_CALLS = 8
# Asked before a portion is handed out, with what the batch has cost so far and in how many calls. Tells how many more
# of its calls may run, None for all of them, and may raise, for instance ``BudgetSpent``.
Allow = Callable[[Usage, int], int | None]


def anything(spent: Usage, calls: int) -> int | None:
    """Allow all calls at once."""
    return None


def portions(calls: Sequence[Call], allow: Allow, spent: Callable[[], Usage]) -> Iterator[Sequence[Call]]:
    """Cut a batch as ``allow`` says; ``spent`` tells what its portions so far have cost."""
    done = 0
    while done < len(calls):
        portion = calls[done : done + (allow(spent(), done) or len(calls))]
        yield portion
        done += len(portion)


def fitting(left: Mapping[str, float], costs: Mapping[str, float], calls: int) -> int | None:
    """Return how many more calls of a batch fit what is left of every limit, one at least; None: there is no limit.

    ``costs`` is what ``calls`` calls of the same batch have cost, by limit. Tokens do not depend on the number of
    replicas, and neither does this number.
    """
    if not left:
        return None
    if not calls:
        return FIRST_CALLS
    numbers = [rest * calls / costs[name] for name, rest in left.items() if costs[name]]
    return max(1, math.floor(min(numbers))) if numbers else None

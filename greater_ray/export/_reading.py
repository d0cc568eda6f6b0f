"""How an answer is read where our own reader is not at hand: a regular expression that Python and JavaScript share.

It is simpler than the readers of ``greater_ray.tasks``: it takes a label wherever it stands alone, denied or not.
"""

import re

from greater_ray.protocols import Task, closed_set

_NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)"


def pattern_of(task: Task) -> str | None:
    """Return an expression whose group is an answer; nothing where an answer is free text."""
    if task.answer_type == "number":
        return _NUMBER
    labels = sorted(closed_set(task), key=len, reverse=True)
    if not labels:
        return None
    # What both languages read as special; ``re.escape`` escapes blanks too, which JavaScript may refuse.
    spelled = "|".join(re.sub(r"([\\^$.*+?()\[\]{}|/])", r"\\\1", label) for label in labels)
    return rf"(?<!\w)({spelled})(?!\w)"


def ignores_case(task: Task) -> bool:
    """Tell whether answers are read without regard to case: words are, single letters are not."""
    return any(len(label) > 1 for label in closed_set(task))

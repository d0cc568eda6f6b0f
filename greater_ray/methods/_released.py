"""What GReaTer's released code does beside the paper: the preset ``released``, and quirks that options switch on.

``docs/methods/greater.md`` lists every difference. Algorithm 1 in ``greater.py`` knows nothing of it but these calls.
"""

from collections.abc import Sequence
from typing import Any

from greater_ray.types import TokenIds

PRESET: dict[str, Any] = {
    "budget": {"steps": 106},
    "layout": {"joint": ". "},
    "evaluation": {"dev_select_top": 10},
    "method_config": {
        "initial_prompt": " proper logical reasoning and think step by step. Finally give the actual correct answer.",
        "top_k": 40,
        "intersections": 6,
        "token_filter": "released",
        "ban_previous_token": True,
        "ce_temperature": 0.2,
        "fluency": "nll",
        "criterion": "mistakes",
        "selection_fluency_weight": 0.02,
        "ties": "last",
        "period_break": True,
        "ending_characters": ".",
        "placeholder_candidate": True,
        "count_initial": False,
        "restart_below": 0.12,
        "filter_round_trip": False,
    },
}


def allowed(ban_previous: bool, likeliest: Sequence[TokenIds], prompt: TokenIds, position: int) -> tuple[TokenIds, ...]:
    """Take the token in front of the position out of every row's list, if banned: before the top k are taken from it.

    At the first position that is the last token of the prompt.
    """
    if not ban_previous:
        return tuple(likeliest)
    previous = prompt[position - 1]
    return tuple(tuple(token for token in tokens if token != previous) for tokens in likeliest)


def period_among(texts: Sequence[str], position: int, initial_length: int) -> int | None:
    """Return the first candidate with a period, in the second half of the prompt: it is taken, and no later one."""
    if position < 0.5 * initial_length:
        return None
    return next((k for k, text in enumerate(texts) if "." in text), None)


def smallest(losses: Sequence[float], ties: str) -> int:
    """Return the index of the smallest loss; among equal ones the ``first``, or in the released code the ``last``."""
    sign = 1 if ties == "first" else -1
    return min(range(len(losses)), key=lambda k: (losses[k], sign * k))


def restarts(below: float | None, loss: float, num_rows: int) -> bool:
    """Tell whether the search begins again with empty records: the authors' inner loop ends below a criterion.

    In their code it does not with exactly 100 rows.
    """
    return below is not None and loss < below and num_rows != 100


def restart(prompt: TokenIds) -> dict[str, Any]:
    """Return what a restart changes: the current prompt is its start, and its length the initial one."""
    return {"position": 0, "open": False, "best": (), "initial_length": len(prompt)}

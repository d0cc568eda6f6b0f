"""Changes of a prompt and of what is shown with it: by the gradient at all positions, and those it cannot rank."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.methods._race import Runner, asked
from greater_ray.methods._tokens import replaced
from greater_ray.protocols import Problem
from greater_ray.types import Example, LossSpec, PromptGradient, Shown
from greater_ray.work import OneHotGradient, PromptGradients, TokenTexts

# Of the nearest rows, so many are shown at most.
MOST_NEAREST = 16


class Move(NamedTuple):
    """A change, in words; what the gradient predicts of the loss, where it does; and the runner that tries it."""

    runner: Runner
    position: int | None = None
    token: int | None = None
    text: str = ""
    slope: float | None = None


def gradient(
    problem: Problem, now: Runner, heats: Sequence[Sequence[Example]], loss: LossSpec, depth: int, token_filter: str
) -> PromptGradient:
    """Return the gradient at every prompt token after the model's own reasoning, and the likeliest tokens there.

    The reasoning is that of the race. Rows whose answers stand in front of the questions are left out.
    """
    view, given = now.view(problem), now.gives_away
    parts: list[PromptGradient] = []
    for rows in heats:
        (answers,) = asked(view, [now.prompt], rows)
        known = [(r, a.rollout.reasoning) for r, a in zip(rows, answers, strict=True) if r.id not in given]
        if known:
            some, reasoning = zip(*known, strict=True)
            work = PromptGradients(some, now.prompt, loss, reasoning=reasoning, depth=depth, token_filter=token_filter)
            parts.append(view.model.ask(work))
    return PromptGradient.summed(parts)


def likely(found: PromptGradient) -> list[list[int]]:
    """Return for every position the tokens that at least half of the rows find likely there (paper Eq. 3, 4)."""
    tokens = []
    for lists in zip(*found.proposals, strict=True):
        counts = Counter(token for own in lists for token in set(own))
        tokens.append([token for token, num in sorted(counts.items()) if 2 * num >= len(lists)])
    return tokens


def replacing(problem: Problem, now: Runner, found: PromptGradient) -> list[Move]:
    """Rank one other token at one position by the first-order change of the loss (Eq. 7), steepest descent first."""
    moves = []
    for position, tokens in enumerate(likely(found)):
        own = now.prompt[position]
        others = [token for token in tokens if token != own]
        here, *slopes = problem.model.ask(OneHotGradient(found.gradient[position], [own, *others]))
        texts = problem.model.ask(TokenTexts(others))
        moves += [
            Move(now._replace(prompt=replaced(now.prompt, position, token)), position, token, text, slope - here)
            for token, text, slope in zip(others, texts, slopes, strict=True)
        ]
    return sorted(moves, key=lambda move: (move.slope, move.position, move.token))


def inserting(now: Runner, found: PromptGradient, rng: random.Random) -> list[Move]:
    """Put a token in that is likely at its place, in an order drawn by chance: no gradient tells."""
    moves = [
        Move(now._replace(prompt=(*now.prompt[:position], token, *now.prompt[position:])), position, token)
        for position, tokens in enumerate(likely(found))
        for token in tokens
    ]
    return rng.sample(moves, len(moves))


def deleting(now: Runner, rng: random.Random) -> list[Move]:
    """Take a token out, in an order drawn by chance."""
    moves = [
        Move(now._replace(prompt=(*now.prompt[:position], *now.prompt[position + 1 :])), position)
        for position in range(len(now.prompt))
    ]
    return rng.sample(moves, len(moves)) if len(now.prompt) > 1 else []


def showing(problem: Problem, now: Runner, rng: random.Random) -> list[Move]:
    """Show other rows: twice or half as many of the nearest; of drawn ones, another one in the place of one."""
    rows, count = now.shown.rows, now.shown.nearest
    if count:
        numbers = {2 * count, count // 2} & set(range(1, 1 + min(MOST_NEAREST, len(rows))))
        shown = [Shown(rows, number) for number in sorted(numbers, reverse=True)]
        return [Move(now._replace(shown=some), text=f"the {some.nearest} nearest rows") for some in shown]
    others = [row.shown for row in problem.examples if row.id not in now.gives_away]
    moves = []
    # What neither of two runners gives away is what they are compared on: one row is left at least.
    for other in rng.sample(others, min(len(others) - 1, len(rows)) if others else 0):
        place = rng.randrange(len(rows))
        some = Shown((*rows[:place], other, *rows[place + 1 :]))
        moves.append(Move(now._replace(shown=some), text=f"row {other.id} in the place of {rows[place].id}"))
    return moves

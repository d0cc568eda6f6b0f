"""Made rows in the form of six BBH tasks: for demonstrations and tests without a network.

They are not BBH and are never titled so. Every label is computed while the row is made.
"""

import functools
import random
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from greater_ray.tasks._sources import Row, Source

ROWS = 250

# fmt: off -- one name a line tells a reader nothing
_NAMES = (
    "Ana",
    "Boris",
    "Celia",
    "Darius",
    "Elif",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Leif",
    "Mirela",
    "Nadir",
    "Oona",
    "Pavel",
    "Rosa",
    "Soren",
    "Tove",
    "Vikram",
    "Zita",
)
# fmt: on
_KINDS: dict[str, list[tuple[str, str]]] = {
    "tools": [
        ("a hammer", "hammers"),
        ("a wrench", "wrenches"),
        ("a chisel", "chisels"),
        ("a saw", "saws"),
        ("an axe", "axes"),
        ("a drill", "drills"),
    ],
    "garments": [
        ("a scarf", "scarves"),
        ("a coat", "coats"),
        ("a sweater", "sweaters"),
        ("a glove", "gloves"),
        ("an apron", "aprons"),
        ("a hat", "hats"),
    ],
    "insects": [
        ("a beetle", "beetles"),
        ("a moth", "moths"),
        ("an ant", "ants"),
        ("a wasp", "wasps"),
        ("a cricket", "crickets"),
        ("a dragonfly", "dragonflies"),
    ],
    "dishes": [
        ("a bowl", "bowls"),
        ("a plate", "plates"),
        ("a teapot", "teapots"),
        ("a saucer", "saucers"),
        ("a jug", "jugs"),
        ("a mug", "mugs"),
    ],
}
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
# (what they are, what each one holds, verb of the swap, the things)
_TRADES = (
    ("neighbors sharing garden tools", "holds a", "trade tools", ("spade", "rake", "hoe", "trowel", "sickle")),
    ("musicians at a rehearsal", "plays the", "trade instruments", ("oboe", "lute", "harp", "cello", "zither")),
    ("sailors in a small harbor", "steers the", "trade boats", ("ketch", "cutter", "yawl", "dinghy", "sloop")),
    ("cooks in one kitchen", "stirs the", "trade pots", ("lentil pot", "rice pot", "bean pot", "soup pot", "stew pot")),
)


class MadeRow(NamedTuple):
    """One made row."""

    question: str
    target: str


def boolean_expressions(rng: random.Random) -> MadeRow:
    """An expression of and, or, not and brackets, with its truth value."""

    def term(depth: int) -> tuple[str, bool]:
        roll = rng.random()
        if roll < 0.3:
            text, value = term(depth)
            return f"not {text}", not value
        if roll < 0.5 and depth:
            text, value = disjunction(depth - 1)
            return f"( {text} )", value
        value = rng.random() < 0.5
        return str(value), value

    def conjunction(depth: int) -> tuple[str, bool]:
        parts = [term(depth) for _ in range(rng.choice((1, 2, 2)))]
        return " and ".join(text for text, _ in parts), all(value for _, value in parts)

    def disjunction(depth: int) -> tuple[str, bool]:
        parts = [conjunction(depth) for _ in range(rng.choice((1, 2, 2)))]
        return " or ".join(text for text, _ in parts), any(value for _, value in parts)

    while True:
        text, value = disjunction(1)
        if 4 <= len(text.split()) <= 14:
            return MadeRow(f"{text} is", str(value))


def navigate(rng: random.Random) -> MadeRow:
    """Steps on a grid, facing one way or turning, and whether they lead back to the start."""
    returns = rng.random() < 0.45  # decided first, because few random walks come back
    while True:
        steps, position = _walk(rng) if rng.random() < 0.5 else _turning_walk(rng)
        if (position == 0) == returns and any(step.startswith("Take") for step in steps):
            break
    intro = "If you follow these instructions, do you return to the starting point?"
    return MadeRow(f"{intro} {' '.join(steps)}\nOptions:\n- Yes\n- No", "Yes" if position == 0 else "No")


def _walk(rng: random.Random) -> tuple[list[str], complex]:
    directions = {"forward": 1j, "backward": -1j, "left": -1 + 0j, "right": 1 + 0j}
    steps, position = ["Always face forward."], 0j
    for _ in range(rng.randint(3, 7)):
        count, direction = rng.randint(1, 6), rng.choice(list(directions))
        steps.append(f"Take {count} step{'s' * (count > 1)} {direction}.")
        position += count * directions[direction]
    return steps, position


def _turning_walk(rng: random.Random) -> tuple[list[str], complex]:
    turns = {"Turn left.": 1j, "Turn right.": -1j, "Turn around.": -1 + 0j}
    steps, position, heading = [], 0j, 1j
    for _ in range(rng.randint(3, 8)):
        if rng.random() < 0.4:
            turn = rng.choice(list(turns))
            steps.append(turn)
            heading *= turns[turn]
        else:
            count = rng.randint(1, 6)
            steps.append(f"Take {count} step{'s' * (count > 1)}.")
            position += count * heading
    return steps, position


def object_counting(rng: random.Random) -> MadeRow:
    """A list of things with their numbers, and how many are of one kind."""
    kind, other = rng.sample(sorted(_KINDS), 2)
    counted = rng.sample(_KINDS[kind], rng.randint(2, 6))
    distractors = rng.sample(_KINDS[other], rng.randint(0, 3))
    items, total = [], 0
    for thing in [*counted, *distractors]:
        count = rng.choice((1, 1, 2, 3, 4, 5))
        items.append(thing[0] if count == 1 else f"{_COUNTS[count]} {thing[1]}")
        total += count if thing in counted else 0
    rng.shuffle(items)
    listed = f"{', '.join(items[:-1])}, and {items[-1]}" if len(items) > 2 else " and ".join(items)
    return MadeRow(f"I have {listed}. How many {kind} do I have?", str(total))


def web_of_lies(rng: random.Random) -> MadeRow:
    """A chain of people who say of the one before that he lies or tells the truth."""
    people = rng.sample(_NAMES, 5)
    honest = rng.random() < 0.5
    parts = [f"{people[0]} {'tells the truth' if honest else 'lies'}."]
    for before, person in pairwise(people):
        claims_honest = rng.random() < 0.5
        parts.append(f"{person} says {before} {'tells the truth' if claims_honest else 'lies'}.")
        honest = claims_honest == honest
    question = f"Question: {' '.join(parts)} Does {people[-1]} tell the truth?"
    return MadeRow(question, "Yes" if honest else "No")


def multistep_arithmetic_two(rng: random.Random) -> MadeRow:
    """Two bracketed terms of four integers each, joined by one operation."""

    def bracket() -> tuple[str, int]:
        numbers = [rng.randint(-9, 9) for _ in range(4)]
        operators = [rng.choice("+-*") for _ in range(3)]
        text = str(numbers[0]) + "".join(f" {o} {n}" for o, n in zip(operators, numbers[1:], strict=True))
        return f"({text})", _evaluate(numbers, operators)

    (left, a), (right, b) = bracket(), bracket()
    operator = rng.choice("+-*")
    return MadeRow(f"({left} {operator} {right}) =", str(_evaluate([a, b], [operator])))


def _evaluate(numbers: list[int], operators: list[str]) -> int:
    """Value of a chain of +, - and *, products first."""
    total, product = 0, numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "*":
            product *= number
        else:
            total, product = total + product, number if operator == "+" else -number
    return total + product


def tracking_shuffled_objects_three_objects(rng: random.Random) -> MadeRow:
    """Three people swap what they hold three times; who holds what in the end."""
    people = rng.sample(_NAMES, 3)
    who, holds, verb, pool = rng.choice(_TRADES)
    things = rng.sample(pool, 3)
    held = dict(zip(people, things, strict=True))
    start = [f"{person} {holds} {thing}" for person, thing in held.items()]
    swaps = []
    for word in ("First", "Then", "Finally"):
        a, b = rng.sample(people, 2)
        held[a], held[b] = held[b], held[a]
        swaps.append(f"{word}, {a} and {b} {verb}.")
    asked = rng.choice(people)
    options = "\n".join(f"({letter}) {thing}" for letter, thing in zip("ABC", things, strict=True))
    question = (
        f"{people[0]}, {people[1]}, and {people[2]} are {who}. To begin with, {start[0]}, {start[1]}, and {start[2]}.\n"
        f"As time passes, they swap in pairs. {' '.join(swaps)} At the end, {asked} {holds}\nOptions:\n{options}"
    )
    return MadeRow(question, f"({'ABC'[things.index(held[asked])]})")


GENERATORS: dict[str, Callable[[random.Random], MadeRow]] = {
    maker.__name__: maker
    for maker in (
        boolean_expressions,
        multistep_arithmetic_two,
        navigate,
        object_counting,
        tracking_shuffled_objects_three_objects,
        web_of_lies,
    )
}


def synthetic_source(subtask: str, seed: int) -> Source:
    """Make 250 different rows; the same (seed, task) makes the same rows."""
    rows = _made_rows(subtask, seed)
    return Source(rows, {"source": "synthetic", "location": f"generator {subtask}", "seed": seed, "rows": len(rows)})


@functools.cache  # a trial asks for its rows more than once
def _made_rows(subtask: str, seed: int) -> tuple[Row, ...]:
    rng = random.Random(f"{seed}:synthetic:{subtask}")
    made: dict[str, str] = {}
    while len(made) < ROWS:
        row = GENERATORS[subtask](rng)
        made.setdefault(row.question, row.target)
    return tuple(Row(i, 0, {"input": q, "target": t}) for i, (q, t) in enumerate(made.items()))

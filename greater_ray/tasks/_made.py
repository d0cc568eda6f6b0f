"""Made rows in the form of MMLU, WSC and WebNLG: for smoke runs and tests without a network.

They are none of these and are never titled so. Labels and references are computed while a row is made. MMLU asks for
knowledge, which cannot be made: its made rows ask for sums and orders, others for every subject.
"""

import functools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._sources import Row, Source

# (a thing, another one, what the pronoun's clause says of the first, what it says of the second)
_SCHEMAS = (
    ("The {0} did not fit into the {1} because it was too {2}.", "large", "small", "trophy chair harp", "box case van"),
    ("The {0} broke through the {1} because it was too {2}.", "heavy", "weak", "anvil safe barrel", "shelf ice roof"),
    ("The {0} could not pass the {1} because it was so {2}.", "wide", "narrow", "truck cart barge", "gate tunnel lock"),
    ("The {0} cut through the {1} because it was so {2}.", "sharp", "soft", "knife saw blade", "bread cheese cork"),
    ("{0} gave up the race against {1} because he was so {2}.", "slow", "fast", "Boris Hugo Jonas", "Nadir Pavel Leif"),
    ("{0} asked {1} the way because she did not {2} the town.", "know", "", "Ana Celia Elif", "Greta Ines Oona"),
    ("{0} thanked {1} because she had {2} the money.", "got", "given", "Rosa Tove Zita", "Mirela Greta Ana"),
    ("{0} could not lift {1} because he was too {2}.", "weak", "heavy", "Farid Hugo Soren", "Vikram Pavel Boris"),
)  # fmt: skip
_TIMES = ("Yesterday", "Last week", "In the morning", "On Monday", "After lunch", "In the spring", "Once", "At noon")
_PLACES = ("Alderby", "Brimmel", "Castona", "Dornfeld", "Estvale", "Farholm", "Grenick", "Halmere")
_PERSONS = ("Ana Brandt", "Boris Lund", "Celia Moor", "Darius Hale", "Elif Aydin", "Farid Nassar", "Greta Olsen")
_TRADES = ("baker", "pilot", "painter", "surgeon", "farmer", "teacher", "lawyer")
# Of every predicate: what its objects are, and how it is said.
_PREDICATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "birthPlace": (_PLACES, ("{s} was born in {o}", "{s} comes from {o}")),
    "residence": (_PLACES, ("{s} lives in {o}", "the home of {s} is {o}")),
    "occupation": (_TRADES, ("{s} works as a {o}", "{s} is a {o}")),
    "employer": (
        ("Nordbank", "Velo Works", "Lakeside Clinic"),
        ("{s} is employed by {o}", "the employer of {s} is {o}"),
    ),
    "birthYear": (tuple(map(str, range(1950, 1990))), ("{s} was born in {o}", "the year of birth of {s} is {o}")),
}


class MadeRow(NamedTuple):
    """One made row as GPO's files have it."""

    question: str
    output: str | list[str]


def mmlu(rng: random.Random) -> MadeRow:
    """A sum, a product, or a question for the largest, with four options."""
    kind = rng.choice(("sum", "product", "largest"))
    if kind == "largest":
        options = rng.sample(range(10, 1000), 4)
        return _four("Which of these numbers is the largest?", max(options), options)
    a, b = rng.randint(3, 60), rng.randint(3, 60)
    right = a + b if kind == "sum" else a * b
    wrong = rng.sample([right + step for step in (-10, -3, -2, -1, 1, 2, 3, 10)], 3)
    options = [right, *wrong]
    rng.shuffle(options)
    return _four(f"What is {a} {'plus' if kind == 'sum' else 'times'} {b}?", right, options)


def _four(question: str, right: int, options: list[int]) -> MadeRow:
    shown = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return MadeRow(f"{question}\n{shown}", f"({LETTERS[options.index(right)]})")


def wsc(rng: random.Random) -> MadeRow:
    """A sentence whose pronoun means the first or the second thing, by one word."""
    form, of_first, of_second, firsts, seconds = rng.choice(_SCHEMAS)
    first, second = rng.choice(firsts.split()), rng.choice(seconds.split())
    means_first = not of_second or rng.random() < 0.5
    sentence = form.format(first, second, of_first if means_first else of_second)
    pronoun = next(word for word in ("it", "he", "she") if f" {word} " in sentence)
    things = [f"The {first}", f"The {second}"] if pronoun == "it" else [first, second]
    order = [0, 1] if rng.random() < 0.5 else [1, 0]
    right = order.index(0 if means_first else 1)
    opening = f"{rng.choice(_TIMES)} this happened: "
    question = f'{opening}{sentence} What does the pronoun "{pronoun}" refer to?'
    return MadeRow(f"{question}\n(A) {things[order[0]]}\n(B) {things[order[1]]}", f"({LETTERS[right]})")


def webnlg(rng: random.Random) -> MadeRow:
    """One to three triples on a person, with two texts that say them."""
    person = rng.choice(_PERSONS)
    predicates = rng.sample(sorted(_PREDICATES), rng.randint(1, 3))
    facts = [(predicate, rng.choice(_PREDICATES[predicate][0])) for predicate in predicates]
    triples = [
        f"{person} | {predicate} | {thing}".replace(" ", "_").replace("_|_", " | ") for predicate, thing in facts
    ]
    texts = []
    for way in (0, 1):
        said = [_PREDICATES[predicate][1][way].format(s=person, o=thing) for predicate, thing in facts]
        texts.append(" ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said))
    return MadeRow("\n".join(["Write the following triples as fluent English text.", "", "Triples:", *triples]), texts)


_MAKERS: dict[str, Callable[[random.Random], MadeRow]] = {maker.__name__: maker for maker in (mmlu, wsc, webnlg)}


def made_source(form: str, count: int, seed: int, subject: str = "") -> Source:
    """Make ``count`` different rows of the form of ``mmlu``, ``wsc`` or ``webnlg``.

    The same (seed, form, subject) makes the same rows.
    """
    rows = _made(form, count, seed, subject)
    return Source(rows, {"source": "synthetic", "location": f"generator {form}", "seed": seed, "rows": len(rows)})


@functools.cache  # a trial asks for its rows more than once
def _made(form: str, count: int, seed: int, subject: str) -> tuple[Row, ...]:
    rng = random.Random(f"{seed}:synthetic:{form}:{subject}")
    made: dict[str, Any] = {}
    while len(made) < count:
        row = _MAKERS[form](rng)
        made.setdefault(row.question, row.output)
    return tuple(Row(i, 0, {"input": q, "output": o}) for i, (q, o) in enumerate(made.items()))

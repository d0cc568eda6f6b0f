"""Which texts of a pool are nearest to another one: the index against the formula, order, ties, and itself."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest

from greater_ray.likeness import character_grams, nearest, words

POOL = (
    "the parcel with the desk has not arrived",
    "I paid twice for the desk",
    "when will the parcel be delivered",
    "I cannot log in",
    "the app crashes",
)


def cosines(text: str, pool: Sequence[str], features: Callable[[str], list[str]]) -> list[float]:
    """Take the formula literally."""
    own, *others = [Counter(features(each)) for each in (text, *pool)]

    def vector(counts: Counter[str]) -> dict[str, float]:
        spread = {feature: sum(feature in other for other in others) for feature in counts}
        return {f: count * (math.log((1 + len(pool)) / (1 + spread[f])) + 1) for f, count in counts.items()}

    def cosine(a: dict[str, float], b: dict[str, float]) -> float:
        norms = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        return sum(a[f] * b[f] for f in a.keys() & b.keys()) / norms if norms else 0.0

    return [cosine(vector(own), vector(other)) for other in others]


def by_hand(text: str, pool: Sequence[str], count: int) -> list[int]:
    """Return what ``nearest`` should."""
    both = zip(cosines(text, pool, words), cosines(text, pool, character_grams), strict=True)
    alike = [round((word + gram) / 2, 9) for word, gram in both]
    others = [k for k in range(len(pool)) if pool[k].split() != text.split()]
    return sorted(others, key=lambda k: (-alike[k], k))[:count][::-1]


def test_the_index_gives_what_the_formula_says():
    rng = Random(0)
    vocabulary = ["a", "parcel", "desk", "lamp", "paid", "twice", "arrived", "arriving", "log", "login"]
    pool = [" ".join(rng.choices(vocabulary, k=rng.randint(1, 8))) for _ in range(30)]
    for text in [*pool[:10], *(" ".join(rng.choices(vocabulary, k=5)) for _ in range(10)), "", "unheard of", "?"]:
        for count in (1, 4, 30):
            assert nearest(text, pool, count) == by_hand(text, pool, count)


def test_the_most_alike_is_last_and_rare_words_count_more():
    assert nearest("has the parcel arrived?", POOL, 2) == [2, 0]
    assert nearest("I was charged twice", POOL, 1) == [1]
    assert nearest("the app", POOL, 0) == []


def test_a_text_is_never_its_own_neighbour_whatever_its_blanks():
    assert 1 not in nearest("  I paid twice\nfor the desk ", POOL, 5)
    assert len(nearest(POOL[1], POOL, 5)) == 4


@pytest.mark.parametrize("text", ["", "nothing shared 123"])
def test_of_equally_alike_texts_the_earlier_is_nearer(text: str):
    assert nearest(text, ["b", "c", "b", "d"], 3) == [2, 1, 0]

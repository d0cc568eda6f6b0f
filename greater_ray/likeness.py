"""Which texts are most like another one, told from their words alone."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache

SHORTEST, LONGEST = 3, 5
# Likenesses that are equal to so many digits are equal: the last bits of a logarithm may differ between machines.
_DIGITS = 9


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case, in order."""
    return re.findall(r"\w+", text.casefold())


def character_grams(text: str) -> list[str]:
    """Return the runs of 3 to 5 characters within each word, with a blank on both sides of the word."""
    padded = [f" {word} " for word in words(text)]
    return [
        word[k : k + size]
        for word in padded
        for size in range(SHORTEST, LONGEST + 1)
        for k in range(len(word) - size + 1)
    ]


def nearest(text: str, pool: Sequence[str], count: int) -> list[int]:
    """Return the places of the ``count`` texts of a pool that are most like ``text``, the most alike last.

    Likeness is the cosine of TF-IDF vectors: the mean of that over words and that over character n-grams, weighted by
    how many texts of the pool a feature stands in. Of texts that are equally alike the earlier one is nearer. The text
    itself is left out, and whatever differs from it in blanks alone.
    """
    alike = _index(tuple(pool)).alike(text)
    own = _plain(text)
    others = [place for place, other in enumerate(pool) if _plain(other) != own]
    others.sort(key=lambda place: (-round(alike[place], _DIGITS), place))
    return others[:count][::-1]


def _plain(text: str) -> str:
    return " ".join(text.split())


class _Features:
    """TF-IDF vectors of texts by their features: a weight is the count times ln((1 + n) / (1 + texts with it)) + 1."""

    def __init__(self, counts: Sequence[Counter[str]]) -> None:
        self._num = len(counts)
        spread = Counter(feature for count in counts for feature in count)
        self._weight = {f: math.log((1 + self._num) / (1 + num)) + 1 for f, num in spread.items()}
        self._absent = math.log(1 + self._num) + 1
        vectors = [self._vector(count) for count in counts]
        # By feature: the texts that it stands in, each with its part of a vector of length one.
        self._places: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, vector in enumerate(vectors):
            norm = _norm(vector)
            for feature, value in vector.items():
                self._places[feature].append((place, value / norm))

    def _vector(self, count: Counter[str]) -> dict[str, float]:
        return {feature: num * self._weight.get(feature, self._absent) for feature, num in count.items()}

    def cosines(self, count: Counter[str]) -> list[float]:
        vector = self._vector(count)
        norm = _norm(vector)
        products: list[list[float]] = [[] for _ in range(self._num)]
        for feature, value in vector.items():
            for place, other in self._places.get(feature, ()):
                products[place].append(value / norm * other)
        return [math.fsum(parts) for parts in products]


def _norm(vector: dict[str, float]) -> float:
    return math.sqrt(math.fsum(value * value for value in vector.values()))


class _Index:
    """The vectors of a pool of texts."""

    def __init__(self, pool: Sequence[str]) -> None:
        self._words = _Features([Counter(words(text)) for text in pool])
        self._grams = _Features([Counter(character_grams(text)) for text in pool])

    def alike(self, text: str) -> list[float]:
        by_words = self._words.cosines(Counter(words(text)))
        by_grams = self._grams.cosines(Counter(character_grams(text)))
        return [(word + gram) / 2 for word, gram in zip(by_words, by_grams, strict=True)]


@lru_cache(maxsize=4)
def _index(pool: tuple[str, ...]) -> _Index:
    """Return a pool's vectors: one pool serves all rows of a trial."""
    return _Index(pool)

"""How alike two prompts are: by a model's embeddings of them, or from their words alone."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from greater_ray.errors import ModelError, UnsupportedError
from greater_ray.likeness import character_grams, words
from greater_ray.protocols import GradientModel
from greater_ray.work import TextEmbeddings


class Similarity(Protocol):
    """Tells how alike a text is to others."""

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one number per text, at most 1, which is the same text."""
        ...


def tf_idf(query: str, texts: Sequence[str]) -> list[float]:
    """Cosine of TF-IDF vectors: the mean of that over words and that over character n-grams.

    A feature's weight is its count times ln((1 + n) / (1 + texts with it)) + 1, over all n texts and the query.
    """
    parts = []
    for features in (words, character_grams):
        counts = [Counter(features(text)) for text in (query, *texts)]
        spread = Counter(feature for count in counts for feature in count)
        weight = {f: math.log((1 + len(counts)) / (1 + num)) + 1 for f, num in spread.items()}
        vectors = [{f: num * weight[f] for f, num in count.items()} for count in counts]
        parts.append([_cosine(vectors[0], vector) for vector in vectors[1:]])
    return [(word + gram) / 2 for word, gram in zip(*parts, strict=True)]


def word_overlap(query: str, texts: Sequence[str]) -> list[float]:
    """Jaccard index of the sets of words."""
    own = set(words(query))
    return [len(own & other) / len(own | other) if own | other else 0.0 for other in map(set, map(words, texts))]


def embedded(model: GradientModel, notes: list[str], otherwise: Similarity | None = None) -> Similarity:
    """Return the cosine of embeddings: the mean of a model's last hidden states over a text's tokens.

    Where the model gives none, ``otherwise`` takes their place and ``notes`` tell it.

    Raises:
        ModelError: the model gives no embeddings, and nothing may take their place.
    """

    def cosine(query: str, texts: Sequence[str]) -> list[float]:
        try:
            own, *others = model.ask(TextEmbeddings([query, *texts]))
        except UnsupportedError as error:
            if otherwise is None:
                why = f"{str(error).rstrip('.')}; §method_config.similarity may be tf-idf, which needs no model."
                raise ModelError(why, setting="method_config.similarity", value="embeddings") from error
            notes.append("likeness by words: this model gives no embeddings")
            return otherwise(query, texts)
        return [math.fsum(a * b for a, b in zip(own, other, strict=True)) for other in others]

    return cosine


SIMILARITIES: dict[str, Similarity] = {"tf-idf": tf_idf, "word-overlap": word_overlap}


def _cosine(a: dict[str, float], b: dict[str, float]) -> float:
    norm = _norm(a.values()) * _norm(b.values())
    return math.fsum(value * b[f] for f, value in a.items() if f in b) / norm if norm else 0.0


def _norm(values: Iterable[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values))


def word_distance(before: str, after: str) -> int:
    """Return how many words must be put in, taken out or replaced to turn one text into the other (Levenshtein)."""
    old, new = before.split(), after.split()
    row = list(range(len(new) + 1))
    for i, word in enumerate(old, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(new, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1]

"""How alike prompts are; all numbers are worked out by hand."""

import math

import pytest

from greater_ray.likeness import character_grams
from greater_ray.methods._similarity import tf_idf, word_distance, word_overlap


def test_character_grams_stay_within_words_and_mark_their_ends():
    assert character_grams("Ab c") == [" ab", "ab ", " ab ", " c "]


def test_tf_idf_is_a_cosine_over_words_and_character_grams():
    # Of two texts, "a" is in both: weight ln(3/3) + 1 = 1. "b" and "c" are in one: ln(3/2) + 1. The only character
    # gram of a one-letter word stands for the word itself, so both cosines are 1 / (1 + (ln 1.5 + 1)^2).
    assert tf_idf("a b", ["a c"]) == pytest.approx([1 / (1 + (math.log(1.5) + 1) ** 2)])
    assert tf_idf("a b", ["a c"]) == pytest.approx([0.336097], abs=1e-6)


def test_tf_idf_of_the_same_words_is_one_and_of_nothing_shared_zero():
    same, other = tf_idf("Think step by step.", ["think step by step", "vwx"])
    assert (same, other) == (pytest.approx(1.0), 0.0)


def test_tf_idf_counts_inflected_words_as_alike_where_word_overlap_does_not():
    related, unrelated = tf_idf("checking answers", ["check the answer", "name every fruit"])
    assert related > unrelated
    assert word_overlap("checking answers", ["check the answer"]) == [0.0]


def test_word_overlap_is_shared_words_over_all_words():
    assert word_overlap("a b c", ["b c d", "A B C", "x", "!"]) == [2 / 4, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("measure", [tf_idf, word_overlap])
def test_texts_without_words_are_like_nothing(measure):
    assert measure("...", ["...", "a"]) == [0.0, 0.0]
    assert measure("a", []) == []


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ("think step by step", "think step by step", 0),
        ("think step by step", "think slowly step by step", 1),
        ("think step by step", "step by step", 1),
        ("a b c", "a c d", 2),
        ("a b c", "c b a", 2),
        ("", "a b", 2),
        ("a b", "", 2),
    ],
)
def test_word_distance_counts_words_put_in_taken_out_or_replaced(before: str, after: str, distance: int):
    assert word_distance(before, after) == distance

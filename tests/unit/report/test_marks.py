"""Marks tell the whole truth: without what is gone they are the new text, without what is new the old one."""

from hypothesis import given
from hypothesis import strategies as st

from greater_ray.report.marks import Part, token_change, word_changes

TEXTS = st.text(alphabet="ab .\n", max_size=30)


def _texts(parts: list[Part]) -> tuple[str, str]:
    return "".join(t for k, t in parts if k != "+"), "".join(t for k, t in parts if k != "-")


@given(TEXTS, TEXTS)
def test_words_that_changed_leave_both_texts_whole(old: str, new: str):
    assert _texts(word_changes(old, new)) == (old, new)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_changed_token_leaves_both_texts_whole(front: str, gone: str, token: str, rest: str):
    old, new = front + gone + rest, front + token + rest
    assert _texts(token_change(old, new, token)) == (old, new)


def test_a_token_is_marked_as_a_whole_though_it_shares_letters_with_the_old_one():
    parts = token_change("Use a double step", "Use a doubled step", " doubled")
    assert parts == [("=", "Use a"), ("-", " double"), ("+", " doubled"), ("=", " step")]
    assert token_change("one two", "one two three", " three") == [("=", "one two"), ("+", " three")]
    assert token_change("one one", "one one one", " one")[-1][0] == "+", "an appended token, not one before it"


def test_words_are_marked_one_by_one():
    parts = word_changes("Think step by step.", "Think slowly, step by step.")
    assert ("+", " slowly,") in parts
    assert not any(kind == "-" for kind, _ in parts)


def test_words_that_changed_side_by_side_are_one_change_and_another_text_is_marked_whole():
    parts = word_changes("Work through the long list now.", "Work through every short list now.")
    assert parts == [("=", "Work through "), ("-", "the long"), ("+", "every short"), ("=", " list now.")]
    old, new = "Let's think step by step.", "I'm ready to help. What's your question?"
    assert word_changes(old, new) == [("-", old), ("+", new)]


def test_very_long_texts_are_compared_as_wholes():
    old, new = "word " * 3000, "other " * 3000
    assert word_changes(old, new) == [("-", old), ("+", new)]

"""Readers: what models really write, and what must be read from it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greater_ray.tasks._forms import AnswerForm, default_form, letter_form
from greater_ray.tasks._numbers import canonical_number

LETTERS = letter_form(5)
MANY = letter_form(18)
BOOLEAN = default_form("boolean")
YES_NO = default_form("yes-no")
VALIDITY = default_form("valid-invalid")
NUMBER = default_form("number")
TEXT = default_form("text")

FIRST_LETTER = [
    ("B", "B"),
    (" B", "B"),
    ("B)", "B"),
    ("(B)", "B"),
    ("B) because (A) is wrong", "B"),
    ("$B$", "B"),
    ("B$.", "B"),
    ("**B**", "B"),
    ("\n\n(C).", "C"),
    ("The answer is B", "B"),
    ("The correct option is (D), not (A)", "D"),
    ("Answer: C", "C"),
    ("**Answer:** C", "C"),
    ("\\boxed{D}", "D"),
    ("\\text{(E)}", "E"),
    ("[C]", "C"),
    ("Option C.", "C"),
    ("answer is b", "B"),
    ("b)", "B"),
    ("b", "B"),
    ("(c)", "C"),
    ("A", "A"),
    ("A.", "A"),
    ("A: the first one", "A"),
    ("A is correct", "A"),
    ("A because it fits", "A"),
    ("A good answer is (B)", "B"),
    ("A careful reading gives C", "C"),
    ("I think the answer is D", "D"),
    ("I'd say D", "D"),
    ("Let's see: E", "E"),
    ("Alice got (B)", "B"),
    ("D\nQ: next question", "D"),
    ("A and B", "A"),
    ("G", None),
    ("(Z) or (A)", None),
    ("none of the above", None),
    ("The answers are clear", None),
    ("A person", None),
    ("", None),
    ("   ", None),
    ("???", None),
    ("12", None),
]


@pytest.mark.parametrize(("text", "letter"), FIRST_LETTER)
def test_the_letter_of_an_answer_is_read_past_its_clothes(text: str, letter: str | None) -> None:
    assert LETTERS.read(text) == letter


@pytest.mark.parametrize(("text", "letter"), [("I", "I"), ("I is right", "I"), ("(I)", "I"), ("I think (K)", "K")])
def test_the_pronoun_is_not_an_option_but_the_letter_i_is(text: str, letter: str) -> None:
    assert MANY.read(text) == letter


LAST_LETTER = [
    ("(A) is wrong, so it is (B).", "B"),
    ("The answer is \\boxed{C}", "C"),
    ("(A) no, (B) no, therefore ($D$)", "D"),
    ("so the answer is B", None),
    ("(Z)", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "letter"), LAST_LETTER)
def test_the_strict_letter_is_the_last_in_brackets(text: str, letter: str | None) -> None:
    assert LETTERS.read_last(text) == letter


FIRST_WORD = [
    (YES_NO, "Yes", "Yes"),
    (YES_NO, " yes.", "Yes"),
    (YES_NO, "**No**", "No"),
    (YES_NO, "NO, because", "No"),
    (YES_NO, "$ Yes$", "Yes"),
    (YES_NO, "_no_", "No"),
    (YES_NO, "I know that yes", "Yes"),
    (YES_NO, "Yesterday", None),
    (YES_NO, "not sure", None),
    (YES_NO, "", None),
    (BOOLEAN, "True", "True"),
    (BOOLEAN, "false.", "False"),
    (BOOLEAN, "`FALSE`", "False"),
    (BOOLEAN, "not True", "False"),
    (BOOLEAN, "not not True", "True"),
    (BOOLEAN, "untrue", None),
    (VALIDITY, "valid", "valid"),
    (VALIDITY, "Invalid.", "invalid"),
    (VALIDITY, "the argument is not valid", "invalid"),
    (VALIDITY, "isn't deductively valid", "invalid"),
    (VALIDITY, "not a valid argument", "invalid"),
    (VALIDITY, "validity", None),
]


@pytest.mark.parametrize(("form", "text", "word"), FIRST_WORD)
def test_the_first_whole_word_of_an_answer_is_read(form: AnswerForm, text: str, word: str | None) -> None:
    assert form.read(text) == word


@pytest.mark.parametrize(
    ("form", "text", "word"),
    [
        (YES_NO, "Yes? At first, but then: No", "No"),
        (BOOLEAN, "not True = False, so False or True is True.", "True"),
        (VALIDITY, "It looks valid; it is invalid", "invalid"),
        (VALIDITY, "", None),
    ],
)
def test_the_strict_word_is_the_last_one(form: AnswerForm, text: str, word: str | None) -> None:
    assert form.read_last(text) == word


FIRST_NUMBER = [
    ("24", "24"),
    ("12.", "12"),
    ("$12.50,", "12.5"),
    ("12$", "12"),
    ("**12**", "12"),
    ("−5", "-5"),
    ("–5", "-5"),
    ("-5", "-5"),
    ("- 5", "-5"),
    ("$-5$", "-5"),
    ("-$5", "-5"),
    ("-\\$1,234.50", "-1234.5"),
    ("negative 7", "-7"),
    ("+7", "7"),
    ("1,234", "1234"),
    ("1,234,567 people", "1234567"),
    ("1{,}234", "1234"),
    ("1\u202f234", "1234"),
    ("12, 13", "12"),
    ("(24)", "24"),
    ("= 24", "24"),
    ("24 apples", "24"),
    ("3.0", "3"),
    ("007", "7"),
    (".5", "0.5"),
    ("50%", "50"),
    ("€30", "30"),
    ("5 + 3 = 8 apples", "8"),
    ("is 16 - 3 - 4 = 9", "9"),
    ("(2 + 3) * 4 = 20", "20"),
    ("1 + 1 = 2 + 0 = 2", "2"),
    ("5 + 3 = ", "5"),
    ("24 = 4 * 6", "24"),
    ("x = 24", "24"),
    ("10-12", "10"),
    ("24.\n\nQ: 5 + 5 = 10", "24"),
    ("\\boxed{42}", "42"),
    ("twenty-four", "24"),
    ("Seven musical instruments", "7"),
    ("sixty", "60"),
    ("seventeen", "17"),
    ("none", None),
    ("often", None),
    ("", None),
    ("-", None),
]


@pytest.mark.parametrize(("text", "number"), FIRST_NUMBER)
def test_the_first_signed_number_of_an_answer_is_read(text: str, number: str | None) -> None:
    assert NUMBER.read(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16 - 3 = 13, and 13 * 2 = 26.", "26"),
        ("so it is 16-3", "3"),
        ("total: -1,080.00", "-1080"),
        ("eight", "8"),
        ("", None),
    ],
)
def test_the_strict_number_is_the_last_one_in_digits(text: str, number: str | None) -> None:
    assert NUMBER.read_last(text) == number


@pytest.mark.parametrize(
    ("text", "gold", "correct"),
    [
        ("] ] >", "]]>", True),
        (" ]]>", "] ] >", True),
        ("] ]", "] ] >", False),
        ("Alpha, beta, gamma.", "alpha beta gamma", True),
        ("`alpha beta`\nmore", "alpha beta", True),
        ("beta alpha", "alpha beta", False),
        ("", "alpha", False),
    ],
)
def test_free_text_is_compared_without_case_commas_and_quotes(text: str, gold: str, correct: bool) -> None:
    assert bool(TEXT.score(TEXT.read(text), gold)) is correct


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("First this.\nThe answer is: alpha beta", "alpha beta"),
        ("alpha\nbeta", "beta"),
        ("\n", None),
    ],
)
def test_strict_free_text_follows_the_last_marker_or_is_the_last_line(text: str, answer: str | None) -> None:
    assert TEXT.read_last(text) == answer


@pytest.mark.parametrize(
    ("form", "target", "label"),
    [
        (LETTERS, "(B)", "B"),
        (LETTERS, "b", "B"),
        (LETTERS, "(F)", None),
        (LETTERS, "Some Film", None),
        (YES_NO, "yes", "Yes"),
        (YES_NO, "maybe", None),
        (NUMBER, "1,080", "1080"),
        (NUMBER, "−3", "-3"),
        (NUMBER, "$5", "5"),
        (NUMBER, "3 apples", None),
        (TEXT, " a b ", "a b"),
        (TEXT, " ", None),
    ],
)
def test_a_gold_answer_becomes_the_label_that_is_scored(form: AnswerForm, target: str, label: str | None) -> None:
    assert form.label(target) == label


ALL_FORMS = [LETTERS, MANY, BOOLEAN, YES_NO, VALIDITY, NUMBER, TEXT]
UGLY = st.one_of(st.text(), st.text(alphabet="ABIab()[]{}$*\\ \n=-−–+,.0123456789notyestrue'’"))


@given(UGLY)
def test_no_text_makes_a_reader_raise(text: str) -> None:
    for form in ALL_FORMS:
        for answer in (form.read(text), form.read_last(text), form.label(text)):
            assert answer is None or isinstance(answer, str)


@given(st.sampled_from(ALL_FORMS), UGLY)
def test_what_is_read_is_an_answer_of_the_form(form: AnswerForm, text: str) -> None:
    for answer in (form.read(text), form.read_last(text)):
        assert answer is None or form.label(answer) is not None


@given(st.integers(), st.sampled_from(["", " ", "$", "**", "= ", "("]), st.sampled_from(["", ".", " apples", "$", ")"]))
def test_any_integer_is_read_back_however_it_is_dressed(value: int, before: str, after: str) -> None:
    assert NUMBER.read(f"{before}{value}{after}") == str(value)
    assert NUMBER.read(f"{before}{value:,}{after}") == str(value)


@pytest.mark.parametrize("text", ["ye\u017f", "\u0131nvalid", "f\u0131ve", "\u017fix", "fal\u017fe"])
def test_letters_that_only_fold_to_english_ones_are_no_answer(text: str) -> None:
    assert [form.read(text) for form in (BOOLEAN, YES_NO, VALIDITY, NUMBER)] == [None] * 4


@pytest.mark.parametrize("piece", ["not ", "n't ", "not a ", "(", "1,", "1+1=", "A ", "answer ", "{*", " "])
def test_a_model_that_loops_is_read_in_no_time(piece: str) -> None:
    text = piece * 5000
    start = time.monotonic()
    for form in ALL_FORMS:
        form.read(text)
        form.read_last(text)
    assert time.monotonic() - start < 5


def test_numbers_longer_than_an_int_may_be_are_read() -> None:
    digits = "9" * 6000
    assert NUMBER.read(digits) == digits
    assert canonical_number("-0.00") == "0"

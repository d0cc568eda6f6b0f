"""Closed sets of labels: reading them past what models write around them, and telling them apart."""

import time

import pytest

from greater_ray.tasks._forms import AnswerForm, default_form, letter_form

TEAMS = AnswerForm("choice", ("account access", "billing", "returns", "shipping", "technical", "technical support"))
SPAM = AnswerForm("choice", ("not spam", "spam"))
LANGUAGES = AnswerForm("choice", ("C", "C#", "C++", "Java"))
MOOD = AnswerForm("choice", ("negative", "positive"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("billing", "billing"),
        (" Billing.", "billing"),
        ("BILLING", "billing"),
        ("**billing**", "billing"),
        ("'billing'", "billing"),
        ("“Billing”", "billing"),
        ("$\\text{billing}$", "billing"),
        ("\\boxed{Account Access}", "account access"),
        ("It is billing.", "billing"),
        ("the billing team, not shipping", "billing"),
        ("account-access", "account access"),
        ("account_access", "account access"),
        ("Account\naccess", None),
        ("Ｂｉｌｌｉｎｇ", "billing"),
        ("technical support", "technical support"),
        ("technical", "technical"),
        ("technical, then support", "technical"),
        ("not billing but shipping", "shipping"),
        ("It isn't a billing matter; it is shipping.", "shipping"),
        ("rather than billing, returns", "returns"),
        ("neither billing nor shipping: returns", "returns"),
        ("not only billing", "billing"),
        ("not billing", None),
        ("the team that handles bills", None),
        ("rebilling", None),
        ("billings", None),
        ("", None),
        ("???", None),
    ],
)
def test_the_first_label_of_an_answer_is_read(text: str, label: str | None) -> None:
    assert TEAMS.read(text) == label


@pytest.mark.parametrize(
    ("form", "text", "label"),
    [
        (SPAM, "This is not spam.", "not spam"),
        (SPAM, "spam", "spam"),
        (SPAM, "It is not a spam mail", "not spam"),
        (MOOD, "The review is not positive", "negative"),
        (MOOD, "not very positive", "negative"),
        (MOOD, "I don't think it is negative", "positive"),
        (LANGUAGES, "It is written in C++.", "C++"),
        (LANGUAGES, "C", "C"),
        (LANGUAGES, "c#", "C#"),
        (LANGUAGES, "Java, not C", "Java"),
        (LANGUAGES, "JavaScript", None),
        (AnswerForm("choice", ("<5", ">5")), "> 5 or >5", ">5"),
        (AnswerForm("choice", ("*", "+", "-")), "+", "+"),
        (AnswerForm("choice", ("größer", "kleiner")), "GRÖSSER als", None),
        (AnswerForm("choice", ("größer", "kleiner")), "Größer", "größer"),
        (AnswerForm("choice", ("正面", "负面")), "正面。", "正面"),
    ],
)
def test_labels_of_two_and_labels_of_marks_are_told_apart(form: AnswerForm, text: str, label: str | None) -> None:
    assert form.read(text) == label


def test_free_reasoning_is_read_by_its_last_label() -> None:
    text = "It could be billing. The card was charged, but the parcel is missing, so it is **shipping**, not returns."
    assert TEAMS.read(text) == "billing"
    assert TEAMS.read_last(text) == "shipping"


@pytest.mark.parametrize(
    ("answer_type", "text", "label"),
    [
        ("valid-invalid", "The argument is **not** valid.", "invalid"),
        ("valid-invalid", "is \\emph{not} valid", "invalid"),
        ("valid-invalid", "not, of course, valid", "invalid"),
        ("valid-invalid", "non-valid", "invalid"),
        ("valid-invalid", "It is never necessarily valid", "invalid"),
        ("valid-invalid", "It cannot be called valid", "invalid"),
        ("valid-invalid", "does not look valid", "invalid"),
        ("valid-invalid", "not invalid", "valid"),
        ("valid-invalid", "I am not sure, but valid", "valid"),
        ("boolean", "neither True nor False", None),
        ("boolean", "far from true", "False"),
        ("boolean", "T", "True"),
        ("boolean", "F.", "False"),
        ("boolean", "don't", None),
        ("yes-no", "No doubt about it: yes", "Yes"),
        ("yes-no", "No problem", "No"),
        ("yes-no", "No, it does not", "No"),
        ("yes-no", "No it does not. Yes it does.", "No"),
        ("yes-no", "y", "Yes"),
    ],
)
def test_word_pairs_are_read_past_denials_and_other_uses(answer_type, text: str, label: str | None) -> None:
    assert default_form(answer_type).read(text) == label


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("not A, but B", "B"),
        ("B, not C", "B"),
        ("A is wrong, so it must be C", "C"),
        ("(A) is not correct; (D)", "D"),
        ("(A) is not wrong", "A"),
        ("rather than (B), option (E)", "E"),
        ("It isn't B", None),
    ],
)
def test_letters_that_are_denied_do_not_count(text: str, letter: str | None) -> None:
    assert letter_form(5).read(text) == letter


@pytest.mark.parametrize("piece", ["not ", "billing ", "neither ", "no ", "account ", "not really ", "\\text{"])
def test_a_model_that_loops_is_read_in_no_time(piece: str) -> None:
    start = time.monotonic()
    for form in (TEAMS, SPAM, LANGUAGES, letter_form(26), default_form("yes-no")):
        form.read(piece * 5000)
        form.read_last(piece * 5000)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("target", "label"),
    [("Billing", "billing"), (" account  access ", "account access"), ("legal", None), ("billing.", None)],
)
def test_a_gold_label_is_one_of_the_choices_but_for_case_and_blanks(target: str, label: str | None) -> None:
    assert TEAMS.label(target) == label

"""Numbers as data sets and models write them."""

import pytest

from greater_ray.tasks._numbers import equal_numbers, gold_number, last_number, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("\\frac{1}{2}", "0.5"),
        ("\\dfrac34", "0.75"),
        ("-\\frac{1}{3}", "-1/3"),
        ("2\\frac{1}{2}", "2.5"),
        ("6/4", "1.5"),
        ("1 1/2 cups", "1.5"),
        ("½", "0.5"),
        ("on 3/4/2020", "3"),
        ("1e3", "1000"),
        ("2.5e-1", "0.25"),
        ("1.5 \\times 10^{3}", "1500"),
        ("10^6", "1000000"),
        ("5 eggs", "5"),
        ("3x4=12", "12"),
        ("5 \\times 3 = 15", "15"),
        ("12 \\div 4 = 3", "3"),
        ("5 apples + 3 apples = 8 apples", "8"),
        ("$20 - $5 = $15", "15"),
        ("3 + 4 equals 7", "7"),
        ("3 + 4 is equal to 7", "7"),
        ("one hundred and twenty", "120"),
        ("two thousand five hundred and six", "2506"),
        ("three million", "3000000"),
        ("a dozen", "12"),
        ("two dozen eggs", "24"),
        ("half a dozen", "6"),
        ("minus five", "-5"),
        ("1 000", "1000"),
        ("1 234 567", "1234567"),
        ("12,34,567", "1234567"),
        ("1'000", "1000"),
        ("1,2,3", "1"),
        ("１２", "12"),
        ("٣", "3"),
        ("५०", "50"),
        ("5²", "5"),
        ("H2O: 7 molecules", "7"),
        ("room B12", "12"),
        ("In 1998 there were none; the answer is 12.", "12"),
        ("There are 3 cats and 4 dogs. Answer: 7", "7"),
        ("12 is the answer, not 13", "12"),
        ("x\n#### 1,000", "1000"),
        ("€1.50", "1.5"),
        ("45%", "45"),
        ("2/0", None),
        ("no digits", None),
    ],
)
def test_the_number_of_an_answer_is_read_in_every_dress(text: str, number: str | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(("text", "number"), [("first 1/2, then 3/4", "0.75"), ("7 of 10^2", "100"), ("eight", "8")])
def test_the_last_number_of_the_reasoning_is_read_alike(text: str, number: str) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("gold", "number"),
    [
        ("He has 3+4=<<3+4=7>>7\n#### 7", "7"),
        ("$1,234.50", "1234.5"),
        ("\\boxed{12}", "12"),
        ("$\\frac{1}{3}$", "1/3"),
        ("1e-05", "0.00001"),
        ("1e+16", "10000000000000000"),
        ("50 %", "50"),
        ("- 3", "-3"),
        ("12.", "12"),
        ("12 apples", None),
        ("1.1.1", None),
        ("3/4/2020", None),
        ("", None),
    ],
)
def test_a_gold_number_is_nothing_but_a_number(gold: str, number: str | None) -> None:
    assert gold_number(gold) == number


@pytest.mark.parametrize(
    ("first", "second", "tolerance", "equal"),
    [
        ("0.333", "1/3", 0.0, False),
        ("0.333", "1/3", 0.001, True),
        ("1010", "1000", 0.01, True),
        ("1011", "1000", 0.01, False),
        ("-5", "5", 0.1, False),
        ("9" * 400, "1", 0.1, False),
    ],
)
def test_a_tolerance_is_absolute_below_one_and_relative_above(first, second, tolerance, equal: bool) -> None:
    assert equal_numbers(first, second, tolerance) is equal

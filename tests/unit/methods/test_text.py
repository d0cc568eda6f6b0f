"""What becomes of a reply: what is taken off, and which prompts are refused for which reason."""

import pytest

from greater_ray.methods._proposals import clean, propose
from greater_ray.protocols import Problem
from greater_ray.types import Example
from tests.letters import LetterModel

PLAIN = "Think it over."
TRAIN = (Example("r0", "question?", "Yes", "Yes"),)


def status(text: str, *golds: tuple[str, str]) -> str:
    """Judge one prompt; ``golds`` are (target, label) of the train rows, the last one is that of a dev row."""
    rows = [Example(f"r{k}", f"question {k}?", *gold) for k, gold in enumerate(golds)]
    problem = Problem(tuple(rows[:-1]), LetterModel(), 0, dev=tuple(rows[-1:]))
    return propose(problem, [text], known=[], max_prompt_tokens=300)[0].status


# -- what is taken off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        "```\n{}\n```",
        "```text\n{}\n```",
        '"{}"',
        "'{}'",
        "`{}`",
        "**{}**",
        "“{}”",
        "‘{}’",
        "- {}",
        "1. {}",
        "assistant\n{}",
        "Prompt: {}",
        "The new prompt: {}",
        "**Improved instruction:** {}",
        "### Prompt\n{}",
        "## New prompt:\n\n{}",
        "# **The Final Prompt**\n{}",
        "Here is the new prompt:\n{}",
        "Here's an improved instruction: {}",
        "Here’s a better prompt that fits all questions:\n\n{}",
        "Sure, here is the revised prompt:\n“{}”",
        '### Prompt\nSure! Here is the prompt:\n```\n1. "{}"\n```',
    ],
)
def test_what_is_around_a_prompt_is_taken_off(around: str):
    assert clean(around.format(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "1. Read the question.\n2. Answer it.",
        "- Read.\n\n  - Answer.",
        '"Yes" or "No"',
        "'Yes' or 'No'",
        "“Yes” or “No”",
        "‘Yes’ or ‘No’",
        "`a` and `b`",
        "### Steps\nThink.",
        "Here is a question: read it twice.",
        "Prompt action is needed: think.",
        "This # is no heading",
    ],
)
def test_what_belongs_to_a_prompt_stays(text: str):
    assert clean(text) == text


def test_an_apostrophe_inside_a_word_is_no_quote_mark():
    assert clean("'Let's think.'") == "Let's think."
    assert clean("‘Let’s think.’") == "Let’s think."


def test_a_numbered_list_keeps_its_first_number_after_a_preface():
    assert clean("Here is the new prompt:\n1. Read.\n2. Answer.") == "1. Read.\n2. Answer."


def test_of_a_preface_alone_nothing_is_left():
    assert clean("Here is the new prompt:") == ""
    assert status("Here is the new prompt:", ("Yes", "Yes")) == "empty"


# -- length -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "limit", "expected"), [(None, 6, "new"), (6, 9, "new"), (5, 9, "too long"), (9, 5, "too long")]
)
def test_a_prompt_must_keep_to_its_limit_and_leave_room_in_the_context_window(
    room: int | None, limit: int, expected: str
):
    # A token is a letter, and the blank before the prompt is one.
    problem = Problem(TRAIN, LetterModel(room=room), 0)
    (proposal,) = propose(problem, ["Think"], known=[], max_prompt_tokens=limit)
    assert proposal.status == expected


# -- slots, tags and markup --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slot",
    [
        "[Insert source text]",
        "[insert a text, or two]",
        "[Your answer]",
        "[your name]",
        "[NAME]",
        "[source text]",
        "[the model's answer]",
        "{}",
        "{question}",
        "{Question}",
        "{your answer}",
        "{{INPUT_1}}",
        "<answer>",
        "</Prompt>",
        "<your answer>",
        "<|im_end|>",
        "<|eot_id|>",
        "<｜end▁of▁sentence｜>",
        "<start_of_turn>",
        "<s>",
        "</s>",
        "<<SYS>>",
        "[INST]",
        "[/INST]",
        "[/inst]",
    ],
)
def test_a_slot_or_the_markup_of_a_chat_is_refused(slot: str):
    assert status(f"Think of {slot} first.", ("Yes", "Yes")) == "unfilled slot or tag"


@pytest.mark.parametrize(
    "text",
    [
        "[A]",
        "[1]",
        "[1, 2]",
        "[A, B, C]",
        "[True, False]",
        "[...]",
        "{1}",
        "{1, 2}",
        "a < b and c > d",
        "x<5, y>3",
        "[]",
    ],
)
def test_letters_numbers_and_lists_in_brackets_are_no_slots(text: str):
    assert status(f"Think of {text} first.", ("Yes", "Yes")) == "new"


# -- answers that are given away ---------------------------------------------------------------------------------------

GOLDS = (("True", "True"), ("False", "False"), ("(A)", "A"), ("42", "42"), ("3.5 * [x", "3.5 * [x"))


@pytest.mark.parametrize(
    "text",
    [
        "The answer is True.",
        "Remember that the answer is true",
        "The answer is: True! Now think.",
        "answer: 42",
        "Final Answer: 42\nThink.",
        "Answer = 42.",
        'The answer is "False."',
        "The answer is “False”.",
        "The answer is **True**.",
        "the answer is (A).",
        "the answer is A.",
        "The answer is [42].",
        "The answer is 3.5 * [x.",
    ],
)
def test_a_prompt_that_announces_a_gold_answer_is_a_leak(text: str):
    assert status(text, *GOLDS) == "leak"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is True or False.",
        "The answer is (A), (B) or (C).",
        "The answer is A or B",
        "The answer is 42.5.",
        "The answer is 421.",
        "The answer is Truely hidden.",
        "The answer is never obvious.",
        "True. The answer is short.",
        "Answers: 42",
        "The answer is (B).",
        "The answer is 3x5 * [x.",
    ],
)
def test_naming_choices_or_something_else_is_no_leak(text: str):
    assert status(text, *GOLDS) == "new"


def test_the_gold_answer_of_a_train_row_and_of_a_dev_row_count_and_rows_without_one_do_not():
    assert status("The answer is blue.", ("red", "red"), ("blue", "blue")) == "leak"
    assert status("The answer is red.", ("red", "red"), ("blue", "blue")) == "leak"
    assert status("The answer is.", ("", ""), (" ", "")) == "new"

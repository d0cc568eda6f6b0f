"""What GEPA's reflection asks the writer, in this project's own words."""

from collections.abc import Sequence

from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._rounds import cut
from greater_ray.methods._writer import chat
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

MAX_WORDS = 200

SITUATION = "A language model answers questions. After each question it reads this instruction:"
SITUATION_FIRST = "A language model answers questions. Before each question it reads this instruction:"
CASES = "These questions were put to it, and this is what it made of them."
REFLECT = (
    "Work out from the questions what kind of task this is and what an answer has to look like. Collect whatever "
    "knowledge about the subject the comments contain, because the model will not see them again, and whatever way of "
    "proceeding has worked. Then write a new instruction that holds all of this and helps with further questions of "
    "the same kind."
)
FORMAT = f"Put the new instruction alone between {START_TAG} and {END_TAG}."
# What must not come back as a prompt.
WORDING = "\n".join((SITUATION, SITUATION_FIRST, CASES, REFLECT, FORMAT))


def reflect(prompt: str, cases: Sequence[tuple[Example, ExampleRecord]], prompt_first: bool = False) -> Conversation:
    """Ask for a better prompt after some answers and comments on them."""
    shown = [
        f"Question {number}:\n{example.question}\n\nThe model's reply:\n"
        f"{cut(record.reasoning_text.strip(), MAX_WORDS)}\nIts answer: {record.answer_text.strip()}\n\n"
        f"Comment: {comment(example, record)}"
        for number, (example, record) in enumerate(cases, 1)
    ]
    situation = SITUATION_FIRST if prompt_first else SITUATION
    return chat("\n\n".join([situation, prompt, CASES, *shown, REFLECT, FORMAT]))


def comment(example: Example, record: ExampleRecord) -> str:
    """Say whether an answer was right, and what would have been."""
    if record.correct:
        return "That is right."
    if record.score:
        return f"That is partly right: {record.score:.2f} of 1. The right answer is {example.target}."
    unread = " No answer could be read from the reply." if record.prediction is None else ""
    return f"That is wrong. The right answer is {example.target}.{unread}"

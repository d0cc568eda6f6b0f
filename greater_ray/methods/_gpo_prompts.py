"""What GPO asks the writer, in our own words: the refinement, the merging of two prompts and the feedback."""

from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.methods._archive import Scored
from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._rounds import cut
from greater_ray.methods._writer import chat, placed
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

# Stands where the prompt goes; a reply that repeats it is refused as an unfilled tag.
SLOT = "<SLOT>"
FEEDBACK_TAGS = ("<reason>", "</reason>")

TASK = f"Find a text for {SLOT} that makes a language model answer the questions of one task correctly."
SCALE = "is the share of questions answered correctly, on a scale from 0 to 100, so higher is better."
HISTORY = f"These texts were used for it before. The number with each {SCALE}"
MERGED = "This text was merged from those that were used for it so far:"
CURRENT = "The text in use now:"
SCORED = f"A score {SCALE}"
REASONS = "Why texts in use before led to wrong answers:"
REASON = "Why the text in use now led to wrong answers:"
EXEMPLARS = (
    f"A few questions of the task, with {SLOT} in its place and the answer that counts as right. Whatever else the "
    "model says, only an answer that agrees with it is right."
)
AFTER, BEFORE = "which stands after the question.", "which stands before the question."
GENERATE = f"Study how the earlier texts and their scores relate, and write a new and better text for {SLOT}, {AFTER}"
EDIT = (
    f"Study how the earlier texts and their scores relate, and edit the text in use now, so that it becomes a better "
    f"one for {SLOT}, {AFTER}"
)
FORMAT = f"Put the new text, and nothing else, between {START_TAG} and {END_TAG}."
MERGE = (
    "Two prompts for a language model are given with their scores. Merge them into one new prompt that keeps what "
    f"makes each of them work. A score {SCALE} Put the new prompt, and nothing else, between {START_TAG} and {END_TAG}."
)
EXPLAIN = (
    "A language model used the prompt below and gave wrong answers to the questions that follow. Say in one short "
    f"paragraph what about the prompt explains the mistakes. Put it between {FEEDBACK_TAGS[0]} and {FEEDBACK_TAGS[1]}."
)
# What must not come back as a prompt.
WORDING = "\n".join((TASK, HISTORY, MERGED, CURRENT, SCORED, REASONS, REASON, EXEMPLARS, GENERATE, EDIT, FORMAT, MERGE))


class Momentum(NamedTuple):
    """What a step is told besides the current prompt.

    Earlier prompts, or one that was ``merged`` from them; reasons for earlier mistakes, and the one for those of now.
    """

    past: tuple[Scored, ...] = ()
    merged: Scored | None = None
    reasons: tuple[str, ...] = ()
    reason: str = ""


def percent(score: float) -> str:
    """Return a share as a number from 0 to 100."""
    return f"{100 * score:.1f}".removesuffix(".0")


def edit_limit(words: int) -> str:
    """Return the line that limits the change."""
    return f"Change at most {words} {'word' if words == 1 else 'words'} of the text in use now."


def refine(
    current: Scored,
    momentum: Momentum,
    rows: Sequence[Example],
    limit: int | None,
    *,
    edit: bool,
    prompt_first: bool = False,
) -> Conversation:
    """Ask for the next prompt (the paper's generation-based or editing-based refinement)."""
    request = EDIT if edit else GENERATE
    parts = [TASK]
    if momentum.past:
        parts.append(HISTORY)
        parts.extend(f"Text: {_scored(past)}" for past in momentum.past)
    if momentum.merged is not None:
        parts.append(f"{MERGED}\n{_scored(momentum.merged)}")
    if momentum.past:
        parts.append(f"{CURRENT}\n{current.text}")
    else:
        parts += [f"{CURRENT}\n{_scored(current)}", SCORED]
    if momentum.reasons:
        parts.append("\n".join([REASONS, *(f"- {reason}" for reason in momentum.reasons)]))
    if momentum.reason:
        parts.append(f"{REASON}\n{momentum.reason}")
    if rows:
        parts.append(EXEMPLARS)
        parts.extend(f"{placed(row.question, SLOT, prompt_first)}\nRight answer: {row.target}" for row in rows)
    parts.append(request.replace(AFTER, BEFORE) if prompt_first else request)
    if limit is not None:
        parts.append(edit_limit(limit))
    return chat("\n\n".join([*parts, FORMAT]))


def merge(earlier: Scored, current: Scored) -> Conversation:
    """Ask for one prompt made of two scored ones (the paper's momentum by summarization)."""
    return chat(f"{MERGE}\n\nPrompt 1:\n{_scored(earlier)}\n\nPrompt 2:\n{_scored(current)}")


def _scored(prompt: Scored) -> str:
    return f"{prompt.text}\nScore: {percent(prompt.score)}"


def explain(current: Scored, mistakes: Sequence[tuple[Example, ExampleRecord]], max_words: int) -> Conversation:
    """Ask why the current prompt led to mistakes (the feedback gradient of the paper's ablation)."""
    cases = [
        f"Question: {example.question}\nResponse: {cut(record.reasoning_text.strip(), max_words)}\n"
        f"Final answer: {record.answer_text.strip()}\nRight answer: {example.target}"
        for example, record in mistakes
    ]
    return chat("\n\n".join([EXPLAIN, f"Prompt:\n{current.text}", *cases]))

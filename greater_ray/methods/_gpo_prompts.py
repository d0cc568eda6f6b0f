"""What GPO asks the writer, in our own words: the refinement, the summary and the feedback."""

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
SUMMARY_TAGS = ("<summary>", "</summary>")
FEEDBACK_TAGS = ("<reason>", "</reason>")

TASK = f"Find a text for {SLOT} that makes a language model answer the questions of one task correctly."
HISTORY = (
    "These texts were used for it before. The number with each is the share of questions answered correctly, on a "
    "scale from 0 to 100, so higher is better."
)
SUMMARIZED = "What the search has shown so far, summed up:"
CURRENT = "The text in use now:"
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
SUMMARIZE = (
    "A prompt for a language model is being improved over many rounds. Merge the summary of the rounds before with "
    "the prompt of this round and its score (0 to 100, higher is better) into one new summary: which wording helped, "
    f"which did not, and where to go. At most five sentences, between {SUMMARY_TAGS[0]} and {SUMMARY_TAGS[1]}."
)
EXPLAIN = (
    "A language model used the prompt below and gave wrong answers to the questions that follow. Say in one short "
    f"paragraph what about the prompt explains the mistakes. Put it between {FEEDBACK_TAGS[0]} and {FEEDBACK_TAGS[1]}."
)
# What must not come back as a prompt.
WORDING = "\n".join((TASK, HISTORY, SUMMARIZED, CURRENT, REASON, EXEMPLARS, GENERATE, EDIT, FORMAT))


class Momentum(NamedTuple):
    """What a step is told besides the current prompt: earlier prompts, or a summary, and a reason for mistakes."""

    past: tuple[Scored, ...] = ()
    summary: str = ""
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
        parts.extend(f"Text: {past.text}\nScore: {percent(past.score)}" for past in momentum.past)
    if momentum.summary:
        parts.append(f"{SUMMARIZED}\n{momentum.summary}")
    parts.append(f"{CURRENT}\n{current.text}")
    if momentum.reason:
        parts.append(f"{REASON}\n{momentum.reason}")
    if rows:
        parts.append(EXEMPLARS)
        parts.extend(f"{placed(row.question, SLOT, prompt_first)}\nRight answer: {row.target}" for row in rows)
    parts.append(request.replace(AFTER, BEFORE) if prompt_first else request)
    if limit is not None:
        parts.append(edit_limit(limit))
    return chat("\n\n".join([*parts, FORMAT]))


def summarize(summary: str, current: Scored) -> Conversation:
    """Ask for the summary of all rounds up to this one (the paper's momentum by real-time summary)."""
    before = summary or "There were no rounds before."
    return chat(
        f"{SUMMARIZE}\n\nSummary of the rounds before:\n{before}\n\n"
        f"Prompt of this round:\n{current.text}\nScore: {percent(current.score)}"
    )


def explain(current: Scored, mistakes: Sequence[tuple[Example, ExampleRecord]], max_words: int) -> Conversation:
    """Ask why the current prompt led to mistakes (the feedback gradient of the paper's ablation)."""
    cases = [
        f"Question: {example.question}\nResponse: {cut(record.reasoning_text.strip(), max_words)}\n"
        f"Final answer: {record.answer_text.strip()}\nRight answer: {example.target}"
        for example, record in mistakes
    ]
    return chat("\n\n".join([EXPLAIN, f"Prompt:\n{current.text}", *cases]))

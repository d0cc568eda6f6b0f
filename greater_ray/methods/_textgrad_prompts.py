"""What TextGrad asks the writer, in our own words: judging an answer, the two feedbacks and the rewriting."""

from collections.abc import Sequence
from typing import NamedTuple

from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._rounds import cut
from greater_ray.methods._writer import chat
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

SCORE_TAGS = ("<score>", "</score>")

JUDGE = (
    "You grade answers. Compare the final answer in a response with the reference. How the answer is formatted does "
    f"not matter, what it says does. Finish with {SCORE_TAGS[0]}1{SCORE_TAGS[1]} if they agree and with "
    f"{SCORE_TAGS[0]}0{SCORE_TAGS[1]} if they do not."
)
CRITIC = (
    "You belong to a pipeline that makes a text better in small rounds. Your part is criticism: name what is weak in "
    "the text in front of you, why it led to the result you are shown, and what kind of change would help. Be "
    "specific, and think beyond the obvious. Somebody else does the rewriting, so give no new version. If there is "
    "nothing left to improve, answer with one short sentence saying that."
)
EDITOR = (
    "You belong to a pipeline that makes a prompt better in small rounds. Your part is the rewriting: read the "
    "critics' remarks and turn them into a better prompt. Remarks can be mistaken or contradict each other, so weigh "
    "them, and keep what already works."
)
ABOUT_RESPONSE = "How would the response have to differ for the evaluation to come out better?"
ABOUT_PROMPT = (
    "How should the prompt change, so that the model's responses to questions of this kind improve in the way that "
    "the remark on the response asks for? The prompt has to serve other questions too, so stay general."
)
REWRITE = "Write an improved version of the prompt that takes these remarks into account."
FORMAT = f"Put the complete improved prompt, and nothing else, between {START_TAG} and {END_TAG}."
# What must not come back as a prompt.
WORDING = "\n".join((JUDGE, CRITIC, EDITOR, ABOUT_RESPONSE, ABOUT_PROMPT, REWRITE, FORMAT))


class Trace(NamedTuple):
    """One row on its way back: the response, how it was evaluated, whether as right, and the remarks made so far."""

    question: str
    response: str
    evaluation: str
    right: bool
    on_response: str = ""
    on_prompt: str = ""


def respond(example: Example, record: ExampleRecord, max_words: int) -> str:
    """Return what the task model said about a question, with the answer it was led to."""
    return f"{cut(record.reasoning_text.strip(), max_words)}\nFinal answer: {record.answer_text.strip()}"


def judge(example: Example, response: str) -> Conversation:
    """Ask whether a response agrees with the label."""
    return chat(
        f"Question:\n{example.question}\n\nReference: {example.target}\n\nResponse:\n{response}",
        JUDGE,
    )


def matched(example: Example, record: ExampleRecord) -> str:
    """Say how exact match came out: the loss as text."""
    read = "no answer could be read" if record.prediction is None else f"the answer read was: {record.prediction}"
    return (
        f"The final answer must equal the reference exactly. Reference: {example.target}; {read}. "
        f"Score: {record.score:.3g} of 1."
    )


def judged(example: Example, right: bool, readable: bool) -> str:
    """Say how a judge decided: the loss as text."""
    verdict = f"a judge's score: {int(right)} of 1." if readable else "a judge gave no readable score."
    return f"The final answer must agree with the reference. Reference: {example.target}; {verdict}"


def criticize_response(trace: Trace) -> Conversation:
    """Ask what should change about a response: the gradient of the loss with respect to the response."""
    return chat(
        "The text under review is a language model's response to a question.\n\n"
        f"Question:\n{trace.question}\n\nResponse:\n{trace.response}\n\nEvaluation:\n{trace.evaluation}\n\n"
        f"{ABOUT_RESPONSE}",
        CRITIC,
    )


def criticize_prompt(prompt: str, trace: Trace) -> Conversation:
    """Ask what should change about the prompt: the gradient with respect to the prompt (the chain rule in words)."""
    return chat(
        "The text under review is a prompt that is added to every question a language model is asked.\n\n"
        f"Prompt:\n{prompt}\n\nQuestion:\n{trace.question}\n\nThe model's response:\n{trace.response}\n\n"
        f"Evaluation:\n{trace.evaluation}\n\nRemark on the response:\n{trace.on_response}\n\n"
        f"{ABOUT_PROMPT}",
        CRITIC,
    )


def rewrite(prompt: str, traces: Sequence[Trace], constraints: Sequence[str]) -> Conversation:
    """Ask for a new prompt: the step against the gradient."""
    parts = [f"A language model gets this prompt with every question:\n{prompt}"]
    for number, trace in enumerate(traces, 1):
        parts.append(
            f"Case {number}\nQuestion:\n{trace.question}\n\nResponse:\n{trace.response}\n\n"
            f"Remark on the prompt:\n{trace.on_prompt}"
        )
    parts.append(REWRITE)
    if constraints:
        parts.append("It must keep to this:\n" + "\n".join(f"- {constraint}" for constraint in constraints))
    parts.append(FORMAT)
    return chat("\n\n".join(parts), EDITOR)

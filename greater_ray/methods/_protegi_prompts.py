"""What ProTeGi says to the writer (Pryzant et al., 2023, Section 3.1): our own wording of its requests."""

import re
from collections.abc import Sequence

from greater_ray.methods._failures import Failure, answer_of
from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._writer import PERSONA, Reader, between, chat, word_rule
from greater_ray.types import Conversation, Generation

REASON_TAGS = ("<reason>", "</reason>")


def _situation(prompt: str, failures: Sequence[Failure]) -> str:
    cases = "\n\n".join(
        f"Case {number}\nText: {failure.example.question}\nLabel: {failure.example.target}\n"
        f"Prediction: {answer_of(failure.record)}"
        for number, failure in enumerate(failures, 1)
    )
    return (
        f'I am working on a zero-shot prompt for a language model. This is the prompt so far:\n\n"{prompt}"\n\n'
        f"It goes wrong on these cases:\n\n{cases}\n\n"
    )


def gradient_request(prompt: str, failures: Sequence[Failure], num_reasons: int) -> Conversation:
    """Ask why the prompt goes wrong on these rows: a gradient in words."""
    start, end = REASON_TAGS
    many = "one reason" if num_reasons == 1 else f"{num_reasons} different reasons"
    return chat(
        _situation(prompt, failures)
        + f"Give {many} why the prompt could go wrong here. Write each reason in this form, in place of the "
        f"dots: {start}...{end}",
        PERSONA,
    )


def edit_request(
    prompt: str, failures: Sequence[Failure], reason: str, num_prompts: int, max_words: int | None
) -> Conversation:
    """Ask for prompts that go against the gradient."""
    many = "one improved prompt" if num_prompts == 1 else f"{num_prompts} different improved prompts"
    return chat(
        _situation(prompt, failures) + f"The trouble with the prompt is this:\n\n{reason}\n\n"
        f"Write {many} that no longer has this trouble. {word_rule(max_words)}"
        f"Write each new prompt in this form, in place of the dots: {START_TAG}...{END_TAG}",
        PERSONA,
    )


def all_tagged(start: str, end: str, most: int) -> Reader[list[str]]:
    """Return what reads the first ``most`` texts between tags; a single one may lack its closing tag."""
    single = between(start, end)
    pair = re.compile(re.escape(start) + r"(.*?)" + re.escape(end), re.DOTALL)

    def read(reply: Generation) -> list[str] | None:
        found = [text.rpartition(start)[2].strip() for text in pair.findall(reply.text)]
        if not found:
            found = [text.strip() for text in (single.read(reply),) if text is not None]
        return [text for text in found if any(c.isalpha() for c in text)][:most] or None

    return Reader(read, start)

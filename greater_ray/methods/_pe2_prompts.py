"""What PE2 says to the writer, turn by turn (Ye et al., 2023, Section 3): our own wording of its parts.

The parts are: a description in two steps, the place of the prompt in the whole input, and a form to fill in for every
example. History and step size are optional.
"""

from collections.abc import Sequence

from greater_ray.methods._failures import Failure, answer_of, shortened
from greater_ray.methods._writer import ReplyForm, reply_rule, word_rule
from greater_ray.types import Message

SYSTEM = Message("system", "You help people to improve the prompts that they give to language models.")


def introduction(num_examples: int, *, history: bool, step_size: bool) -> Message:
    """Turn 1: what a prompt is, and the two steps that will follow."""
    also = [name for name, on in (("a log of earlier changes", history), ("a limit on the change", step_size)) if on]
    extra = f" You will also be given {' and '.join(also)}." if also else ""
    return Message(
        "user",
        "A prompt is a text that is joined to every input of a task, so that a language model turns the input into "
        "the right output. We are going to improve one prompt in two steps.\n"
        f"Step 1: you get the prompt, the template in which it is joined to the input, and {num_examples} "
        f"example{'s' if num_examples != 1 else ''} with the model's output. Look at each one closely: find out "
        "whether the prompt tells what the task really is, and say what should be changed.\n"
        f"Step 2: on the ground of what you found, write a new prompt.{extra}",
    )


AGREEMENT = Message("assistant", "Good. Please give me the prompt, the template and the examples for step 1.")


def material(prompt: str, failures: Sequence[Failure], limit: int, prompt_first: bool = False) -> Message:
    """Turn 3: prompt, full template, examples and the form."""
    template, elsewhere = (f"{prompt} <input>", "behind") if prompt_first else (f"<input> {prompt}", "before")
    examples = "\n\n".join(
        f"### Example {number} (id {failure.example.id})\n"
        f"Input: {failure.example.question}\n"
        f"Reasoning: {shortened(failure.record.reasoning_text, limit)}\n"
        f"Output: {answer_of(failure.record)}\n"
        f"Label: {failure.example.target}"
        for number, failure in enumerate(failures, 1)
    )
    return Message(
        "user",
        f"## Prompt\n{prompt}\n\n"
        f"## Full template\n```\n{template}\n```\n"
        f"The input stands in the place of the mark; in other templates a prompt may also stand {elsewhere} the input."
        "\n\n"
        f"## Examples\n{examples}\n\n"
        "## What to do\n"
        "Take the labels as certainly right; the prompt may be wrong. "
        "For every example, note its input, output and label, and then answer, each time with your grounds:\n"
        "- Is the output right?\n"
        "- Did the model do what the prompt says?\n"
        "- Does the prompt tell how to get from such an input to such a label?\n"
        "- Does the prompt have to be changed to get the label here? If so, which words, and to what?",
    )


def new_prompt_request(
    prompt: str, *, history: str | None, step_size: int | None, max_words: int | None, form: ReplyForm
) -> Message:
    """Turn 5: step 2; ``history`` and ``step_size`` are None where they are off."""
    parts = ["Go through your findings once more. Now do step 2."]
    if history is not None:
        parts.append(
            "## Log\n"
            "Earlier prompts and how often they were right on train rows. More is better; go on in a direction that "
            f"helped.\n{history}"
        )
    parts.append(f"## Prompt to change\n{prompt}")
    rules = [] if step_size is None else [f"Change, add or delete at most {step_size} words."]
    rules += [] if max_words is None else [word_rule(max_words).strip()]
    rules += [
        "With the new prompt the model should no longer fail on the examples above.",
        reply_rule(form),
    ]
    parts.append("## Rules\n" + "\n".join(f"- {rule}" for rule in rules))
    return Message("user", "\n\n".join(parts))


def log_request(step: int) -> Message:
    """Turn 7, only with history: one line about what was changed."""
    return Message(
        "user",
        f"For the log, sum up step {step} in one line of at most 200 words: what the old prompt lacked, and what you "
        "changed. Reply with this line only.",
    )

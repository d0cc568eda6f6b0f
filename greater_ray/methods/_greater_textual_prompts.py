"""What GReaTer with textual feedback asks the writer, in our own words: a critique of failures, and rewrites."""

from collections.abc import Sequence

from greater_ray.methods._proposals import END_TAG, START_TAG
from greater_ray.methods._rounds import cut
from greater_ray.methods._writer import chat
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

MAX_WORDS = 150

SITUATION = "A small language model gets a question, followed by an instruction that is the same for all questions."
SITUATION_FIRST = (
    "A small language model gets an instruction that is the same for all questions, followed by a question."
)
CRITICIZE = (
    "Say in a few sentences what the model did wrong here, what these mistakes have in common, and which weakness of "
    "the instruction lets them happen. Do not write a new instruction yet."
)
REWRITE = (
    "Write another instruction that takes this remark into account. It must fit every question of this kind, so it "
    "names nothing out of single questions. It asks for reasoning before the answer. One or two plain sentences, no "
    "longer than the present instruction by more than half, and fluent."
)
FORMAT = f"Put the instruction alone between {START_TAG} and {END_TAG}."
# What must not come back as a prompt.
WORDING = "\n".join((SITUATION, SITUATION_FIRST, CRITICIZE, REWRITE, FORMAT))


def criticize(
    prompt: str, failures: Sequence[tuple[Example, ExampleRecord]], prompt_first: bool = False
) -> Conversation:
    """Ask why questions were answered wrongly under a prompt."""
    cases = [
        f"Case {number}\nQuestion:\n{example.question}\n\nThe model's reasoning:\n"
        f"{cut(record.reasoning_text.strip(), MAX_WORDS)}\n\nIts answer: {record.answer_text.strip()}\n"
        f"The right answer: {example.target}"
        for number, (example, record) in enumerate(failures, 1)
    ]
    return chat("\n\n".join([*_present(prompt, prompt_first), "It failed here:", *cases, CRITICIZE]))


def rewrite(prompt: str, critique: str, prompt_first: bool = False) -> Conversation:
    """Ask for another prompt in the light of a critique."""
    present = _present(prompt, prompt_first)
    return chat("\n\n".join([*present, f"A remark on it:\n{critique}", REWRITE, FORMAT]))


def _present(prompt: str, prompt_first: bool) -> tuple[str, str]:
    return SITUATION_FIRST if prompt_first else SITUATION, f"The instruction at present:\n{prompt}"

"""How the methods that rewrite prompts ask for text: again where a reply cannot be read, and in one form of reply.

The released code of APE, APO and PE2 takes a whole completion as the new prompt. Small models often put a preface
around it, so by default these methods ask for tags; ``reply="whole"`` is the released way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import Field

from greater_ray.methods._text import END_TAG, START_TAG, Proposal, TextConfig, ask, chat, tagged
from greater_ray.protocols import Problem
from greater_ray.types import Conversation, Generation

T = TypeVar("T")
ReplyForm = Literal["tagged", "whole"]
# What is added to the temperature when all proposals of a step were duplicates.
WARMER = 0.3
PERSONA = "You are an experienced writer of prompts for language models."


class RewriteConfig(TextConfig):
    """Options of the methods that ask for a new prompt in words.

    ``max_words`` is the limit that the meta-prompt names (50 in the released scripts of PE2, which also hold APE and
    APO; None means no limit); ``reply`` tells whether the prompt stands between tags or is the whole reply.
    """

    max_words: int | None = Field(default=50, ge=1)
    reply: ReplyForm = "tagged"


@dataclass(frozen=True, slots=True)
class Asker:
    """What one step needs to ask the writer; a second ``attempt`` draws anew at a higher temperature.

    ``refusals`` collects why the writer gave nothing, for the step's notes.
    """

    problem: Problem
    config: TextConfig
    step: int
    attempt: int = 0
    refusals: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """Each refusal once."""
        return [f"the writer gave nothing: {reason}" for reason in self.refusals]

    def gather(
        self,
        conversations: Sequence[Conversation],
        purpose: str,
        read: Callable[[Generation], T | None],
        **settings: Any,
    ) -> list[T | None]:
        """Ask, and ask again with another seed where ``read`` gives None; what stays None could not be read.

        A greedy reply would come out the same, so asking again is never colder than ``WARMER``.
        """
        temperature = settings.pop("temperature", self.config.temperature) + WARMER * self.attempt
        purpose = f"{purpose} {self.attempt}" if self.attempt else purpose
        results: list[T | None] = [None] * len(conversations)
        for turn in range(1 + self.config.retries):
            missing = [k for k, result in enumerate(results) if result is None]
            if not missing:
                break
            if turn:
                temperature = max(temperature, WARMER)
            replies = ask(
                self.problem,
                [conversations[k] for k in missing],
                self.config,
                self.step,
                f"{purpose} again {turn}" if turn else purpose,
                temperature=temperature,
                **settings,
            )
            for k, reply in zip(missing, replies, strict=True):
                if reply.error is not None:
                    self.refusals[reply.error] = None
                else:
                    results[k] = read(reply)
            self.problem.note_unreadable(sum(results[k] is None for k in missing))
        return results


def prompt_reader(form: ReplyForm) -> Callable[[Generation], str | None]:
    """Return what finds the prompt in a reply; a reply that was cut off before its closing tag has none."""

    def read(reply: Generation) -> str | None:
        if form == "whole":
            return reply.text
        if reply.truncated and END_TAG not in reply.text:
            return None
        return tagged(reply.text)

    return read


def words_reader(reply: Generation) -> str | None:
    """Read a critique or an analysis: any text at all."""
    return reply.text.strip() or None


def reply_rule(form: ReplyForm) -> str:
    """Return the sentence that says in which form the new prompt must come."""
    if form == "whole":
        return "Your reply must consist of the new prompt and nothing else."
    # A model that only repeats this sentence has written no words between the tags.
    return f"Reply in this form, with the new prompt in place of the dots: {START_TAG}...{END_TAG}"


def word_rule(max_words: int | None) -> str:
    """Return the sentence that limits the length of the new prompt, nothing where there is no limit."""
    return f"The new prompt has {max_words} words at most. " if max_words is not None else ""


def paraphrase_request(prompt: str, max_words: int | None, form: ReplyForm) -> Conversation:
    """Ask for the same prompt in other words (iterative APE, ProTeGi's paraphrases)."""
    return chat(
        "Here is a prompt that is given to a language model together with each question:\n\n"
        f"{prompt}\n\n"
        "Say it in another way without changing what it asks for. "
        f"{word_rule(max_words)}{reply_rule(form)}",
        PERSONA,
    )


def only_duplicates(proposals: Sequence[Proposal]) -> bool:
    """Tell whether there are duplicates and nothing that can be used: then a warmer attempt is worth its cost."""
    return any(p.status == "duplicate" for p in proposals) and not any(p.usable for p in proposals)


def wording(*conversations: Conversation) -> str:
    """Return the words of meta-prompts rendered without a prompt in them: what must not come back as a prompt."""
    return "\n".join(message.content for conversation in conversations for message in conversation)

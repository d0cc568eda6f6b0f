"""How methods ask a model for text: in one form of reply, and again where it cannot be read.

A small model often forgets the tags that it is asked for. When it is asked again, its reply is begun for it with the
opening tag, and it only has to go on. The released code of APE, APO and PE2 takes a whole completion as the new prompt;
``reply="whole"`` is that way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from greater_ray.config import Config
from greater_ray.methods._proposals import END_TAG, START_TAG, Proposal, tagged
from greater_ray.protocols import Problem
from greater_ray.types import Conversation, Generation, Message

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
ReplyForm = Literal["tagged", "whole"]
# What is added to the temperature when all proposals of a step were duplicates.
WARMER = 0.3
PERSONA = "You are an experienced writer of prompts for language models."


class TextConfig(Config):
    """Options of every method whose prompts are written by a model."""

    initial_prompt: str = Field(
        default="Let's think step by step.", description="The prompt that the search starts from."
    )
    temperature: float = Field(default=0.7, ge=0, description="Temperature of the writer; 0 is greedy.")
    max_new_tokens: int = Field(default=512, ge=1, description="Tokens that a reply of the writer may have.")
    max_prompt_tokens: int = Field(
        default=300, ge=1, description="How long a prompt may be, in tokens of the task model."
    )
    retries: int = Field(default=2, ge=0, description="How often an unreadable reply is asked for again.")


def chat(user: str, system: str | None = None) -> Conversation:
    """Return a conversation of one question."""
    turns = (Message("user", user),)
    return turns if system is None else (Message("system", system), *turns)


def placed(question: str, slot: str, prompt_first: bool) -> str:
    """Return a question with the slot for the prompt on its own line where the prompt stands."""
    shown = f"Question: {question}"
    return f"{slot}\n{shown}" if prompt_first else f"{shown}\n{slot}"


def ask(
    problem: Problem,
    conversations: Sequence[Conversation],
    config: TextConfig,
    step: int,
    purpose: str,
    **settings: Any,
) -> list[Generation]:
    """Ask the writer; its randomness comes from (seed, step, purpose). ``settings`` override the config's."""
    if problem.optimizer is None:
        raise RuntimeError("this method needs a model that writes, and the problem holds none")
    given = {"max_tokens": config.max_new_tokens, "temperature": config.temperature, **settings}
    return problem.optimizer.generate(conversations, seed=problem.rng(step, purpose).getrandbits(32), **given)


class RewriteConfig(TextConfig):
    """Options of the methods that ask for a new prompt in words.

    50 words is the limit in the released scripts of PE2, which also hold APE and APO.
    """

    max_words: int | None = Field(
        default=50, ge=1, description="Words that the meta-prompt allows; none: it names no limit."
    )
    reply: ReplyForm = Field(
        default="tagged", description="Whether the new prompt stands between tags or is the whole reply."
    )


@dataclass(frozen=True, slots=True)
class Reader(Generic[T_co]):
    """What finds something in a reply, None where it cannot; ``opening`` is how a reply of the wanted form begins."""

    read: Callable[[Generation], T_co | None]
    opening: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """What one step needs to ask the writer; a second ``attempt`` draws anew at a higher temperature.

    ``notes`` are the step's: why the writer gave nothing is added to them, each reason once.
    """

    problem: Problem
    config: TextConfig
    step: int
    attempt: int = 0
    notes: list[str] = field(default_factory=list)

    def gather(
        self, conversations: Sequence[Conversation], purpose: str, reader: Reader[T], **settings: Any
    ) -> list[T | None]:
        """Ask, and ask again with another seed where nothing can be read; what stays None could not be read.

        A greedy reply would come out the same, so asking again is never colder than ``WARMER``; and it would often
        have no tags again, so the reply is begun with the reader's opening.
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
            opening = (Message("assistant", reader.opening),) if turn and reader.opening else ()
            replies = ask(
                self.problem,
                [(*conversations[k], *opening) for k in missing],
                self.config,
                self.step,
                f"{purpose} again {turn}" if turn else purpose,
                temperature=temperature,
                **settings,
            )
            for k, reply in zip(missing, replies, strict=True):
                if reply.error is None:
                    results[k] = reader.read(reply)
                elif (note := f"the writer gave nothing: {reply.error}") not in self.notes:
                    self.notes.append(note)
            self.problem.note_unreadable(sum(results[k] is None for k in missing))
        return results


def between(start: str, end: str) -> Reader[str]:
    """Return what reads the text between two tags.

    A text without its closing tag ends at the first blank line; in a reply that was cut off it has to be there.
    """

    def read(reply: Generation) -> str | None:
        cut = reply.truncated and end not in reply.text
        if cut and "\n\n" not in reply.text.rpartition(start)[2].strip():
            return None
        return tagged(reply.text, start, end)

    return Reader(read, start)


def prompt_reader(form: ReplyForm) -> Reader[str]:
    """Return what finds the prompt in a reply."""
    return between(START_TAG, END_TAG) if form == "tagged" else Reader(lambda reply: reply.text)


# Reads a critique or an analysis: any text at all.
WORDS: Reader[str] = Reader(lambda reply: reply.text.strip() or None)


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

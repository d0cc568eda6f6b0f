"""A task model and a writer for methods that rewrite prompts: any text is a prompt, a table says what it gets right.

Prompts are tokenized letter by letter, so that lengths can be counted on one's fingers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from greater_ray.methods._writer import TextConfig
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Answer, Conversation, Example, Generation, Layout, LossSpec, Rollout, TokenIds, Usage
from greater_ray.work import Answers, Rollouts
from tests.scripted import ScriptedModel, ScriptedWriter

START = "start here"


def named(prefix: str, num: int) -> tuple[Example, ...]:
    """Return rows ``<prefix>0``, ``<prefix>1``, ..."""
    return tuple(Example(f"{prefix}{k}", f"question {prefix}{k}?", "(Yes)", "Yes") for k in range(num))


@dataclass
class LetterModel(ScriptedModel):
    """``right`` holds the ids of the rows that a prompt gets right, ``ce`` the cross-entropy of its label.

    ``scored`` notes what was answered: the prompts of a call, and the ids of its rows.
    """

    right: Mapping[str, Collection[str]] = field(default_factory=dict)
    ce: Mapping[str, float] = field(default_factory=dict)
    scored: list[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    def encoded(self, text: str) -> TokenIds:
        return tuple(map(ord, text))

    def word(self, token: int) -> str:
        return chr(token)

    def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[list[list[Rollout]], Usage]:
        texts = tuple(self.text(p).strip() for p in work.prompts)
        self.asked.append(("rollouts", (texts, work.reasoning_of)))
        self.scored.append((texts, tuple(e.id for e in work.examples)))
        return [
            [Rollout(p, False, self.ce.get(text, 9.0), 0.0, e.id in self.right.get(text, ())) for e in work.examples]
            for p, text in zip(work.prompts, texts, strict=True)
        ], Usage()

    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        return [
            [Answer(r, f"thinking about {e.id}", "Yes" if r.label_hit else "No")
             for e, r in zip(work.examples, rollouts, strict=True)]
            for rollouts in self.ask(Rollouts(work.examples, work.prompts, LossSpec()))
        ], Usage()  # fmt: skip


@dataclass
class LetterWriter(ScriptedWriter):
    """``settings`` notes (number of conversations, token limit, temperature, seed) of every call."""

    settings: list[tuple[int, int, float, int]] = field(default_factory=list)

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        self.settings.append((len(conversations), max_tokens, round(temperature, 6), seed))
        return super().generate(conversations, max_tokens=max_tokens, temperature=temperature, seed=seed)


def read(example: Example, answer: Answer) -> ExampleRecord:
    """Read what ``LetterModel`` answered."""
    rollout = answer.rollout
    return ExampleRecord(
        id=example.id,
        target=example.target,
        prediction=answer.answer_text,
        score=float(rollout.label_hit),
        strict_prediction=None,
        strict_score=0.0,
        truncated=False,
        reasoning_tokens=1,
        label_ce=rollout.label_ce,
        prompt_nll=0.0,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


def problem(
    model: LetterModel,
    reply: Callable[[Conversation, int], str | None],
    *,
    train: int = 4,
    dev: int = 4,
    seed: int = 0,
) -> tuple[Problem, LetterWriter]:
    """Return a problem with train rows ``t0``, ... and dev rows ``d0``, ..., and its writer."""
    writer = LetterWriter(reply)
    return Problem(named("t", train), model, seed, named("d", dev), writer, read), writer


def tag(text: str) -> str:
    return f"Here it is: <prompt>{text}</prompt>"


def ids(prefix: str, num: int) -> set[str]:
    """Return the ids of the first rows."""
    return {f"{prefix}{k}" for k in range(num)}


def last(conversation: Conversation) -> str:
    return conversation[-1].content


def in_turn(*texts: str | None) -> Callable[[Conversation, int], str | None]:
    """Reply with these texts between tags, one after another; None is a reply without a prompt."""
    left = list(texts)

    def reply(conversation: Conversation, row: int) -> str | None:
        text = left.pop(0)
        return "I cannot." if text is None else tag(text)

    return reply


def run(plugin: object, given: Problem, config: TextConfig, steps: int = 100) -> tuple[object, list[StepInfo]]:
    """Step until the method says that it is finished, each time from the state's JSON."""
    state, infos = plugin.start(given, config), []
    while not state.finished and len(infos) < steps:
        state = plugin.state_type.model_validate_json(state.model_dump_json())
        state, step = plugin.step(given, config, state)
        infos.append(step)
    return state, infos


def outcome(info: StepInfo) -> list[tuple[str, str]]:
    return [(c.text, c.status) for c in info.candidates]

"""A task model for methods that write whole prompts: any text is a prompt, and the test says what it scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from string import ascii_lowercase

from greater_ray.methods._archive import Scored, TextState
from greater_ray.methods._writer import TextConfig
from greater_ray.protocols import Method, Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Answer, Conversation, Example, Layout, LossSpec, TokenIds, Usage
from greater_ray.work import Answers, Rollouts, TextEmbeddings, computes
from tests.prompt_table import LetterWriter
from tests.scripted import ScriptedModel


@dataclass
class LetterModel(ScriptedModel):
    """A token is a character. ``right`` tells for a prompt, without its leading blank, and a row."""

    right: Callable[[str, Example], bool] = lambda prompt, row: False
    answered: list[tuple[str, int]] = field(default_factory=list)

    def encoded(self, text: str) -> TokenIds:
        return tuple(map(ord, text))

    def word(self, token: int) -> str:
        return chr(token)

    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        self.answered.extend((self.text(p)[1:], len(work.examples)) for p in work.prompts)
        return [[self._answer(p, e) for e in work.examples] for p in work.prompts], Usage()

    @computes(TextEmbeddings)
    def text_embeddings(self, work: TextEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        """Count letters, to length one."""
        self.asked.append(("text_embeddings", list(work.texts)))
        counts = [[text.lower().count(letter) for letter in ascii_lowercase] for text in work.texts]
        return [[n / math.hypot(*count) for n in count] for count in counts], Usage()

    def _answer(self, prompt: TokenIds, example: Example) -> Answer:
        right = self.right(self.text(prompt)[1:], example)
        rollout = self.ask(Rollouts([example], [prompt], LossSpec()))[0][0]
        return Answer(rollout, f"reasoning about {example.id}", example.target if right else "No")


def read(example: Example, answer: Answer) -> ExampleRecord:
    correct = answer.answer_text == example.target
    return ExampleRecord(
        id=example.id,
        target=example.target,
        prediction=answer.answer_text,
        score=float(correct),
        strict_prediction=None,
        strict_score=float(correct),
        truncated=False,
        reasoning_tokens=0,
        label_ce=0.0,
        prompt_nll=0.0,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


def by_score(scores: dict[str, float], of: int = 10) -> Callable[[str, Example], bool]:
    """Answer the first rows of every split rightly, as many as the prompt's score says; unknown prompts score 0."""
    return lambda prompt, row: int(row.id[1:]) < round(scores.get(prompt, 0.0) * of)


def task(num: int, split: str) -> tuple[Example, ...]:
    return tuple(Example(f"{split}{k}", f"{split} question {k}?", "Yes", "Yes") for k in range(num))


def setting(
    scores: dict[str, float],
    reply: Callable[[Conversation, int], str | None],
    *,
    train: int = 10,
    dev: int = 10,
    seed: int = 0,
) -> tuple[Problem, LetterModel, LetterWriter]:
    """Return a problem whose prompts have given scores on train and dev alike, and whose writer is scripted."""
    model, writer = LetterModel(right=by_score(scores)), LetterWriter(reply)
    return Problem(task(train, "t"), model, seed, dev=task(dev, "d"), optimizer=writer, read=read), model, writer


def tag(text: str) -> str:
    return f"Here it is: <prompt>{text}</prompt>"


def asked(conversation: Conversation) -> str:
    """Return the user's turn."""
    return next(m.content for m in reversed(conversation) if m.role == "user")


def steps(method: Method, problem: Problem, config: TextConfig, num: int) -> tuple[TextState, list[StepInfo]]:
    """Take steps; between two of them the state goes through JSON, as in a run that is interrupted after each."""
    state, infos = method.start(problem, config), []
    for _ in range(num):
        state = method.state_type.model_validate_json(state.model_dump_json())
        state, info = method.step(problem, config, state)
        infos.append(info)
    return state, infos


def archive(*entries: tuple[str, float]) -> tuple[Scored, ...]:
    return tuple(Scored(number=k, text=t, ids=(k + 1,), score=s, step=0) for k, (t, s) in enumerate(entries))


def asked_at(writer: LetterWriter) -> list[tuple[int, float]]:
    """Return the number of conversations and the temperature of every call of the writer."""
    return [(num, temperature) for num, _, temperature, _ in writer.settings]


def statuses(info: StepInfo) -> list[str]:
    return [c.status for c in info.candidates]

"""The seams. Whoever implements one of these can be exchanged without touching the rest.

``Executor`` runs units of work on replicas, ``GradientModel`` is what a method sees of a model, ``Task`` supplies rows
and reads answers, ``Method`` is one optimizer.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel

from greater_ray.records import ExampleRecord
from greater_ray.types import Answer, Conversation, Demonstration, Example, Generation, Shown, TokenIds, Usage
from greater_ray.work import Answers, EncodePrompt, PromptRoom, Unit, Work

ResultT = TypeVar("ResultT")


class Executor(Protocol):
    """Computes units of work on one or more replicas of a model.

    Contract: results come back in the order of the units; a result is a pure function of its unit, whoever computes
    it and whatever was computed before. ``width`` is how many units are computed at the same time: a hint for callers
    that would rather not send everything at once.
    """

    width: int

    def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        """Compute every unit and return its result and cost, aligned with ``units``."""
        ...


class GradientModel(Protocol):
    """A language model with a fixed layout, seen by an optimizer as numbers, token ids and text.

    Contract: results are aligned with what was asked; decoding is greedy, so all work is deterministic; known results
    are not computed again; nothing returned holds a tensor.
    """

    def ask(self, work: Work[ResultT]) -> ResultT:
        """Have work done, for instance ``Rollouts(examples, prompts, loss)``; see ``greater_ray.work`` for the kinds.

        Raises:
            UnsupportedError: this model cannot do this kind of work.
            DataError: a row does not fit the context window.
        """
        ...

    def showing(self, shown: Shown, prompt: TokenIds) -> "GradientModel":
        """Return this model with demonstrations in front of every question, each asked under ``prompt``.

        It is counted with this one; what is known under other demonstrations is known apart.
        """
        ...

    @property
    def usage(self) -> Usage:
        """All that this model has computed so far."""
        ...


def encoded(model: GradientModel, text: str) -> TokenIds:
    """Tokenize a prompt as it continues what stands before it; a blank between them belongs to the prompt."""
    return model.ask(EncodePrompt(text if text[:1].isspace() else " " + text)) if text.strip() else ()


class TextModel(Protocol):
    """A model that writes: what an optimizer asks for critiques and new prompts.

    Where the last turn of a conversation is the assistant's, the reply is begun and the model goes on with it; the text
    then holds the beginning, unless the model cannot do so and answers anew.

    Contract: one generation per conversation, aligned; a conversation that fails gives a ``Generation`` with an error
    instead of raising. A local model's text depends on (conversation, settings, seed, place in the call) alone.
    """

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        """Continue every conversation; temperature 0 is greedy. For n samples, give a conversation n times."""
        ...

    def note_unreadable(self, count: int) -> None:
        """Count replies that could not be read into ``usage``: whoever reads them tells."""
        ...

    @property
    def usage(self) -> Usage:
        """All that this model has computed so far."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """How one answer was read, and how good it is: from 0 to 1, for most tasks one of the two.

    ``prediction`` is None when no answer could be read after the extractor. The strict reading goes by the reasoning
    alone.
    """

    score: float
    prediction: str | None
    strict_score: float
    strict_prediction: str | None

    @property
    def correct(self) -> bool:
        """Tell whether the answer is right in full."""
        return self.score == 1.0


class Task(Protocol):
    """Rows of one benchmark, and the reading of answers to them.

    A task whose answers are a closed set may have ``choices``, all labels, and ``reading``: ``"likelihood"`` takes the
    likeliest of them for the answer.

    Contract: ``train`` and ``dev`` give the same rows in the same order every time, disjoint from each other and from
    ``test``; ``score`` never raises on odd text. Only the trial may call ``test``: for the final evaluation, and before
    the search for the room that its rows leave a prompt.
    """

    name: str
    answer_type: str
    provenance: dict[str, Any]

    def train(self) -> list[Example]:
        """Rows that an optimizer learns from."""
        ...

    def dev(self) -> list[Example]:
        """Rows for choosing among finished prompts."""
        ...

    def test(self) -> list[Example]:
        """Rows for the final evaluation alone."""
        ...

    def score(self, example: Example, reasoning_text: str, answer_text: str) -> Score:
        """Read the answer in two stages (after the extractor) and, beside it, strictly from the reasoning alone."""
        ...


def closed_set(task: Task) -> tuple[str, ...]:
    """Return all labels of a task whose answers are a closed set; empty for others."""
    return tuple(getattr(task, "choices", ()))


def metric_of(task: Task) -> str:
    """Return the name of what scores answers: accuracy where they are right or wrong."""
    return str(getattr(task, "metric", "accuracy"))


def reads_likeliest(task: Task) -> bool:
    """Tell whether the likeliest choice is taken for the answer."""
    return getattr(task, "reading", "generated") == "likelihood"


SPLITS = ("train", "dev", "test")


def rows_of(task: Task, split: str) -> list[Example]:
    """Return the rows of a split by its name."""
    return {"train": task.train, "dev": task.dev, "test": task.test}[split]()


@dataclass(frozen=True, slots=True)
class Problem:
    """What a method may know: train and dev rows, the models and a seed. There is no way from here to the test rows.

    ``optimizer`` writes text for methods that ask for it; ``read`` turns an answer into a scored record. ``room`` is
    how many tokens of prompt fit the context window on the rows of the final evaluation; None: there is no limit.
    ``choices`` are all labels of a task whose answers are a closed set, in the order of its layout; ``score_choices``
    tells that answers are read by their likelihoods.
    ``prompt_first`` says whether the prompt stands in front of the question, for texts that speak of it.
    """

    examples: tuple[Example, ...]
    model: GradientModel
    seed: int
    dev: tuple[Example, ...] = ()
    optimizer: TextModel | None = None
    read: Callable[[Example, Answer], ExampleRecord] | None = None
    room: int | None = None
    score_choices: bool = False
    choices: tuple[str, ...] = ()
    prompt_first: bool = False

    def encode(self, text: str) -> TokenIds:
        """Tokenize a prompt as it continues what stands before it; a blank between them belongs to the prompt."""
        return encoded(self.model, text)

    def prompt_limit(self, tokens: int) -> int:
        """Return ``tokens``, or less where the context window leaves less room on a train, dev or evaluated row."""
        rooms = (self.model.ask(PromptRoom((*self.examples, *self.dev))), self.room)
        return min([tokens, *(room for room in rooms if room is not None)])

    def score(self, prompts: Sequence[TokenIds], examples: Sequence[Example]) -> list[list[ExampleRecord]]:
        """Answer and score the examples under every prompt, by the task's own rules: one list per prompt."""
        if self.read is None:
            raise RuntimeError("this problem was made without a reader of answers")
        answers = self.model.ask(Answers(examples, prompts, score_choices=self.score_choices))
        return [[self.read(e, a) for e, a in zip(examples, row, strict=True)] for row in answers]

    def showing(self, shown: Shown, prompt: TokenIds) -> "Problem":
        """Return this problem with demonstrations in front of every question, each asked under ``prompt``."""
        return replace(self, model=self.model.showing(shown, prompt)) if shown else self

    def note_unreadable(self, count: int) -> None:
        """Put replies of the writer that could not be read into its ledger, also those that are asked for again."""
        if self.optimizer is not None:
            self.optimizer.note_unreadable(count)

    def rng(self, step: int, purpose: str) -> random.Random:
        """Return the random stream of one purpose in one step: never global, never shared."""
        return random.Random(f"{self.seed}:{step}:{purpose}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One proposed prompt or token; ``loss`` is the method's selection criterion, None where it was not scored.

    ``text`` is the token, or the whole prompt where ``token`` is None. ``status`` is ``"scored"``, or why it was not:
    one of ``records.REFUSALS``, or a word of the method's own for a prompt that could be used.
    """

    token: int | None
    text: str
    gradient: float | None
    loss: float | None
    status: str = "scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """What one step did, for the screen and for ``steps.jsonl``.

    ``position`` is the tuned token's, where there is one; ``accepted`` the index in ``candidates`` of the taken one, if
    any was: the loop refuses another number.
    ``loss`` is the criterion of the current prompt. ``written`` tells what became of what the writer proposed in this
    step, one status per proposal; a candidate that is tried again later is no new proposal.
    """

    position: int | None
    prompt_ids: TokenIds
    prompt_text: str
    loss: float | None
    best_loss: float | None
    accepted: int | None
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


# How many of the best prompts a method keeps.
NUM_BEST = 10


class MethodState(BaseModel, frozen=True, extra="forbid"):
    """Where an optimizer stands, as JSON. Every method's state extends this one.

    ``best`` holds the best distinct prompts so far, lowest loss first; ``initial_loss`` is the start's, if measured.
    A method that can tell that nothing more will change sets ``finished``. ``demonstrations`` are shown with the result
    in the final evaluation, in front of every question; the start prompt is then measured without any. With ``nearest``
    they are a pool, and every question is shown so many of them, those most like it.
    """

    step: int = 0
    prompt_ids: TokenIds
    best: tuple[tuple[float, TokenIds], ...] = ()
    steps_since_best: int = 0
    finished: bool = False
    initial_loss: float | None = None
    demonstrations: tuple[Demonstration, ...] = ()
    nearest: int = 0

    @property
    def result(self) -> TokenIds:
        """The best prompt so far; the current one where none has been scored."""
        return self.best[0][1] if self.best else self.prompt_ids

    def stepped(self, *, improved: bool, **changes: Any) -> Self:
        """Return the state one step further, with ``changes``; ``improved``: it has found a prompt better than all."""
        since = 0 if improved else self.steps_since_best + 1
        return self.model_copy(update={"step": self.step + 1, "steps_since_best": since, **changes})


ConfigT = TypeVar("ConfigT", bound=BaseModel)
StateT = TypeVar("StateT", bound=MethodState)


class Method(Protocol[ConfigT, StateT]):
    """One optimizer: a configuration, a start and a step. Budget, stopping, records and resume belong to the loop.

    ``presets`` maps a name to settings of the whole trial (``method_config``, ``layout``, ``budget``); the user's
    settings override them. ``seeded`` tells whether the seed changes anything, and ``selects_by`` whose rows' scores
    choose the prompt (train rows stand in for dev rows where there are none): these rows tell nothing about new ones.
    """

    summary: str
    source: str
    seeded: bool
    selects_by: Literal["train", "dev"]
    config_type: type[ConfigT]
    state_type: type[StateT]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    def start(self, problem: Problem, config: ConfigT) -> StateT:
        """Return the state before the first step; must be cheap and deterministic."""
        ...

    def step(self, problem: Problem, config: ConfigT, state: StateT) -> tuple[StateT, StepInfo]:
        """Do one step. All randomness comes from ``(problem.seed, state.step, purpose)``."""
        ...


@runtime_checkable
class ResolvesConfig(Protocol[ConfigT]):
    """A method whose options may name something outside the config, for instance a file with prompts."""

    def resolve(self, config: ConfigT, task: str) -> ConfigT:
        """Return the options with contents in the place of names, since contents belong to a trial's identity.

        Called once for a task when the settings become a config, and again with its own result when a recorded config
        is run again: then it must change nothing.
        """
        ...


ConfigT_contra = TypeVar("ConfigT_contra", bound=BaseModel, contravariant=True)


@runtime_checkable
class NeedsWork(Protocol[ConfigT_contra]):
    """A method that asks the task model for more than text and answers, which not every model can give."""

    def needs(self, config: ConfigT_contra) -> Mapping[type[Work[Any]], str]:
        """Return the kinds of work beyond prompts as text and ``Answers``: a model without them is refused.

        Each has a hint how to do without it; an empty one tells that there is no way.
        """
        ...


@runtime_checkable
class EndsItself(Protocol[ConfigT_contra]):
    """A method that ends by itself: its options and the rows tell how many steps it takes at most."""

    def most_steps(self, config: ConfigT_contra, num_rows: int) -> int:
        """Return the step with which the method is finished at the latest; ``num_rows`` counts training rows."""
        ...

"""Worked examples in the prompt: no search, training rows as demonstrations, drawn by seed or chosen per question.

Brown et al., "Language Models are Few-Shot Learners", NeurIPS 2020; with rationales Wei et al., NeurIPS 2022, here
written by the task model itself under the trigger of Kojima et al., NeurIPS 2022. The GReaTer paper compares with
five-shot inference in Appendix E and states neither the examples nor their form. The nearest rows per question are Liu
et al., "What Makes Good In-Context Examples for GPT-3?", DeeLIO 2022, who tell nearness by a sentence encoder.

The demonstrations are turns in front of the question: the user asks each under the prompt, and the assistant says the
answer in the extractor's words. In the form ``text`` they are part of the prompt; where it stands after the question,
the question comes first, and the wording says so.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.config import Config
from greater_ray.methods._archive import start_ids
from greater_ray.protocols import MethodState, Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Demonstration, Example

# The prompt in pieces, of which only the demonstrations vary.
OPENING = (
    "\n\nThat is the question to answer. Before it is answered, here are worked examples of the same kind of task."
)
CLOSING = "Now go back to the question at the very beginning and solve it in the same way."
CLOSING_ANSWER_ONLY = "Now go back to the question at the very beginning and state its answer in the same form."
# The same in front of the question.
OPENING_FIRST = "Here are worked examples of the kind of task that follows them."
CLOSING_FIRST = "Now solve the question that follows in the same way."
CLOSING_ANSWER_ONLY_FIRST = "Now state the answer to the question that follows in the same form."


class FewShotConfig(Config):
    """Options of few-shot prompts.

    In the form of turns, ``initial_prompt`` is also what every question is asked under. ``max_prompt_tokens`` holds,
    and so does the context window beside the longest row.
    """

    shots: int = Field(default=5, ge=0, description="Worked examples that are shown.")
    form: Literal["turns", "text"] = Field(
        default="turns", description="Whether they are turns of a conversation or text of the prompt."
    )
    style: Literal["rationale", "answer-only"] = Field(
        default="rationale", description="Whether they show a rationale or the answer alone."
    )
    selection: Literal["random", "nearest"] = Field(
        default="random", description="Drawn at random, the same for every question, or the nearest to each question."
    )
    initial_prompt: str = Field(
        default="Let's think step by step.",
        description="The zero-shot prompt: what the result is compared with, and what rationales are written under.",
    )
    max_prompt_tokens: int = Field(
        default=4096,
        ge=1,
        description="Room for the examples; those that do not fit are left out, the last or farthest one first.",
    )

    @field_validator("selection")
    @classmethod
    def _in_turns(cls, value: str, info: ValidationInfo) -> str:
        if value == "nearest" and info.data.get("form") == "text":
            # A text is one prompt for all questions.
            raise PydanticCustomError("selection", "input should be 'random' where method_config.form is 'text'")
        return value


class FewShotState(MethodState, frozen=True):
    """``drawn`` holds the ids of the rows that are shown, in order, or of those that are chosen from."""

    drawn: tuple[str, ...] = ()


class Worked(NamedTuple):
    """A training row with the rationale that the model wrote for it, if one is shown."""

    example: Example
    rationale: str | None = None

    @property
    def text(self) -> str:
        """The row as it stands in a prompt."""
        reasoning = "" if self.rationale is None else f"Reasoning: {self.rationale}\n"
        return f"Question: {self.example.question.strip()}\n{reasoning}Answer: {self.example.target}"

    @property
    def turns(self) -> Demonstration:
        """The row as it stands in front of a question."""
        return self.example.shown._replace(rationale=self.rationale)


class FewShot:
    """The method; stateless."""

    summary = "worked examples from the training rows, nothing optimized"
    source = (
        "Brown et al., NeurIPS 2020, arXiv 2005.14165; Wei et al., NeurIPS 2022, arXiv 2201.11903; "
        "Liu et al., DeeLIO 2022, arXiv 2101.06804"
    )
    seeded = True
    selects_by: Literal["train", "dev"] = "train"
    config_type = FewShotConfig
    state_type = FewShotState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 1}},
        "answer-only": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1},
            "method_config": {"style": "answer-only"},
        },
        "nearest": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1},
            "method_config": {"style": "answer-only", "selection": "nearest"},
        },
    }

    def most_steps(self, config: FewShotConfig, num_rows: int) -> int:
        """Return 1: the prompt is put together at once."""
        return 1

    def start(self, problem: Problem, config: FewShotConfig) -> FewShotState:
        """Tokenize the zero-shot prompt.

        Raises:
            ConfigError: it has no tokens.
        """
        return FewShotState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: FewShotConfig, state: FewShotState) -> tuple[FewShotState, StepInfo]:
        """Draw the demonstrations and put the prompt together: the only step."""
        notes: list[str] = []
        if config.selection == "nearest":
            shown, nearest = pool(problem, config, state, notes)
        else:
            shown, nearest = demonstrations(problem, config, state, notes), 0
        turns = config.form == "turns"
        limit = config.max_prompt_tokens if turns else problem.prompt_limit(config.max_prompt_tokens)
        # How many turns fit beside the rows is known where they are shown.
        while shown and not nearest and (size := _size(problem, config, shown)) > limit:
            notes.append(f"row '{shown[-1].example.id}' is left out: {size} tokens are too many")
            shown = shown[:-1]
        text = prompt_text(config, () if turns else shown, problem.prompt_first)
        ids = problem.encode(text)
        update = {
            "step": state.step + 1,
            "prompt_ids": ids,
            "drawn": tuple(d.example.id for d in shown),
            "demonstrations": tuple(d.turns for d in shown) if turns else (),
            "nearest": nearest,
            "finished": True,
        }
        which = f"the {nearest} nearest of {len(shown)} examples" if nearest else f"{len(shown)} examples"
        info = StepInfo(
            position=None,
            prompt_ids=ids,
            prompt_text=text,
            loss=None,
            best_loss=None,
            accepted=None,
            candidates=(),
            notes=(*notes, f"{which}: {', '.join(d.example.id for d in shown)}"),
        )
        return state.model_copy(update=update), info


def demonstrations(problem: Problem, config: FewShotConfig, state: FewShotState, notes: list[str]) -> list[Worked]:
    """Draw rows at random; with rationales among those that the model answers rightly, cut-off ones last."""
    rng = problem.rng(state.step, "demonstrations")
    rows = list(problem.examples)
    if config.style == "answer-only":
        return [Worked(row) for row in rng.sample(rows, min(config.shots, len(rows)))]
    if not config.shots:
        return []
    right = _answered_rightly(problem, config, state, notes)
    rng.shuffle(right)
    right.sort(key=lambda pair: pair[1].truncated)
    return [Worked(row, record.reasoning_text.strip()) for row, record in right[: config.shots]]


def pool(problem: Problem, config: FewShotConfig, state: FewShotState, notes: list[str]) -> tuple[list[Worked], int]:
    """Return the rows that are chosen from per question, in their order, and how many of them a question is shown.

    With rationales they are those that the model answers rightly; cut-off ones count where there are too few others.
    """
    if not config.shots:
        return [], 0
    if config.style == "answer-only":
        found = [Worked(row) for row in problem.examples]
    else:
        right = _answered_rightly(problem, config, state, notes)
        ended = [pair for pair in right if not pair[1].truncated]
        chosen = ended if len(ended) >= config.shots else right
        found = [Worked(row, record.reasoning_text.strip()) for row, record in chosen]
    count = min(config.shots, len(found))
    # Whatever a question is like, its examples fit.
    longest = sorted((len(problem.encode(d.text)) for d in found), reverse=True)
    while count and (size := sum(longest[:count])) > config.max_prompt_tokens:
        notes.append(f"the farthest of the {count} nearest is left out: {size} tokens are too many")
        count -= 1
    return (found, count) if count else ([], 0)


def _answered_rightly(
    problem: Problem, config: FewShotConfig, state: FewShotState, notes: list[str]
) -> list[tuple[Example, ExampleRecord]]:
    rows = list(problem.examples)
    (records,) = problem.score([state.prompt_ids], rows)
    right = [(row, record) for row, record in zip(rows, records, strict=True) if record.correct]
    if len(right) < config.shots:
        notes.append(f"only {len(right)} of {len(rows)} training rows were answered rightly")
    return right


def prompt_text(config: FewShotConfig, shown: Sequence[Worked], prompt_first: bool = False) -> str:
    """Return the prompt in words for where it stands; without demonstrations it is the zero-shot prompt."""
    if not shown:
        return config.initial_prompt
    numbered = [f"Example {k}\n{d.text}" for k, d in enumerate(shown, 1)]
    opening, closing, answer_only = (
        (OPENING_FIRST, CLOSING_FIRST, CLOSING_ANSWER_ONLY_FIRST)
        if prompt_first
        else (OPENING, CLOSING, CLOSING_ANSWER_ONLY)
    )
    end = answer_only if config.style == "answer-only" else f"{closing} {config.initial_prompt.strip()}"
    return "\n\n".join([opening, *numbered, end])


def _size(problem: Problem, config: FewShotConfig, shown: Sequence[Worked]) -> int:
    """Return how many tokens the examples take: their own texts, or the prompt that they are part of."""
    if config.form == "turns":
        return sum(len(problem.encode(d.text)) for d in shown)
    return len(problem.encode(prompt_text(config, shown, problem.prompt_first)))


PLUGIN = FewShot()

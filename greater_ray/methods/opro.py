"""OPRO: a model is shown earlier prompts with their scores, from worse to better, and writes the next ones.

Yang et al., "Large Language Models as Optimizers", ICLR 2024, arXiv 2309.03409; the form for chat models of the
authors' code. ``docs/methods/opro.md`` lists what differs.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods._archive import Scored, TextState, advanced, candidates, info, start_ids
from greater_ray.methods._proposals import END_TAG, START_TAG, Proposal, clean, propose
from greater_ray.methods._rounds import Round, new_proposals
from greater_ray.methods._writer import TextConfig, chat, placed
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Conversation, Example

# Stands in the meta-prompt where the prompt goes; a reply that repeats it is refused as an unfilled tag.
SLOT = "<SLOT>"

OPENING = (
    "We are searching for a prompt P that a language model gets together with a question, so that it answers more "
    "questions correctly. Below are prompts that were tried, each with the score it reached; a higher score is better."
)
EXAMPLES = f"Here is how P is used. In each case, {SLOT} is where P goes, and the correct answer follows."
REQUEST = (
    "Come up with one prompt P that has not been tried, and that should score higher than every prompt above. Keep it "
    "short, and useful for any question of this kind."
)
FORMAT = f"Put P between {START_TAG} and {END_TAG}."
# What must not come back as a prompt.
WORDING = "\n".join((OPENING, EXAMPLES, REQUEST, FORMAT))


class OproConfig(TextConfig):
    """Options of OPRO; the defaults are those of the authors' code for chat models."""

    temperature: float = Field(default=1.0, ge=0, description="Temperature of the writer; 0 is greedy.")
    num_proposals: int = Field(default=8, ge=1, description="Prompts that are asked for in a step.")
    history: int = Field(default=20, ge=1, description="How many of the best prompts the meta-prompt shows.")
    score_threshold: float = Field(
        default=0.3, ge=0, le=1, description="The accuracy that a prompt must reach to be shown."
    )
    score_buckets: int = Field(default=100, ge=1, description="Scores are shown as one of so many steps.")
    exemplars: int = Field(default=3, ge=0, description="Training rows that are shown.")
    exemplars_by: Literal["random", "wrong", "constant"] = Field(
        default="random", description="Random ones, those answered wrongly most often so far, or the first ones."
    )
    max_characters: int = Field(default=500, ge=1, description="Longer prompts are refused.")
    refuse_digits: bool = Field(default=False, description="Refuses prompts with a digit; the authors did so on GSM8K.")


class OproState(TextState, frozen=True):
    """``wrong`` counts for every training row how many prompts answered it wrongly."""

    wrong: tuple[int, ...] = ()


class Opro:
    """The method; stateless."""

    summary = "a trajectory of prompts sorted by score is the meta-prompt for the next ones"
    source = "Yang et al., ICLR 2024, arXiv 2309.03409"
    seeded = True
    selects_by: Literal["train", "dev"] = "train"
    config_type = OproConfig
    state_type = OproState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 200},
            # Scores are training scores here, so the dev rows are still free to choose among the best.
            "evaluation": {"dev_select_top": 10},
        },
        "short": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 25},
            "evaluation": {"dev_select_top": 10},
        },
    }

    def start(self, problem: Problem, config: OproConfig) -> OproState:
        """Tokenize the initial prompt."""
        return OproState(
            prompt_ids=start_ids(problem, config.initial_prompt),
            wrong=(0,) * len(problem.examples),
        )

    def step(self, problem: Problem, config: OproConfig, state: OproState) -> tuple[OproState, StepInfo]:
        """Ask for a batch of prompts and score them on all training rows."""
        notes: list[str] = []
        archive, wrong = state.archive, state.wrong
        if not archive:
            first = Round(
                problem,
                (),
                [Proposal(config.initial_prompt.strip(), "new", state.prompt_ids)],
                problem.examples,
                state.step,
            )
            archive, wrong = first.archive, counted(wrong, first.rows)
        shown = trajectory(archive, config, notes)
        rows = _exemplars(problem, config, state.step, wrong)
        conversation = meta_prompt(shown, rows, config, problem.prompt_first)
        asked = [conversation] * config.num_proposals
        judge = partial(_filtered, problem, config, archive)
        proposals = new_proposals(problem, asked, config, state.step, "proposals", notes, judge)
        scored = Round(problem, archive, proposals, problem.examples, state.step)
        if not scored.new:
            notes.append("no proposal of this step can be used: the prompts stay as they are")
        best = max(scored.archive, key=lambda s: (s.score, -s.number))
        state = advanced(
            state,
            scored.archive,
            best,
            scored.failed,
            wrong=counted(wrong, scored.rows),
        )
        return state, info(state, best, candidates(proposals, scored.scores), notes)


def trajectory(archive: Sequence[Scored], config: OproConfig, notes: list[str]) -> list[Scored]:
    """Return the best prompts, the best one last; among equals the later one is further down.

    Where no prompt reaches the threshold it does not hold: a model that sees no history repeats itself.
    """
    kept = [scored for scored in archive if scored.score >= config.score_threshold]
    if not kept:
        notes.append(f"no prompt reaches the threshold of {config.score_threshold}: the best ones are shown anyway")
        kept = list(archive)
    return sorted(kept, key=lambda s: (s.score, s.number))[-config.history :]


def bucket(score: float, buckets: int) -> int:
    """Return the nearest of ``buckets`` equal steps between 0 and 1; a half goes to the even one."""
    return round(score * buckets)


def meta_prompt(
    shown: Sequence[Scored], rows: Sequence[Example], config: OproConfig, prompt_first: bool = False
) -> Conversation:
    """Ask for a prompt that is better than the ones shown."""
    parts = [f"{OPENING} Scores run from 0 to {config.score_buckets}."]
    parts.extend(f"Prompt: {s.text}\nScore: {bucket(s.score, config.score_buckets)}" for s in shown)
    if rows:
        parts.append(EXAMPLES)
        parts.extend(f"{placed(row.question, SLOT, prompt_first)}\nCorrect answer: {row.target}" for row in rows)
    return chat("\n\n".join([*parts, REQUEST, FORMAT]))


def counted(wrong: Sequence[int], scored: Sequence[Sequence[ExampleRecord]]) -> tuple[int, ...]:
    """Add one to every row for each prompt that answered it wrongly."""
    return tuple(num + sum(not rows[k].correct for rows in scored) for k, num in enumerate(wrong))


def _exemplars(problem: Problem, config: OproConfig, step: int, wrong: Sequence[int]) -> list[Example]:
    rows = problem.examples
    size = min(config.exemplars, len(rows))
    if config.exemplars_by == "random":
        return problem.rng(step, "exemplars").sample(rows, size)
    if config.exemplars_by == "constant":
        return list(rows[:size])
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: (-wrong[k], k))[:size]]


def _filtered(
    problem: Problem, config: OproConfig, archive: Sequence[Scored], texts: Sequence[str | None]
) -> list[Proposal]:
    """Clean and judge the replies; prompts begin with a capital letter, as in the authors' code."""
    cleaned = [None if text is None else clean(text) for text in texts]
    begun = [text and text[0].upper() + text[1:] for text in cleaned]
    refused = [None if text is None else refusal(text, config) for text in begun]
    # A refused text is no longer judged, so a later one that equals it is refused for the same reason.
    judged = iter(
        propose(
            problem,
            [text for text, reason in zip(begun, refused, strict=True) if reason is None],
            known=[s.text for s in archive],
            max_prompt_tokens=config.max_prompt_tokens,
            meta=WORDING,
        )
    )
    return [
        next(judged) if reason is None else Proposal(text or "", reason)
        for text, reason in zip(begun, refused, strict=True)
    ]


def refusal(text: str, config: OproConfig) -> str | None:
    """Return why OPRO's own rules refuse a prompt, if they do."""
    if len(text) > config.max_characters:
        return "too long"
    if config.refuse_digits and any(c.isdigit() for c in text):
        return "digit"
    return None


PLUGIN = Opro()

"""GPO: prompts as parameters, with a trajectory as momentum and a word limit that decays as a step size.

Tang et al., "Unleashing the Potential of Large Language Models as Prompt Optimizers: Analogical Analysis with
Gradient-based Model Optimizers", AAAI 2025, arXiv 2402.17564. ``docs/methods/gpo.md`` lists what differs.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from greater_ray.methods import _gpo_prompts as prompts
from greater_ray.methods._archive import Scored, TextState, advanced, dev_rows, info, start_ids
from greater_ray.methods._proposals import Proposal, clean, propose
from greater_ray.methods._rounds import Round, find, new_proposals, shuffled
from greater_ray.methods._similarity import SIMILARITIES, Similarity, embedded, tf_idf, word_distance
from greater_ray.methods._trajectory import RankedT, choose, retrieve
from greater_ray.methods._writer import Asker, TextConfig, between, prompt_reader
from greater_ray.protocols import Candidate, Problem, StepInfo
from greater_ray.types import Example
from greater_ray.work import TextEmbeddings, Work


class GpoConfig(TextConfig):
    """Options of GPO; the defaults are the paper's choices, and those of the authors' run script where it is silent.

    The number of steps is ``epochs`` times the number of batches of ``batch_size`` training rows, and the decay of
    the edit limit is stretched over it; the method ends there.
    """

    temperature: float = Field(default=1.0, ge=0, description="Temperature of the writer; 0 is greedy.")
    epochs: int = Field(default=3, ge=1, description="Passes through the training rows.")
    batch_size: int = Field(default=8, ge=1, description="Training rows of one step.")
    num_proposals: int = Field(default=8, ge=1, description="Prompts that are asked for in a step.")
    momentum: Literal["relevance", "recency", "importance", "summary", "none"] = Field(
        default="relevance",
        description="Which earlier prompts are shown: the most alike, the newest, the best, a merged one, or none.",
    )
    trajectory: int = Field(default=3, ge=1, description="How many earlier prompts are shown.")
    similarity: Literal["auto", "embeddings", "tf-idf", "word-overlap"] = Field(
        default="auto", description="What `relevance` goes by; `auto` takes words where the model gives no embeddings."
    )
    order: Literal["ascending", "descending"] = Field(
        default="ascending",
        description="Ascending shows last, nearest to the request, what comes first by its momentum.",
    )
    decay: Literal["cosine", "linear", "fixed", "none"] = Field(
        default="cosine",
        description="How the limit on changed words goes from `max_edit` to `min_edit`; `none` sets no limit.",
    )
    max_edit: int = Field(default=50, ge=1, description="Words that may change at the start.")
    min_edit: int = Field(default=10, ge=1, description="Words that may change at the end.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps in which the limit first rises.")
    refinement: Literal["generate", "edit"] = Field(
        default="generate", description="Whether a new prompt is asked for, or an edited one."
    )
    feedback: bool = Field(default=False, description="Adds the writer's reasons for mistakes on a training batch.")
    reflections: bool = Field(default=False, description="Adds those of earlier steps, chosen as prompts are.")
    exemplars: int = Field(default=3, ge=0, description="Training rows that are shown.")
    exemplars_drawn: Literal["once", "every-step"] = Field(
        default="once", description="Whether these are drawn once or in every step."
    )
    max_response_words: int = Field(default=200, ge=2, description="Responses that are shown are cut to so many words.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.decay in ("cosine", "linear") and self.min_edit > self.max_edit:
            raise ValueError(f"min_edit ({self.min_edit}) must not be above max_edit ({self.max_edit})")
        if self.reflections and not self.feedback:
            raise ValueError("reflections are the feedback of earlier steps, so true needs feedback: true")
        return self


class Reflection(BaseModel, frozen=True, extra="forbid"):
    """Why a prompt led to mistakes, with its score."""

    text: str
    score: float


class GpoState(TextState, frozen=True):
    """``trajectory`` holds the numbers of the prompts that were current, in order; the last one is current now.

    ``merged`` is the number of the prompt that sums up the earlier ones, ``reflections`` what the writer gave for
    reasons, in order.
    """

    trajectory: tuple[int, ...] = (0,)
    merged: int | None = None
    reflections: tuple[Reflection, ...] = ()


class Gpo:
    """The method; stateless."""

    summary = "a trajectory of similar prompts as momentum, and an edit limit with cosine decay"
    source = "Tang et al., AAAI 2025, arXiv 2402.17564"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = GpoConfig
    state_type = GpoState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # The method knows its own number of steps: 18 with 50 rows, 39 with 100. This only bounds it.
        "paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 100}},
        # The paper's baseline that carries SGD with momentum over: a merged prompt, edited without a limit.
        "sgdm": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 100},
            "method_config": {"momentum": "summary", "refinement": "edit", "decay": "none"},
        },
    }

    def most_steps(self, config: GpoConfig, num_rows: int) -> int:
        """Return the number of batches in all epochs."""
        return num_steps(config, num_rows)

    def needs(self, config: GpoConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        without = "set §method_config.similarity to tf-idf"
        return {TextEmbeddings: without} if config.similarity == "embeddings" else {}

    def start(self, problem: Problem, config: GpoConfig) -> GpoState:
        """Tokenize the initial prompt."""
        return GpoState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: GpoConfig, state: GpoState) -> tuple[GpoState, StepInfo]:
        """Ask for a batch of prompts, score the new ones on dev and go on from the best one that is new to the path."""
        notes: list[str] = []
        archive = state.archive
        if not archive:
            text = config.initial_prompt.strip()
            first = Proposal(text, "new", state.prompt_ids)
            archive = Round(problem, (), [first], dev_rows(problem), state.step).archive
        current = archive[state.trajectory[-1]]
        total = num_steps(config, len(problem.examples))
        limit = edit_limit(config, state.step + 1, total)
        archive, merged = _merged(problem, config, state, archive, current, notes)
        reason = _reason(problem, config, state, current, notes)
        reflections = (*state.reflections, *([Reflection(text=reason, score=current.score)] if reason else []))
        otherwise = tf_idf if config.similarity == "auto" else None
        similarity = SIMILARITIES.get(config.similarity) or embedded(problem.model, notes, otherwise)
        momentum = prompts.Momentum(
            past=_past(config, archive, state.trajectory, similarity),
            merged=None if merged in (None, current.number) else archive[merged],
            reasons=_earlier(config, reflections, bool(reason), similarity),
            reason=reason,
        )
        rows = _exemplars(problem, config, state.step)
        edit = config.refinement == "edit"
        conversation = prompts.refine(current, momentum, rows, limit, edit=edit, prompt_first=problem.prompt_first)
        asked = [conversation] * config.num_proposals
        judge = partial(_judged, problem, config, archive)
        proposals = new_proposals(problem, asked, config, state.step, "proposals", notes, judge)
        known = _known(archive, proposals)
        scored = Round(problem, archive, proposals, dev_rows(problem), state.step, [current.number] * len(proposals))
        offered = _offered(archive, known, proposals, scored.new)
        usable = [scored for scored in offered if scored is not None]
        notes.append(_distances(current, usable, limit))
        chosen = select(usable, current, state.trajectory)
        path = state.trajectory
        if chosen is None:
            notes.append("no proposal of this step can be used: the prompt stays")
        elif chosen.number in path:
            notes.append("every proposal was current before: the best of them is taken again")
        if chosen is not None:
            current, path = chosen, (*path, chosen.number)
        failed = scored.failed - sum(k is not None for k in known)
        state = advanced(
            state,
            scored.archive,
            current,
            failed,
            trajectory=path,
            merged=merged,
            reflections=reflections,
            finished=state.step + 1 >= total,
        )
        return state, info(state, current, _shown(known, proposals, offered), notes)


# -- the step size -----------------------------------------------------------------------------------------------------


def num_steps(config: GpoConfig, num_rows: int) -> int:
    """Return epochs times batches; a last batch counts where it is at least half full."""
    batches = num_rows // config.batch_size + (2 * (num_rows % config.batch_size) >= config.batch_size)
    return config.epochs * max(1, batches)


def edit_limit(config: GpoConfig, current: int, total: int) -> int | None:
    """Return how many words step ``current`` (from 1) of ``total`` may change; None without a limit.

    The limit rises linearly during the warm-up; the decay runs over the steps after it. It is at least one word.
    """
    if config.decay == "none":
        return None
    high, low, warm = config.max_edit, config.min_edit, config.warmup_steps
    if current < warm:
        return max(1, high * current // warm)
    if config.decay == "fixed":
        return high
    gone, length = min(current, total) - warm, max(1, total - warm)
    gone = max(0, gone)
    if config.decay == "linear":
        return int(high - (high - low) * gone / length)
    return int(low + (high - low) * (1 + math.cos(math.pi * gone / length)) / 2)


# -- the momentum ------------------------------------------------------------------------------------------------------


def _in_order(config: GpoConfig, chosen: Sequence[RankedT]) -> tuple[RankedT, ...]:
    return tuple(reversed(chosen)) if config.order == "ascending" else tuple(chosen)


def _past(
    config: GpoConfig, archive: Sequence[Scored], trajectory: Sequence[int], similarity: Similarity
) -> tuple[Scored, ...]:
    if config.momentum in ("none", "summary"):
        return ()
    return _in_order(config, retrieve(archive, trajectory, config.trajectory, config.momentum, similarity))


def _earlier(
    config: GpoConfig, reflections: Sequence[Reflection], one_is_new: bool, similarity: Similarity
) -> tuple[str, ...]:
    """Return the reasons of earlier steps that are shown, chosen as prompts are; a new one is shown apart."""
    if not config.reflections or config.momentum in ("none", "summary"):
        return ()
    chosen = choose(reflections[::-1], config.trajectory, config.momentum, similarity)
    apart = reflections[-1] if one_is_new else None
    return tuple(reflection.text for reflection in _in_order(config, chosen) if reflection is not apart)


def _merged(
    problem: Problem,
    config: GpoConfig,
    state: GpoState,
    archive: tuple[Scored, ...],
    current: Scored,
    notes: list[str],
) -> tuple[tuple[Scored, ...], int | None]:
    """Let the writer merge the prompt merged so far with the current one, and score what it writes.

    Returns the archive and the number of the merged prompt; one that cannot be used leaves the one before.
    """
    if config.momentum != "summary":
        return archive, None
    earlier = current.number if state.merged is None else state.merged
    if earlier == current.number:
        return archive, earlier
    asker = Asker(problem, config, state.step, notes=notes)
    texts = asker.gather([prompts.merge(archive[earlier], current)], "merge", prompt_reader("tagged"), temperature=0.0)
    (proposal,) = _judged(problem, config, archive, texts)
    known = find(archive, proposal.text) if proposal.status == "duplicate" else None
    if known is not None:
        return archive, known.number
    if not proposal.usable:
        notes.append(f"no merged prompt that can be used ({proposal.status}): the one before stays")
        return archive, earlier
    archive = Round(problem, archive, [proposal], dev_rows(problem), state.step, [current.number]).archive
    notes.append(f"merged: {archive[-1].text} (score {prompts.percent(archive[-1].score)})")
    return archive, archive[-1].number


def _reason(problem: Problem, config: GpoConfig, state: GpoState, current: Scored, notes: list[str]) -> str:
    """Let the writer explain the mistakes on this step's training batch."""
    if not config.feedback:
        return ""
    k = state.step % (num_steps(config, len(problem.examples)) // config.epochs)
    rows = shuffled(problem, 0)[k * config.batch_size : (k + 1) * config.batch_size]
    (records,) = problem.score([current.ids], rows)
    mistakes = [(e, r) for e, r in zip(rows, records, strict=True) if not r.correct]
    if not mistakes:
        notes.append("no mistakes on the training batch: no feedback")
        return ""
    asker = Asker(problem, config, state.step, notes=notes)
    asked = [prompts.explain(current, mistakes, config.max_response_words)]
    (text,) = asker.gather(asked, "feedback", between(*prompts.FEEDBACK_TAGS), temperature=0.0)
    if not (text or "").strip():
        notes.append("no readable feedback")
    return (text or "").strip()


# -- refinement and selection ------------------------------------------------------------------------------------------


def select(offered: Sequence[Scored], current: Scored, trajectory: Sequence[int]) -> Scored | None:
    """Return the best prompt that was never current, else the best one that was, else None.

    It is taken even if it is worse than the current one, which itself is no choice (the authors' code sets its score
    to 0). Among equals the first one is taken.
    """
    others = [scored for scored in offered if scored.number != current.number]
    fresh = [scored for scored in others if scored.number not in trajectory]
    return max(fresh or others, key=lambda s: s.score, default=None)


def _exemplars(problem: Problem, config: GpoConfig, step: int) -> list[Example]:
    rows, drawn_at = problem.examples, step if config.exemplars_drawn == "every-step" else 0
    return problem.rng(drawn_at, "exemplars").sample(rows, min(config.exemplars, len(rows)))


def _judged(
    problem: Problem, config: GpoConfig, archive: Sequence[Scored], texts: Sequence[str | None]
) -> list[Proposal]:
    """Clean and judge the replies; prompts begin with a capital letter."""
    cleaned = [None if text is None else clean(text) for text in texts]
    begun = [text and text[0].upper() + text[1:] for text in cleaned]
    return propose(
        problem,
        begun,
        known=[scored.text for scored in archive],
        max_prompt_tokens=config.max_prompt_tokens,
        meta=prompts.WORDING,
    )


def _known(archive: Sequence[Scored], proposals: Sequence[Proposal]) -> list[int | None]:
    """Return for every proposal the number of the scored prompt that it repeats, if it does."""
    same = [find(archive, p.text) if p.status == "duplicate" else None for p in proposals]
    return [None if scored is None else scored.number for scored in same]


def _offered(
    archive: Sequence[Scored], known: Sequence[int | None], proposals: Sequence[Proposal], new: Sequence[Scored]
) -> list[Scored | None]:
    """Return every proposal as it was scored, now or before; None for those that cannot be used."""
    fresh = iter(new)
    return [
        archive[number] if number is not None else next(fresh) if proposal.usable else None
        for number, proposal in zip(known, proposals, strict=True)
    ]


def _shown(
    known: Sequence[int | None], proposals: Sequence[Proposal], offered: Sequence[Scored | None]
) -> tuple[Candidate, ...]:
    """Return the candidates for the record: a known prompt with the score it has, the others as they fared."""
    shown = []
    for number, proposal, scored in zip(known, proposals, offered, strict=True):
        if scored is not None:
            status = "scored" if number is None else "known"
            shown.append(Candidate(None, scored.text, None, 1 - scored.score, status))
        else:
            shown.append(Candidate(None, proposal.text, None, None, proposal.status))
    return tuple(shown)


def _distances(current: Scored, offered: Sequence[Scored], limit: int | None) -> str:
    """Say how many words the proposals change: the limit is only asked for, so this tells whether it was kept."""
    changed = [word_distance(current.text, scored.text) for scored in offered]
    if limit is None:
        return f"no edit limit; words changed: {changed}"
    over = sum(num > limit for num in changed)
    return f"edit limit {limit} words; words changed: {changed}; above the limit: {over} of {len(changed)}"


PLUGIN = Gpo()

"""GReaTer, raced: moves at any position by one gradient, and a prompt is left only for one that is better beyond noise.

What it changes of GReaTer (Das et al., ICLR 2025), and why, stands in ``docs/methods/greater-race.md``:

* several start prompts race first, then what is shown in front of the questions;
* one backward pass ranks changes at all positions together, and rows that are shown are exchanged, too;
* prompts are compared by the answers as the task reads them and by the label's share, without a fluency term: the
  candidates are tokens that the model itself finds likely there, as in Eq. 3 and 4;
* the current prompt runs along, on the same rows, and what is not better than it beyond noise is not taken;
* the result is checked on dev rows against the start, which stays where nothing is better.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from greater_ray.config import Config
from greater_ray.methods._archive import dev_rows, start_ids
from greater_ray.methods._moves import Move, deleting, gradient, inserting, replacing, showing
from greater_ray.methods._race import Losses, Runner, cut, lead, losses, order, race
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo
from greater_ray.types import Example, LossSpec, Shown, TokenIds
from greater_ray.work import CheckPrompts, PromptGradients, PromptRoom, Work

CHOICES = "{choices}"
STARTS = (
    "Use proper logical reasoning and think step by step. Finally, give the actual correct answer.",
    "Let's think step by step.",
    "Answer the question.",
    f"Answer with {CHOICES}.",
)
# A prompt that names more labels is about labels, and no longer about the task.
MOST_CHOICES = 10


class GreaterRaceConfig(Config):
    """Options of the race; there is no paper, the numbers were chosen by hand."""

    starts: tuple[str, ...] = Field(
        default=STARTS,
        min_length=1,
        description="Prompts that race; the first one is the start that the result is compared with. `{choices}` "
        "stands for the task's labels: where there are none, or more than ten, such a prompt is left out.",
    )
    contexts: tuple[Literal["drawn", "nearest"], ...] = Field(
        default=("drawn", "nearest"),
        description="What races in front of the questions against nothing: drawn training rows, or the nearest ones.",
    )
    shots: int = Field(default=4, ge=1, description="Training rows that are shown in front of a question.")
    draws: int = Field(default=8, ge=1, description="How many times they are drawn.")
    gradient_rows: int = Field(default=20, ge=1, description="Training rows of a backward pass, in whole heats.")
    num_raced: int = Field(default=8, ge=1, description="Changes that race in a step.")
    per_position: int = Field(default=2, ge=1, description="How many of them are at one position at most.")
    top_k: int = Field(
        default=10, ge=1, description="A token may stand where it is among so many likeliest ones for half of the rows."
    )
    moves: tuple[Literal["replace", "insert", "delete", "show"], ...] = Field(
        default=("replace", "insert", "delete", "show"),
        description="Kinds of changes: of tokens, and of the rows that are shown.",
    )
    token_filter: Literal["none", "ascii", "letters", "released"] = Field(
        default="ascii", description="Which tokens may stand in a prompt."
    )
    heat: int = Field(
        default=10,
        ge=1,
        description="Rows that all answer before any is left out; again after two heats, after four, and so on.",
    )
    margin: float = Field(
        default=1.0, ge=0, description="Standard errors that make a change better than the current prompt."
    )
    behind: float = Field(default=2.0, ge=0, description="Standard errors behind the leader that end a race.")
    share_weight: float = Field(
        default=1.0, ge=0, description="What the label's share counts beside right answers; 0 goes by answers alone."
    )
    finalists: int = Field(
        default=3, ge=1, description="How many of those that are ahead on training rows answer the dev rows."
    )
    confidence: float = Field(
        default=1.0,
        ge=0,
        description="Standard errors that the result has to be ahead of the start on training and dev rows together.",
    )
    max_prompt_tokens: int = Field(default=64, ge=1, description="Tokens of a prompt at most.")

    @field_validator("starts")
    @classmethod
    def _first_is_the_same_for_every_task(cls, starts: tuple[str, ...]) -> tuple[str, ...]:
        if CHOICES in starts[0]:
            raise ValueError(f"the first start cannot hold {CHOICES}: some tasks have none to name")
        return starts


class GreaterRaceState(MethodState, frozen=True):
    """``shown`` are the ids of the demonstrations that the search goes on with, of which the ``nearest_of`` nearest.

    ``demonstrations`` and ``nearest`` are those of the result, ``best`` its loss on dev rows. ``tried`` holds prompts
    that have lost against the current one: they do not race against it again.
    """

    shown: tuple[str, ...] = ()
    nearest_of: int = 0
    tried: tuple[TokenIds, ...] = ()


class GreaterRace:
    """The method; stateless, so one instance serves every trial."""

    summary = "GReaTer with changes at any position, raced on paired rows and taken only where they are better"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    source = "this project; after Das et al., ICLR 2025, arXiv 2412.09722"
    config_type = GreaterRaceConfig
    state_type = GreaterRaceState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 20}},
    }

    def needs(self, config: GreaterRaceConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        return {PromptGradients: ""}

    def start(self, problem: Problem, config: GreaterRaceConfig) -> GreaterRaceState:
        """Tokenize the first start prompt: what the result is compared with.

        Raises:
            ConfigError: it has no tokens.
        """
        return GreaterRaceState(prompt_ids=start_ids(problem, config.starts[0], "starts"))

    def step(
        self, problem: Problem, config: GreaterRaceConfig, state: GreaterRaceState
    ) -> tuple[GreaterRaceState, StepInfo]:
        """Let start prompts and contexts race in the first steps, and changes of the best in all others."""
        notes: list[str] = []
        heats = _heats(problem, config, state.step)
        now = Runner(state.prompt_ids, _shown(problem, state), state.prompt_ids)
        opening = _opening(config, state)
        if opening is None:
            moves = _moves(problem, config, state, now, heats, notes)
        else:
            moves = [Move(runner, text=text) for text, runner in _openings(problem, config, now, opening, notes)]
        runners = [now, *(move.runner for move in moves)]
        found = race(problem, runners, heats, margin=config.behind, weight=config.share_weight)
        # No start and no context has a right to stay; against changes of what was found, the current prompt has.
        margin = config.margin if opening is None else 0.0
        place = _taken(problem, config, runners, heats, found, margin)
        taken = runners[place]._replace(under=runners[place].prompt)
        state = state.model_copy(
            update={
                "step": state.step + 1,
                "prompt_ids": taken.prompt,
                "shown": tuple(d.id for d in taken.shown.rows),
                "nearest_of": taken.shown.nearest,
                "tried": () if place else (*state.tried, *(r.prompt for r in runners if r.prompt != now.prompt)),
            }
        )
        best = state.best
        ahead = [p for p in order(found) if p and lead(found[p], found[0]).beyond(margin)][: config.finalists]
        finalists = [taken, *(runners[p]._replace(under=runners[p].prompt) for p in ahead if p != place)]
        state = _with_result(problem, config, state, finalists, heats, notes)
        state = state.model_copy(update={"steps_since_best": state.steps_since_best + 1 if state.best == best else 0})
        info = StepInfo(
            position=moves[place - 1].position if place else None,
            prompt_ids=taken.prompt,
            prompt_text=problem.model.ask(CheckPrompts([taken.prompt]))[0].text,
            loss=_mean(found[place]),
            best_loss=state.best[0][0],
            accepted=place,
            candidates=_candidates(problem, now, moves, found),
            notes=tuple(notes),
        )
        return state, info


# -- who races ---------------------------------------------------------------------------------------------------------


def _heats(problem: Problem, config: GreaterRaceConfig, step: int) -> list[Sequence[Example]]:
    """Return the training rows in heats that never change, in the order in which this step runs through them."""
    rows = problem.rng(0, "rows").sample(problem.examples, len(problem.examples))
    heats = cut(rows, config.heat)
    return problem.rng(step, "heats").sample(heats, len(heats))


def _opening(config: GreaterRaceConfig, state: GreaterRaceState) -> str | None:
    """Return what races in this step before any change does: starts, contexts, and starts again in the best context."""
    stages = ["starts"] * (len(config.starts) > 1) + ["contexts"] * bool(config.contexts)
    if len(stages) == 2 and state.shown:
        stages.append("starts")
    return stages[state.step] if state.step < len(stages) else None


def _openings(
    problem: Problem, config: GreaterRaceConfig, now: Runner, which: str, notes: list[str]
) -> list[tuple[str, Runner]]:
    """Return what races against the current prompt: other prompts in its context, or other contexts for it."""
    if which == "starts":
        prompts = {text: start_ids(problem, text, "starts") for text in _starts(problem, config)}
        found = [("", Runner(prompt, now.shown, prompt)) for prompt in prompts.values()]
    else:
        found = [(text, now._replace(shown=some)) for text, some in _contexts(problem, config)]
    others = [pair for pair in found if pair[1] != now]
    fitting = [pair for pair in others if _fits(problem, pair[1])]
    if len(fitting) < len(others):
        notes.append(f"{len(others) - len(fitting)} starts do not fit the context window and are left out")
    return fitting


def _starts(problem: Problem, config: GreaterRaceConfig) -> list[str]:
    """Return the start prompts as this task reads them."""
    *others, last = problem.choices or ("",)
    named = f"{', '.join(others)} or {last}" if others else last
    known = 0 < len(problem.choices) <= MOST_CHOICES
    return [text.replace(CHOICES, named) for text in config.starts if known or CHOICES not in text]


def _contexts(problem: Problem, config: GreaterRaceConfig) -> list[tuple[str, Shown]]:
    """Return what may stand in front of the questions; half of the rows at most, so that the others can race."""
    rows, rng = problem.examples, problem.rng(0, "demonstrations")
    shots = min(config.shots, len(rows) // 2)
    contexts: list[tuple[str, Shown]] = []
    if "drawn" in config.contexts and shots:
        drawn = dict.fromkeys(tuple(row.shown for row in rng.sample(rows, shots)) for _ in range(config.draws))
        contexts += [(f"{shots} drawn rows", Shown(some)) for some in drawn]
    if "nearest" in config.contexts and len(rows) > 1:
        count = min(config.shots, len(rows) - 1)
        contexts.append((f"the {count} nearest rows", Shown(tuple(row.shown for row in rows), count)))
    return contexts


def _fits(problem: Problem, runner: Runner) -> bool:
    room = runner.view(problem).model.ask(PromptRoom((*problem.examples, *problem.dev)))
    return room is None or len(runner.prompt) <= room


def _shown(problem: Problem, state: GreaterRaceState) -> Shown:
    rows = {row.id: row.shown for row in problem.examples}
    return Shown(tuple(rows[name] for name in state.shown), state.nearest_of)


def _moves(
    problem: Problem,
    config: GreaterRaceConfig,
    state: GreaterRaceState,
    now: Runner,
    heats: Sequence[Sequence[Example]],
    notes: list[str],
) -> list[Move]:
    """Return the changes that race in this step: those that the gradient finds steepest, and a few that it cannot rank.

    One of four inserts a token, one of four takes one out and one of four shows other rows, where that is wanted.
    """
    rng, wanted = problem.rng(state.step, "moves"), config.moves
    found = None
    if {"replace", "insert"} & {*wanted}:
        some = heats[: math.ceil(config.gradient_rows / config.heat)]
        # The label's term alone: its share among the choices where answers are a closed set, else its likelihood.
        loss = LossSpec(fluency="nll", fluency_weight=0.0, label="choice" if problem.choices else "ce")
        found = gradient(problem, now, some, loss, config.top_k, config.token_filter)
    longer = len(now.prompt) < problem.prompt_limit(config.max_prompt_tokens)
    pools = [
        showing(problem, now, rng) if "show" in wanted else [],
        inserting(now, found, rng) if found and "insert" in wanted and longer else [],
        deleting(now, rng) if "delete" in wanted else [],
        replacing(problem, now, found) if found and "replace" in wanted else [],
    ]
    few = max(1, config.num_raced // 4)
    chosen: list[Move] = []
    for pool, limit in zip(pools, (few, few, few, config.num_raced), strict=True):
        chosen += _chosen(problem, config, pool, {*state.tried, now.prompt}, min(limit, config.num_raced - len(chosen)))
    if not chosen:
        notes.append("no change is left to try: the prompt stays")
    return chosen


def _chosen(
    problem: Problem, config: GreaterRaceConfig, pool: Sequence[Move], tried: set[TokenIds], limit: int
) -> list[Move]:
    """Return the first moves that are new, keep to ``per_position`` and survive being read as text again."""
    at: Counter[int] = Counter()
    new = [move for move in pool if move.position is None or move.runner.prompt not in tried]
    checks = problem.model.ask(CheckPrompts([move.runner.prompt for move in new])) if new else []
    chosen: list[Move] = []
    for move, check in zip(new, checks, strict=True):
        if len(chosen) == limit:
            break
        if move.position is None:
            chosen.append(move)
        elif check.survives and at[move.position] < config.per_position:
            at[move.position] += 1
            chosen.append(move)
    return chosen


# -- what is taken -----------------------------------------------------------------------------------------------------


def _taken(
    problem: Problem,
    config: GreaterRaceConfig,
    runners: Sequence[Runner],
    heats: Sequence[Sequence[Example]],
    found: dict[int, Losses],
    margin: float,
) -> int:
    """Return the place of the best runner if it is ahead of the first one by ``margin`` standard errors, else 0.

    Changes race with the demonstrations as the current prompt asks them; as it will be used, the demonstrations are
    asked under the new one. So it is measured in that way too, and has to be ahead there.
    """
    place = order(found)[0]
    if not place or not lead(found[place], found[0]).beyond(margin):
        return 0
    taken = runners[place]
    if taken.shown and taken.under != taken.prompt:
        asked = [runners[0], taken._replace(under=taken.prompt)]
        again = race(problem, asked, heats, margin=config.behind, weight=config.share_weight)
        if 1 not in again or not lead(again[1], again[0]).beyond(margin):
            return 0
        found[place] = again[1]
    return place


def _with_result(
    problem: Problem,
    config: GreaterRaceConfig,
    state: GreaterRaceState,
    finalists: Sequence[Runner],
    heats: Sequence[Sequence[Example]],
    notes: list[str],
) -> GreaterRaceState:
    """Make the finalist that is the best so far on dev rows the result, if it is ahead of the start beyond noise.

    It has to be ahead on dev rows, which have not chosen it; how far, all rows tell together.
    """
    start = Runner(start_ids(problem, config.starts[0], "starts"))
    before, *others = losses(problem, [start, *finalists], dev_rows(problem), config.share_weight)
    if not state.best:
        state = state.model_copy(update={"best": ((_mean(before), start.prompt),), "initial_loss": _mean(before)})
    place = min(range(len(others)), key=lambda k: _mean(others[k]))
    own, found = others[place], finalists[place]
    if _mean(own) >= state.best[0][0]:
        return state
    loss = _mean(own)
    for rows in heats:
        ours, theirs = losses(problem, [found, start], rows, config.share_weight)
        own, before = own | ours, before | theirs
    if not lead(own, before).beyond(config.confidence):
        notes.append("not ahead of the start beyond noise: the result stays")
        return state
    update = {
        "best": ((loss, found.prompt),),
        "demonstrations": found.shown.rows,
        "nearest": found.shown.nearest,
    }
    return state.model_copy(update=update)


def _candidates(
    problem: Problem, now: Runner, moves: Sequence[Move], found: Mapping[int, Losses]
) -> tuple[Candidate, ...]:
    """Return who raced, for the record; who was left out before all rows were answered has no loss."""
    tried = [Move(now), *moves]
    texts = [check.text.strip() for check in problem.model.ask(CheckPrompts([move.runner.prompt for move in tried]))]
    return tuple(
        Candidate(
            None,
            f"{text} [{move.text}]" if move.position is None and move.text else text,
            move.slope,
            _mean(found[place]) if place in found else None,
            "scored" if place in found else "left out",
        )
        for place, (move, text) in enumerate(zip(tried, texts, strict=True))
    )


def _mean(own: Losses) -> float:
    return math.fsum(own.values()) / len(own)


PLUGIN = GreaterRace()

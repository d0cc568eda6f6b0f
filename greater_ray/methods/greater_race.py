"""GReaTer, raced: moves at any position by one gradient, and a prompt is left only for one that is better beyond noise.

What it changes of GReaTer (Das et al., ICLR 2025), and why, stands in ``docs/methods/greater-race.md``:

* several start prompts, with and without demonstrations, race first;
* one backward pass ranks changes at all positions together;
* prompts are compared by the answers as the task reads them and by the label's share, without a fluency term: the
  candidates are tokens that the model itself finds likely there, as in Eq. 3 and 4;
* the current prompt runs along, on the same rows, and what is not better than it beyond noise is not taken;
* the result is checked on dev rows against the start, which stays where nothing is better.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from greater_ray.config import Config
from greater_ray.methods._archive import dev_rows, start_ids
from greater_ray.methods._race import Runner, lead, losses, race
from greater_ray.methods._tokens import replaced
from greater_ray.protocols import Candidate, MethodState, Problem, StepInfo
from greater_ray.types import Example, LossSpec, Shown, TokenIds
from greater_ray.work import (
    Answers,
    CheckPrompts,
    OneHotGradient,
    PromptGradients,
    PromptRoom,
    Proposals,
    TokenTexts,
    Work,
)

STARTS = (
    "Use proper logical reasoning and think step by step. Finally, give the actual correct answer.",
    "Let's think step by step.",
    "Answer the question.",
)


class GreaterRaceConfig(Config):
    """Options of the race; there is no paper, the numbers were chosen by hand."""

    starts: tuple[str, ...] = Field(
        default=STARTS,
        min_length=1,
        description="Prompts that race first; the first one is the start that the result is compared with.",
    )
    contexts: tuple[Literal["none", "drawn", "nearest"], ...] = Field(
        default=("none", "drawn", "nearest"),
        min_length=1,
        description="What they race with: no demonstrations, `shots` drawn training rows, or the `shots` nearest.",
    )
    shots: int = Field(default=4, ge=1, description="Training rows that are shown in front of a question.")
    gradient_rows: int = Field(default=25, ge=1, description="Training rows of a backward pass.")
    label_loss: Literal["ce", "choice"] = Field(
        default="ce",
        description="The label's term of the gradient's loss: its cross-entropy, or minus the log of its share among "
        "the task's choices.",
    )
    num_raced: int = Field(default=8, ge=1, description="Changes of the prompt that race in a step.")
    per_position: int = Field(default=2, ge=1, description="How many of them are at one position at most.")
    proposal_samples: int = Field(
        default=5, ge=1, description="Rows that are asked for likely tokens; half of them must find one likely."
    )
    top_k: int = Field(default=10, ge=1, description="How many tokens are likely for a row.")
    moves: tuple[Literal["replace", "insert", "delete"], ...] = Field(
        default=("replace", "insert", "delete"), description="Kinds of changes."
    )
    token_filter: Literal["none", "ascii", "letters", "released"] = Field(
        default="ascii", description="Which tokens may stand in a prompt."
    )
    first_rows: int = Field(
        default=8, ge=2, description="Rows that all answer before any is left out; then as many again, and so on."
    )
    margin: float = Field(
        default=1.0, ge=0, description="Standard errors that make a difference on training rows more than noise."
    )
    share_weight: float = Field(
        default=1.0, ge=0, description="What the label's share counts beside right answers; 0 goes by answers alone."
    )
    confidence: float = Field(
        default=1.64, ge=0, description="Standard errors that the result has to be ahead of the start on dev rows."
    )
    max_prompt_tokens: int = Field(default=64, ge=1, description="Tokens of a prompt at most.")

    @property
    def loss(self) -> LossSpec:
        """The loss whose gradient ranks changes: the label's term alone."""
        return LossSpec(fluency="nll", fluency_weight=0.0, label=self.label_loss)


class GreaterRaceState(MethodState, frozen=True):
    """``shown`` are the ids of the demonstrations that the search goes on with, of which the ``nearest_of`` nearest.

    ``demonstrations`` and ``nearest`` are those of the result, ``best`` its loss on dev rows. ``tried`` holds prompts
    that have lost against the current one: they do not race against it again.
    """

    shown: tuple[str, ...] = ()
    nearest_of: int = 0
    tried: tuple[TokenIds, ...] = ()


class Move(NamedTuple):
    """A changed prompt, the change in words, and what the gradient predicts of the loss, where it does."""

    prompt: TokenIds
    position: int
    token: int | None
    text: str
    slope: float | None = None


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
        return GreaterRaceState(prompt_ids=start_ids(problem, config.starts[0]))

    def step(
        self, problem: Problem, config: GreaterRaceConfig, state: GreaterRaceState
    ) -> tuple[GreaterRaceState, StepInfo]:
        """Let the start prompts race in the first step, changes of the current prompt in every other one."""
        notes: list[str] = []
        rows = _shuffled(problem, state.step)
        if state.step:
            now = Runner(state.prompt_ids, _shown(problem, state), state.prompt_ids)
            moves = _moves(problem, config, state, now, rows, notes)
            runners = [now, *(Runner(move.prompt, now.shown, now.prompt) for move in moves)]
        else:
            moves, runners = [], _starts(problem, config, state, notes)
        found = race(problem, runners, rows, first=config.first_rows, margin=config.margin, weight=config.share_weight)
        # The first one is what the others are compared with, whether or not it was in front.
        found[0] = losses(problem, runners[0], rows, config.share_weight)
        place = _taken(problem, config, runners, rows, found)
        taken = runners[place]
        behind = tuple(move.prompt for move in moves)
        state = state.model_copy(
            update={
                "step": state.step + 1,
                "prompt_ids": taken.prompt,
                "shown": tuple(d.id for d in taken.shown.rows),
                "nearest_of": taken.shown.nearest,
                "tried": () if place else (*state.tried, *behind),
            }
        )
        best = state.best
        state = _with_result(problem, config, state, taken, notes)
        state = state.model_copy(update={"steps_since_best": state.steps_since_best + 1 if state.best == best else 0})
        info = StepInfo(
            position=moves[place - 1].position if place and moves else None,
            prompt_ids=taken.prompt,
            prompt_text=problem.model.ask(CheckPrompts([taken.prompt]))[0].text,
            loss=_mean(found[place]),
            best_loss=state.best[0][0],
            accepted=place,
            candidates=_candidates(problem, runners, moves, found),
            notes=tuple(notes),
        )
        return state, info


# -- the start ---------------------------------------------------------------------------------------------------------


def _starts(problem: Problem, config: GreaterRaceConfig, state: GreaterRaceState, notes: list[str]) -> list[Runner]:
    """Return every start prompt in every context; the first one is the start that the result is compared with."""
    shots = min(config.shots, len(problem.examples))
    drawn = problem.rng(0, "demonstrations").sample(problem.examples, shots)
    contexts = {
        "none": Shown(),
        "drawn": Shown(tuple(row.shown for row in drawn)),
        "nearest": Shown(tuple(row.shown for row in problem.examples), shots),
    }
    prompts = [start_ids(problem, text) for text in config.starts]
    runners = [Runner(p, contexts[name], p) for name in config.contexts for p in prompts]
    runners = list(dict.fromkeys([Runner(state.prompt_ids, Shown(), state.prompt_ids), *runners]))
    fitting = [runner for runner in runners if _fits(problem, runner)]
    if len(fitting) < len(runners):
        notes.append(f"{len(runners) - len(fitting)} starts do not fit the context window and are left out")
    return fitting


def _fits(problem: Problem, runner: Runner) -> bool:
    room = runner.view(problem).model.ask(PromptRoom((*problem.examples, *problem.dev)))
    return room is None or len(runner.prompt) <= room


def _shown(problem: Problem, state: GreaterRaceState) -> Shown:
    rows = {row.id: row.shown for row in problem.examples}
    return Shown(tuple(rows[name] for name in state.shown), state.nearest_of)


def _shuffled(problem: Problem, step: int) -> list[Example]:
    """Return the training rows in the order in which this step's race answers them."""
    return problem.rng(step, "rows").sample(problem.examples, len(problem.examples))


# -- changes of a prompt -----------------------------------------------------------------------------------------------


def _moves(
    problem: Problem,
    config: GreaterRaceConfig,
    state: GreaterRaceState,
    now: Runner,
    rows: Sequence[Example],
    notes: list[str],
) -> list[Move]:
    """Return the changes that race in this step: those that the gradient finds steepest, and a few that it cannot rank.

    One of four inserts a token and one of four takes one out, where these moves are wanted.
    """
    rng, likely = problem.rng(state.step, "moves"), _likely(problem, config, now, state.step)
    room = problem.prompt_limit(config.max_prompt_tokens) - len(now.prompt)
    pools = {
        "replace": _replacing(problem, config, now, rows, likely) if "replace" in config.moves else [],
        "insert": _inserting(now, likely) if "insert" in config.moves and room > 0 else [],
        "delete": _deleting(now) if "delete" in config.moves and len(now.prompt) > 1 else [],
    }
    for name in ("insert", "delete"):
        rng.shuffle(pools[name])
    tried = {*state.tried, now.prompt}
    others = max(1, config.num_raced // 4)
    chosen: list[Move] = []
    for name, limit in (("insert", others), ("delete", others), ("replace", config.num_raced)):
        at: Counter[int] = Counter()
        taken = 0
        for move in pools[name]:
            if len(chosen) == config.num_raced or taken == limit:
                break
            if move.prompt in tried or at[move.position] == config.per_position:
                continue
            if problem.model.ask(CheckPrompts([move.prompt]))[0].survives:
                chosen.append(move)
                taken += 1
                at[move.position] += 1
            tried.add(move.prompt)
    if not chosen:
        notes.append("no change is left to try: the prompt stays")
    return chosen


def _likely(problem: Problem, config: GreaterRaceConfig, now: Runner, step: int) -> list[list[int]]:
    """Return for every position the tokens that at least half of the asked rows find likely there (Eq. 3, 4)."""
    asked = problem.rng(step, "proposals").sample(problem.examples, min(config.proposal_samples, len(problem.examples)))
    model, found = now.view(problem).model, []
    for position in range(len(now.prompt)):
        lists = model.ask(Proposals(asked, now.prompt, position, config.top_k, config.token_filter))
        counts = Counter(token for tokens in lists for token in set(tokens))
        found.append([token for token, num in sorted(counts.items()) if 2 * num >= len(asked)])
    return found


def _replacing(
    problem: Problem, config: GreaterRaceConfig, now: Runner, rows: Sequence[Example], likely: list[list[int]]
) -> list[Move]:
    """Rank one other token at one position by the first-order change of the loss, the steepest descent first."""
    view, some = now.view(problem), rows[: config.gradient_rows]
    (answers,) = view.model.ask(Answers(some, [now.prompt], score_choices=problem.score_choices))
    reasoning = [answer.rollout.reasoning for answer in answers]
    backward = view.model.ask(PromptGradients(some, now.prompt, config.loss, reasoning=reasoning))
    moves = []
    for position, tokens in enumerate(likely):
        own = now.prompt[position]
        others = [token for token in tokens if token != own]
        here, *slopes = view.model.ask(OneHotGradient(backward.gradient[position], [own, *others]))
        texts = problem.model.ask(TokenTexts(others))
        moves += [
            Move(replaced(now.prompt, position, token), position, token, text, slope - here)
            for token, text, slope in zip(others, texts, slopes, strict=True)
        ]
    return sorted(moves, key=lambda move: (move.slope, move.position, move.token))


def _inserting(now: Runner, likely: list[list[int]]) -> list[Move]:
    return [
        Move((*now.prompt[:position], token, *now.prompt[position:]), position, token, "")
        for position, tokens in enumerate(likely)
        for token in tokens
    ]


def _deleting(now: Runner) -> list[Move]:
    return [
        Move((*now.prompt[:position], *now.prompt[position + 1 :]), position, None, "")
        for position in range(len(now.prompt))
    ]


# -- what is taken -----------------------------------------------------------------------------------------------------


def _taken(
    problem: Problem,
    config: GreaterRaceConfig,
    runners: Sequence[Runner],
    rows: Sequence[Example],
    found: dict[int, list[float]],
) -> int:
    """Return the place of the best runner if it is ahead of the first one beyond noise, else 0.

    Changes race with the demonstrations as the current prompt asks them; as it will be used, the demonstrations are
    asked under the new one. So it is measured in that way too, and has to be ahead there.
    """
    place = min(found, key=lambda k: (math.fsum(found[k]), k))
    if not place or not lead(found[place], found[0]).beyond(config.margin):
        return 0
    taken = runners[place]
    if taken.shown and taken.under != taken.prompt:
        found[place] = losses(problem, taken._replace(under=taken.prompt), rows, config.share_weight)
        if not lead(found[place], found[0]).beyond(config.margin):
            return 0
    return place


def _with_result(
    problem: Problem, config: GreaterRaceConfig, state: GreaterRaceState, taken: Runner, notes: list[str]
) -> GreaterRaceState:
    """Make the taken prompt the result where dev rows say that it is the best so far, and ahead of the start."""
    rows, weight = dev_rows(problem), config.share_weight
    start = start_ids(problem, config.starts[0])
    before = losses(problem, Runner(start), rows, weight)
    if not state.best:
        state = state.model_copy(update={"best": ((_mean(before), start),), "initial_loss": _mean(before)})
    own = losses(problem, taken._replace(under=taken.prompt), rows, weight)
    if _mean(own) >= state.best[0][0]:
        return state
    if not lead(own, before).beyond(config.confidence):
        notes.append("on dev rows not ahead of the start beyond noise: the result stays")
        return state
    update = {
        "best": ((_mean(own), taken.prompt),),
        "demonstrations": taken.shown.rows,
        "nearest": taken.shown.nearest,
    }
    return state.model_copy(update=update)


def _candidates(
    problem: Problem, runners: Sequence[Runner], moves: Sequence[Move], found: Mapping[int, list[float]]
) -> tuple[Candidate, ...]:
    """Return who raced, for the record; who was left out before all rows were answered has no loss."""
    texts = [check.text for check in problem.model.ask(CheckPrompts([runner.prompt for runner in runners]))]
    shown = []
    for place, (runner, text) in enumerate(zip(runners, texts, strict=True)):
        slope = moves[place - 1].slope if moves and place else None
        loss = _mean(found[place]) if place in found else None
        which = f" [{runner.shown.count} demonstrations]" if runner.shown and not moves else ""
        shown.append(Candidate(None, text.strip() + which, slope, loss, "scored" if place in found else "left out"))
    return tuple(shown)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


PLUGIN = GreaterRace()

"""ProTeGi: gradients in words, edits against them, paraphrases around them, and a bandit that picks the next beam.

Pryzant et al., "Automatic Prompt Optimization with 'Gradient Descent' and Beam Search", EMNLP 2023; Algorithms 1 to 4.
The variant that the GReaTer paper compares with is ``apo``.

One step expands one prompt of the beam, or does one turn of the evaluator.
"""

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, Field

from greater_ray.methods import _bandits as bandits
from greater_ray.methods._archive import Scored, TextState, start_ids
from greater_ray.methods._failures import Failure, draw, failures_in
from greater_ray.methods._proposals import END_TAG, START_TAG, Proposal, propose
from greater_ray.methods._protegi_prompts import REASON_TAGS, all_tagged, edit_request, gradient_request
from greater_ray.methods._writer import (
    Asker,
    RewriteConfig,
    only_duplicates,
    paraphrase_request,
    prompt_reader,
    wording,
)
from greater_ray.protocols import NUM_BEST, Candidate, Problem, StepInfo
from greater_ray.types import TokenIds

# With ``reject_on_errors`` prompts are tried on so many wrong answers of their parent.
MOST_ERRORS = 16


class ProtegiConfig(RewriteConfig):
    """Options of ProTeGi; the defaults are those of the authors' code.

    Sample sizes are at most what there is. ``reply`` is the form of the paraphrases; gradients and edits always stand
    between tags. The evaluators and their budget are described in ``_bandits``.
    """

    max_new_tokens: int = Field(default=1024, ge=1, description="Tokens that a reply of the writer may have.")
    max_words: int | None = Field(
        default=None, ge=1, description="Words that the meta-prompt allows; none: it names no limit."
    )
    rounds: int = Field(default=6, ge=1, description="Rounds of the search.")
    beam_size: int = Field(default=4, ge=1, description="Prompts that are kept after a round.")
    minibatch_size: int = Field(default=64, ge=1, description="Training rows that a round is criticized on.")
    n_gradients: int = Field(default=4, ge=1, description="Draws of wrong answers per prompt.")
    errors_per_gradient: int = Field(default=4, ge=1, description="Wrong answers per draw.")
    gradients_per_error: int = Field(default=1, ge=1, description="Reasons that are asked for per draw.")
    steps_per_gradient: int = Field(default=1, ge=1, description="Edits that are written per reason.")
    mc_samples_per_step: int = Field(default=2, ge=0, description="Paraphrases of each edit and of the prompt itself.")
    max_expansion_factor: int = Field(default=8, ge=1, description="New prompts that are kept per prompt of the beam.")
    reject_on_errors: bool = Field(
        default=False, description="Keeps those that do best on wrong answers of the parent, in place of random ones."
    )
    evaluator: bandits.Evaluator = Field(default="brute-force", description="What picks the beam.")
    eval_rounds: int = Field(default=8, ge=1, description="Turns of the evaluator.")
    eval_prompts_per_round: int = Field(default=8, ge=1, description="Prompts that are tried in a turn.")
    samples_per_eval: int = Field(default=32, ge=1, description="Rows that a trial answers.")
    exploration: float = Field(default=1.0, ge=0, description="c in the bonus of `ucb` and `ucb-e`.")

    @property
    def most_children(self) -> int:
        """How many new prompts an expansion gives at most: edits, and paraphrases of them and of the parent."""
        edits = self.n_gradients * self.gradients_per_error * self.steps_per_gradient
        return min(self.max_expansion_factor, edits + (edits + 1) * self.mc_samples_per_step)

    @property
    def plan(self) -> bandits.Plan:
        """What the evaluator may spend in one round."""
        return bandits.Plan(
            self.evaluator,
            self.beam_size,
            self.eval_rounds,
            self.eval_prompts_per_round,
            self.samples_per_eval,
            self.exploration,
        )


class Arm(BaseModel, frozen=True, extra="forbid"):
    """A prompt of the beam or of the pool, and the text that it was made from."""

    text: str
    ids: TokenIds
    parent: str | None = None


class ProtegiState(TextState, frozen=True):
    """``pool`` grows while the ``beam`` is expanded; with a ``tally`` the evaluator is at work on both.

    The archive holds every prompt that was tried, with its latest estimate; ``best`` is the beam, because estimates of
    different rounds are on different rows.
    """

    beam: tuple[Arm, ...] = ()
    pool: tuple[Arm, ...] = ()
    expanded: int = 0
    rounds: int = 0
    tally: bandits.Tally | None = None


class Protegi:
    """The method; stateless."""

    summary = "gradients in words, edits and paraphrases, a beam picked by a bandit"
    source = "Pryzant et al., EMNLP 2023, arXiv 2305.03495"
    seeded = True
    selects_by: Literal["train", "dev"] = "train"
    config_type = ProtegiConfig
    state_type = ProtegiState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1000},
            "method_config": {"evaluator": "ucb", "temperature": 1.0},
        },
        "released": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1000},
            "method_config": {"reply": "whole"},
        },
    }

    def most_steps(self, config: ProtegiConfig, num_rows: int) -> int:
        """Return how many prompts all rounds expand, and how often they pull, where every child can be used."""
        steps, beam = 0, 1
        for _ in range(config.rounds):
            arms = beam + beam * config.most_children
            steps += beam + bandits.most_pulls(config.plan, arms)
            beam = min(config.beam_size, arms)
        return steps

    def start(self, problem: Problem, config: ProtegiConfig) -> ProtegiState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: it has no tokens.
        """
        ids = start_ids(problem, config.initial_prompt)
        return ProtegiState(prompt_ids=ids, beam=(Arm(text=config.initial_prompt.strip(), ids=ids),))

    def step(self, problem: Problem, config: ProtegiConfig, state: ProtegiState) -> tuple[ProtegiState, StepInfo]:
        """Expand the next prompt of the beam, or pull arms once."""
        if state.tally is None:
            return self._expand(problem, config, state)
        return self._evaluate(problem, config, state)

    # -- expansion -----------------------------------------------------------------------------------------------------

    def _expand(self, problem: Problem, config: ProtegiConfig, state: ProtegiState) -> tuple[ProtegiState, StepInfo]:
        parent = state.beam[state.expanded]
        failures, notes = errors(problem, config, state, parent)
        proposals: list[Proposal] = []
        known = [arm.text for arm in (*state.beam, *state.pool)]
        asker = Asker(problem, config, state.step)
        for attempt in range(2):
            asker = replace(asker, attempt=attempt)
            written = write(asker, config, parent.text, failures, known)
            proposals += written
            if not only_duplicates(written):
                break
        notes += asker.notes
        usable = [k for k, p in enumerate(proposals) if p.usable]
        kept = set(thinned(problem, config, state.step, [(k, proposals[k].ids) for k in usable], failures))
        new = (Arm(text=proposals[k].text, ids=proposals[k].ids, parent=parent.text) for k in usable if k in kept)
        status = {k: "waiting" if k in kept else "not sampled" for k in usable}
        shown = tuple(Candidate(None, p.text, None, None, status.get(k, p.status)) for k, p in enumerate(proposals))
        pool, expanded = (*state.pool, *new), state.expanded + 1
        changes: dict[str, Any] = {"pool": pool, "expanded": expanded}
        if expanded == len(state.beam):
            if pool:
                changes["tally"] = bandits.empty_tally(len(state.beam) + len(pool))
            else:
                # Nothing to choose from: the beam stays as it is.
                notes.append("no proposal of this round could be used")
                changes |= self._next_round(config, state)
        changes["failed"] = state.failed + len(proposals) - len(usable)
        return self._moved(state, changes, shown, notes, tuple(c.status for c in shown))

    @staticmethod
    def _next_round(config: ProtegiConfig, state: ProtegiState) -> dict[str, Any]:
        rounds = state.rounds + 1
        return {"rounds": rounds, "pool": (), "expanded": 0, "tally": None, "finished": rounds >= config.rounds}

    # -- selection -----------------------------------------------------------------------------------------------------

    def _evaluate(self, problem: Problem, config: ProtegiConfig, state: ProtegiState) -> tuple[ProtegiState, StepInfo]:
        assert state.tally is not None
        arms, plan, tally = (*state.beam, *state.pool), config.plan, state.tally
        pull = bandits.next_pull(plan, tally, problem.rng(state.step, "arms"))
        assert pull is not None, "a round ends with its last pull"
        size = min(pull.num_rows, len(problem.examples))
        rows = problem.rng(state.rounds, f"evaluation {pull.draw}").sample(problem.examples, size)
        answers = problem.score([arms[k].ids for k in pull.arms], rows)
        outcomes = [[record.score for record in records] for records in answers]
        tally = bandits.pulled(plan, tally, pull, outcomes)
        shown = tuple(
            Candidate(None, arms[k].text, None, 1 - sum(right) / len(right))
            for k, right in zip(pull.arms, outcomes, strict=True)
        )
        changes: dict[str, Any] = {"tally": tally}
        if bandits.next_pull(plan, tally, problem.rng(state.step + 1, "arms")) is None:
            archive = estimated(state.archive, arms, tally, state.step)
            top = bandits.ranking(plan, tally)
            start = next((s for s in archive if s.text == config.initial_prompt.strip()), None)
            changes |= {
                **self._next_round(config, state),
                "beam": tuple(arms[k] for k, _ in top),
                "best": tuple((1 - score, arms[k].ids) for k, score in top)[:NUM_BEST],
                "archive": archive,
            }
            if state.initial_loss is None and start is not None:
                changes["initial_loss"] = 1 - start.score
        return self._moved(state, changes, shown, [])

    @staticmethod
    def _moved(
        state: ProtegiState,
        changes: dict[str, Any],
        shown: tuple[Candidate, ...],
        notes: list[str],
        written: tuple[str, ...] = (),
    ) -> tuple[ProtegiState, StepInfo]:
        """Return the next state, with the top of the beam as its current prompt, and what the step did."""
        beam, best = changes.get("beam", state.beam), changes.get("best", state.best)
        loss = best[0][0] if best else None
        improved = not state.best or (loss is not None and loss < state.best[0][0])
        if changes.get("finished") and not best:
            notes = [*notes, "no proposal could be used: the start prompt stays"]
        new = state.stepped(improved=improved, **({"prompt_ids": beam[0].ids} | changes))
        # A round's end takes its winner; until then nothing is accepted.
        ended = "beam" in changes
        accepted = next((k for k, c in enumerate(shown) if ended and c.text == beam[0].text), None)
        info = StepInfo(
            position=None,
            prompt_ids=beam[0].ids,
            prompt_text=" " + beam[0].text,
            loss=loss,
            best_loss=loss,
            accepted=accepted,
            candidates=shown,
            notes=tuple(notes),
            written=written,
        )
        return new, info


# -- the parts of an expansion -----------------------------------------------------------------------------------------


class Gradient(NamedTuple):
    """A reason why a prompt fails, and the wrong answers that it is about."""

    failures: list[Failure]
    reason: str


def errors(
    problem: Problem, config: ProtegiConfig, state: ProtegiState, parent: Arm
) -> tuple[list[Failure], list[str]]:
    """Return a prompt's wrong answers on the round's minibatch, or else on the other train rows."""
    rng = problem.rng(state.rounds, "minibatch")
    rows = rng.sample(problem.examples, len(problem.examples))
    for first in range(0, len(rows), config.minibatch_size):
        part = rows[first : first + config.minibatch_size]
        (records,) = problem.score([parent.ids], part)
        if found := failures_in(part, records):
            return found, ["no wrong answer in the minibatch: took more rows"] if first else []
    return [], ["every train row is answered right: paraphrases only"]


def write(
    asker: Asker, config: ProtegiConfig, prompt: str, failures: list[Failure], known: list[str]
) -> list[Proposal]:
    """Return edits and paraphrases of a prompt, judged; without failures, paraphrases alone.

    A gradient or edit that cannot be read is one unreadable proposal.
    """
    texts: list[str | None] = []
    if failures:
        rng = asker.problem.rng(asker.step, "errors")
        groups = [draw(rng, failures, config.errors_per_gradient) for _ in range(config.n_gradients)]
        found = asker.gather(
            [gradient_request(prompt, group, config.gradients_per_error) for group in groups],
            "gradient",
            all_tagged(*REASON_TAGS, config.gradients_per_error),
        )
        gradients = [
            Gradient(group, reason) for group, reasons in zip(groups, found, strict=True) for reason in reasons or ()
        ]
        edits = asker.gather(
            [edit_request(prompt, *g, config.steps_per_gradient, config.max_words) for g in gradients],
            "edit",
            all_tagged(START_TAG, END_TAG, config.steps_per_gradient),
        )
        lost = sum(reasons is None for reasons in found)
        texts += [None] * lost
        for written in edits:
            texts += written or [None]
    meta = meta_wording(config)
    edited = propose(asker.problem, texts, known=known, max_prompt_tokens=config.max_prompt_tokens, meta=meta)
    bases = [*(p.text for p in edited if p.usable), prompt]
    # Without paraphrases a prompt that is never wrong would have no child at all.
    samples = config.mc_samples_per_step if failures else max(config.mc_samples_per_step, 1)
    paraphrased = asker.gather(
        [paraphrase_request(text, config.max_words, config.reply) for text in bases for _ in range(samples)],
        "paraphrase",
        prompt_reader(config.reply),
    )
    known = [*known, *bases]
    return edited + propose(
        asker.problem, paraphrased, known=known, max_prompt_tokens=config.max_prompt_tokens, meta=meta
    )


def meta_wording(config: ProtegiConfig) -> str:
    """Return all requests, empty."""
    return wording(
        gradient_request("", [], config.gradients_per_error),
        edit_request("", [], "", config.steps_per_gradient, config.max_words),
        paraphrase_request("", config.max_words, config.reply),
    )


def thinned(
    problem: Problem, config: ProtegiConfig, step: int, new: list[tuple[int, TokenIds]], failures: list[Failure]
) -> list[int]:
    """Return the keys of at most ``max_expansion_factor`` new prompts.

    They are drawn at random; with ``reject_on_errors`` twice as many are drawn, and those that do best on wrong
    answers of their parent are kept.
    """
    most, rng = config.max_expansion_factor, problem.rng(step, "thinning")
    if len(new) <= most:
        return [key for key, _ in new]
    if not (config.reject_on_errors and failures):
        return [key for key, _ in rng.sample(new, most)]
    drawn = rng.sample(new, min(2 * most, len(new)))
    rows = [failure.example for failure in draw(rng, failures, MOST_ERRORS)]
    answers = problem.score([ids for _, ids in drawn], rows)
    rights = [math.fsum(record.score for record in records) for records in answers]
    order = sorted(range(len(drawn)), key=lambda k: -rights[k])
    return [drawn[k][0] for k in order[:most]]


def estimated(
    archive: tuple[Scored, ...], arms: tuple[Arm, ...], tally: bandits.Tally, step: int
) -> tuple[Scored, ...]:
    """Enter the round's estimates of the arms that were tried; an arm tried before gets its new one."""
    held = {s.text: s for s in archive}
    for arm, count, mean in zip(arms, tally.counts, tally.means, strict=True):
        if count and arm.text in held:
            held[arm.text] = held[arm.text].model_copy(update={"score": mean, "step": step})
        elif count:
            parent = held[arm.parent].number if arm.parent in held else None
            held[arm.text] = Scored(number=len(held), text=arm.text, ids=arm.ids, score=mean, step=step, parent=parent)
    return tuple(held.values())


PLUGIN = Protegi()

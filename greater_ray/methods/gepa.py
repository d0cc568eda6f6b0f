"""GEPA, through its authors' package: reflective mutation with a Pareto front over dev rows.

Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", 2025, arXiv 2507.19457.
Needs the package ``gepa``. Parent selection, acceptance, scoring and the front are the package's. Rows are scored by
this project's evaluator, and the reflection is asked and read here.

A step is one iteration of ``gepa.optimize``. Between steps nothing of the package is kept: its state is built anew from
ours, so an interrupted run ends like a straight one, which the package by itself does not promise.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.errors import ConfigError
from greater_ray.methods import _gepa_prompts as prompts
from greater_ray.methods._archive import Scored, TextState, advanced, candidates, dev_rows, start_ids
from greater_ray.methods._proposals import Proposal, propose
from greater_ray.methods._rounds import new_proposals
from greater_ray.methods._writer import TextConfig
from greater_ray.protocols import Candidate, Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Example, TokenIds

COMPONENT = "prompt"


class GepaConfig(TextConfig):
    """Options of GEPA; the minibatch is the package's default, the two limits are ours."""

    minibatch: int = Field(default=3, ge=1, description="Training rows that are reflected on per step.")
    max_prompt_tokens: int = Field(
        default=1000,
        ge=1,
        description="How long a prompt may be, in tokens of the task model: GEPA's are long by design.",
    )
    max_new_tokens: int = Field(default=1024, ge=1, description="Tokens that a reply of the writer may have.")


class GepaState(TextState, frozen=True):
    """The archive is GEPA's pool, and ``rows`` holds its scores row by row.

    ``evaluated`` counts scored rows as the package does, ``found_at`` how many there were when a prompt was found.
    """

    rows: tuple[tuple[float, ...], ...] = ()
    found_at: tuple[int, ...] = ()
    evaluated: int = 0


class Gepa:
    """The method; stateless."""

    summary = "reflective mutation of prompts from a Pareto front over dev rows (package gepa)"
    source = "Agrawal et al., 2025, arXiv 2507.19457"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    package = "gepa"
    config_type = GepaConfig
    state_type = GepaState
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 50}}}

    def resolve(self, config: GepaConfig, task: str) -> GepaConfig:
        """Change nothing.

        Raises:
            ConfigError: the package is missing.
        """
        if find_spec(self.package) is None:
            raise ConfigError(
                "'gepa' needs the package of that name: pip install 'greater-ray[gepa]'.", setting="method"
            )
        return config

    def start(self, problem: Problem, config: GepaConfig) -> GepaState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: it has no tokens, or the package is missing.
        """
        self.resolve(config, "")
        return GepaState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: GepaConfig, state: GepaState) -> tuple[GepaState, StepInfo]:
        """Do one iteration: reflect on a minibatch under a parent, and score the child where it is better there."""
        notes: list[str] = []
        work = Iteration(problem, config, state, notes)
        result = work.run()
        pool = [
            Scored(
                number=number,
                text=text[COMPONENT],
                ids=work.ids(text[COMPONENT]),
                score=result.val_aggregate_scores[number],
                step=state.archive[number].step if number < len(state.archive) else state.step,
                parent=result.parents[number][0],
            )
            for number, text in enumerate(result.candidates)
        ]
        archive = tuple(pool)
        best = pool[result.best_idx]
        after = advanced(
            state,
            archive,
            best,
            sum(not p.usable for p in work.proposals),
            rows=tuple(tuple(scores[k] for k in sorted(scores)) for scores in result.val_subscores),
            found_at=tuple(result.discovery_eval_counts),
            evaluated=result.total_metric_calls,
        )
        shown = work.shown(pool)
        info = StepInfo(
            position=None,
            prompt_ids=best.ids,
            prompt_text=" " + best.text,
            loss=1 - best.score,
            best_loss=after.best[0][0],
            accepted=next((k for k, c in enumerate(shown) if c.loss is not None), None),
            candidates=shown,
            notes=tuple(notes),
            written=tuple(c.status for c in shown),
        )
        return after, info


class Iteration:
    """One iteration of the package on one problem: its adapter, its batch sampler and its listener at once."""

    # The package asks for these: its default reflection is not used.
    propose_new_texts = None

    def __init__(self, problem: Problem, config: GepaConfig, state: GepaState, notes: list[str]) -> None:
        self.problem, self.config, self.state, self.notes = problem, config, state, notes
        self.proposals: list[Proposal] = []
        self.failure: Exception | None = None

    def run(self) -> Any:
        """Return the package's result after one further iteration.

        Whatever goes wrong in a call of this project, a spent budget included, ends the iteration: the package would
        swallow some of it.
        """
        import gepa
        from gepa.strategies.candidate_selector import ParetoCandidateSelector

        first = self.state.archive[0].text if self.state.archive else self.config.initial_prompt
        with TemporaryDirectory(prefix="greater-ray-gepa-") as folder:
            if self.state.archive:
                self._restore(first).save(folder)
            result = gepa.optimize(
                seed_candidate={COMPONENT: first},
                trainset=list(self.problem.examples),
                valset=list(dev_rows(self.problem)),
                adapter=self,
                custom_candidate_proposer=self.reflect,
                candidate_selection_strategy=ParetoCandidateSelector(self.problem.rng(self.state.step, "parent")),
                batch_sampler=self,
                stop_callbacks=lambda state: state.i >= self.state.step,
                callbacks=[self],
                logger=self,
                run_dir=folder,
                track_best_outputs=False,
                seed=self.problem.seed,
            )
        if self.failure is not None:
            raise self.failure
        return result

    def _restore(self, first: str) -> Any:
        """Build the package's state as it was after the last step: candidates enter in the order of their discovery."""
        from gepa.core.state import GEPAState, ValsetEvaluation

        def scores(number: int) -> Any:
            return ValsetEvaluation(outputs_by_val_id={}, scores_by_val_id=dict(enumerate(self.state.rows[number])))

        state: Any = GEPAState({COMPONENT: first}, scores(0))
        for scored in self.state.archive[1:]:
            text, found_at = {COMPONENT: scored.text}, self.state.found_at[scored.number]
            state.update_state_with_new_program([scored.parent], text, scores(scored.number), None, found_at)
        state.i = self.state.step - 1
        state.num_full_ds_evals = len(self.state.archive)
        state.total_num_evals = self.state.evaluated
        return state

    def ids(self, text: str) -> TokenIds:
        """Return a prompt's token ids; those of the pool are known."""
        known = {scored.text: scored.ids for scored in self.state.archive}
        return known.get(text) or self.problem.encode(text)

    # -- what the package calls --------------------------------------------------------------------------------------

    def evaluate(self, batch: Sequence[Example], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Score rows under a prompt; the traces are the rows with what was answered."""
        from gepa.core.adapter import EvaluationBatch

        with self._failing():
            (records,) = self.problem.score([self.ids(candidate[COMPONENT])], batch)
        scores = [record.score for record in records]
        return EvaluationBatch(outputs=records, scores=scores, trajectories=list(zip(batch, records, strict=True)))

    def make_reflective_dataset(self, candidate: Any, eval_batch: Any, components_to_update: Any) -> Any:
        """Hand the traces on as they are; ``reflect`` words them."""
        return {COMPONENT: [{"row": row, "record": record} for row, record in eval_batch.trajectories]}

    def reflect(self, candidate: Mapping[str, str], dataset: Mapping[str, Any], components: Any) -> dict[str, str]:
        """Ask for a better prompt; nothing where no reply can be used, which makes the package skip the child."""
        with self._failing():
            cases: list[tuple[Example, ExampleRecord]] = [(c["row"], c["record"]) for c in dataset[COMPONENT]]
            asked = [prompts.reflect(candidate[COMPONENT], cases, self.problem.prompt_first)]
            judge = partial(
                propose,
                self.problem,
                known=[scored.text for scored in self.state.archive] or [candidate[COMPONENT]],
                max_prompt_tokens=self.config.max_prompt_tokens,
                meta=prompts.WORDING,
            )
            self.proposals = new_proposals(
                self.problem, asked, self.config, self.state.step, "reflection", self.notes, judge
            )
        # The last one is that of the second attempt, where there was one.
        proposal = self.proposals[-1]
        if not proposal.usable:
            self.notes.append(f"no child: the reply was {proposal.status}")
            return {}
        return {COMPONENT: proposal.text}

    def next_minibatch_ids(self, loader: Any, state: Any) -> list[int]:
        """Return the rows of this iteration: epochs in random order, filled up from their own beginning."""
        num = len(self.problem.examples)
        size = min(self.config.minibatch, num)
        epoch, place = divmod(state.i, -(-num // size))
        order = list(range(num))
        self.problem.rng(epoch, "minibatches").shuffle(order)
        return [order[k % num] for k in range(place * size, (place + 1) * size)]

    def on_evaluation_skipped(self, event: Mapping[str, Any]) -> None:
        """Note that there was nothing to reflect on."""
        self.notes.append(f"no child: {event['reason'].replace('_', ' ')}")

    def on_candidate_rejected(self, event: Mapping[str, Any]) -> None:
        """Note how the child did."""
        self.notes.append(f"rejected: {event['old_score']:g} right before, {event['new_score']:g} after")

    def log(self, message: str) -> None:
        """Drop the package's own log."""

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error
            raise

    def shown(self, pool: Sequence[Scored]) -> tuple[Candidate, ...]:
        """Return the child for the record: with its loss where it was taken into the pool."""
        new = {scored.text: scored.score for scored in pool[len(self.state.archive) :] if scored.number}
        return tuple(
            Candidate(None, c.text, None, None, "not better on the minibatch") if c.status == "new" else c
            for c in candidates(self.proposals, new)
        )


PLUGIN = Gepa()

"""The one optimization loop: start, step until a budget ends it, evaluate, record. Every method runs through here.

What the loop needs stands beside it: parts (``assembly``), what a method may know (``problem``), checkpoints
(``checkpoint``), limits (``ledger``), the final evaluation (``final``) and records (``recording``).
"""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from greater_ray.assembly import Parts
from greater_ray.checkpoint import Checkpoint, Search
from greater_ray.config import Budget
from greater_ray.demonstrations import refuse_unusable
from greater_ray.errors import BudgetSpent, Interrupted, MethodError
from greater_ray.final import evaluate_finalists
from greater_ray.ledger import Ledger
from greater_ray.observer import Observer
from greater_ray.problem import inferred, moved, not_run, problem_of, refuse_long_prompts
from greater_ray.protocols import EndsItself, Method, MethodState, Problem, StepInfo
from greater_ray.recording import step_record, trial_record
from greater_ray.records import TrialRecord
from greater_ray.store import RunStore


def steps_at_most(budget: Budget, method: Method[Any, Any], method_config: BaseModel, num_rows: int) -> int | None:
    """Return the smaller of the budget's steps and the method's own, None where neither says; rows are for training."""
    own = method.most_steps(method_config, num_rows) if isinstance(method, EndsItself) else None
    return min((steps for steps in (budget.steps, own) if steps is not None), default=None)


class Trial:
    """One optimization, from its start or from where its folder says that it stopped."""

    def __init__(
        self,
        parts: Parts,
        store: RunStore,
        observer: Observer | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.parts, self.store = parts, store
        self.observer, self.should_stop = observer or Observer(), should_stop
        self.checkpoint = Checkpoint(store, parts.model, parts.writer)

    def run(self) -> TrialRecord:
        """Run or continue to the end; a finished run only returns its record.

        Raises:
            Interrupted: ``should_stop`` said so; the last finished step is saved.
            DataError: the start prompt is too long for a row that is to be evaluated.
            MethodError: the method tells of a step what cannot be.
        """
        record = self.store.load_record()
        if record is None:
            told = (say(self.parts.config, self.parts.facts) for say in (moved, not_run))
            for note in filter(None, (inferred(self.parts.task), *told)):
                self.observer.message(note)
            problem = problem_of(self.parts)
            refuse_unusable(self.parts.config, self.parts.task, self.parts.model)
            search = self.checkpoint.load(self.parts.method) or Search(self._start(problem))
            if not search.state.step:
                refuse_long_prompts(self.parts, problem, {search.state.prompt_ids, search.state.result})
            self._search(problem, search)
            record = self._finish(problem, search)
            self.store.save_record(record)
        self.observer.finished(record)
        return record

    def _start(self, problem: Problem) -> MethodState:
        state: MethodState = self.parts.method.start(problem, self.parts.method_config)
        return state

    def _search(self, problem: Problem, search: Search) -> None:
        """Step until the method, the budget or the user ends it; every finished step is saved."""
        parts, config = self.parts, self.parts.config
        steps = steps_at_most(config.budget, parts.method, parts.method_config, len(problem.examples))
        self.observer.started(config, search.state.step, steps)
        ledger = Ledger(config.budget, parts.model, parts.writer)
        ledger.open(search.elapsed)
        while search.stop_reason is None:
            search.stop_reason = _stop_reason(config.budget, search.state)
            if search.stop_reason is None:
                self._check_interrupt()
                try:
                    ledger.left()
                    state, info = parts.method.step(problem, parts.method_config, search.state)
                    search.elapsed = ledger.elapsed
                    self._save_step(search, state, info)
                except BudgetSpent as limit:
                    search.stop_reason = str(limit)
        ledger.close()
        search.elapsed = ledger.elapsed
        self.checkpoint.save(search)

    def _save_step(self, search: Search, state: MethodState, info: StepInfo) -> None:
        if info.accepted is not None and info.accepted not in range(len(info.candidates)):
            name = self.parts.config.method
            why = (
                f"'{name}': step {state.step} has {len(info.candidates)} candidates, and StepInfo.accepted is "
                f"{info.accepted}; it must be the index of one of them, or None."
            )
            raise MethodError(why, setting="method", value=name)
        record = step_record(self.parts, state, info, search.elapsed)
        search.state = state
        search.proposals.update(info.written)
        self.checkpoint.save_step(search, record)
        self.observer.stepped(self.parts.config, record)

    def _finish(self, problem: Problem, search: Search) -> TrialRecord:
        # The search ends here; what follows is asked of the model outside of it.
        searched = self.parts.model.usage
        initial = self._start(problem).prompt_ids
        ending = evaluate_finalists(
            self.parts,
            search.state,
            initial,
            searched,
            self.store.evaluations,
            on_rows=self.observer.evaluating,
            check=self._check_interrupt,
            message=self.observer.message,
        )
        return trial_record(self.parts, search, initial, ending)

    def _check_interrupt(self) -> None:
        if self.should_stop():
            raise Interrupted(f"stopped; {self.store.what_is_saved}")


def _stop_reason(budget: Budget, state: MethodState) -> str | None:
    if state.finished:
        return "finished"
    if budget.steps is not None and state.step >= budget.steps:
        return "steps"
    if budget.patience is not None and state.steps_since_best >= budget.patience:
        return "patience"
    return None

"""The one optimization loop: start, step until a budget ends it, evaluate, record. Every method runs through here.

A checkpoint follows every step and vouches for all lines written before it, so a run that was killed at any moment
continues from the last finished step and ends with the same record as an undisturbed one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from pydantic import BaseModel

from greater_ray import provenance
from greater_ray.config import Budget, TrialConfig
from greater_ray.errors import BudgetSpent, DataError, Interrupted
from greater_ray.evaluate import compare, read_answer, summarize
from greater_ray.ledger import Ledger
from greater_ray.protocols import EndsItself, Method, MethodState, Problem, StepInfo, Task
from greater_ray.records import (
    EvaluationRecord,
    ExampleRecord,
    PromptRecord,
    StepRecord,
    TrialRecord,
    UsageRecord,
)
from greater_ray.sharding import ShardedModel, ShardedWriter
from greater_ray.store import RunStore
from greater_ray.types import Example, TokenIds, Usage, split_shards, total
from greater_ray.work import Answers, CheckPrompts, PromptRoom
from greater_ray.work.memory import KEPT


class Observer(Protocol):
    """Follows a trial: the screen, a log or a tracker. Called between units of work; must not raise."""

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Begin, or continue after ``done_steps`` of at most ``steps`` steps; None where no number bounds them."""
        ...

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Report one finished step."""
        ...

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Report how many rows of an evaluation are done."""
        ...

    def finished(self, record: TrialRecord) -> None:
        """Report the end."""
        ...


class Silent:
    """An observer that shows nothing."""

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Show nothing."""

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Show nothing."""

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Show nothing."""

    def finished(self, record: TrialRecord) -> None:
        """Show nothing."""


def steps_at_most(budget: Budget, method: Method[Any, Any], method_config: BaseModel, num_rows: int) -> int | None:
    """Return the smaller of the budget's steps and the method's own, None where neither says; rows are for training."""
    own = method.most_steps(method_config, num_rows) if isinstance(method, EndsItself) else None
    return min((steps for steps in (budget.steps, own) if steps is not None), default=None)


@dataclass
class Trial:
    """Everything one optimization needs; ``run`` does it."""

    config: TrialConfig
    task: Task
    method: Method[Any, Any]
    method_config: Any
    model: ShardedModel
    model_facts: dict[str, Any]
    optimizer: ShardedWriter
    hardware: str = ""
    store: RunStore | None = None
    observer: Observer = field(default_factory=Silent)
    should_stop: Callable[[], bool] = lambda: False
    optimizer_facts: dict[str, Any] | None = None
    # What became of what the writer has proposed so far; part of the checkpoint.
    _proposals: Counter[str] = field(default_factory=Counter, init=False)

    @cached_property
    def _problem(self) -> Problem:
        """What the method may know: of test rows no more than how long a prompt may be beside them."""
        evaluated = self._evaluated_rows()
        return Problem(
            examples=tuple(self.task.train()),
            model=self.model,
            seed=self.config.seed,
            dev=tuple(self.task.dev()),
            optimizer=self.optimizer,
            read=lambda example, answer: read_answer(self.task, example, answer),
            room=self.model.ask(PromptRoom(evaluated)) if evaluated else None,
        )

    def _rows(self, split: str) -> list[Example]:
        return {"train": self.task.train, "dev": self.task.dev, "test": self.task.test}[split]()

    def _evaluated_rows(self) -> list[Example]:
        """Return the rows that the end will answer, whatever the search finds."""
        settings = self.config.evaluation
        selecting = ["dev"] if settings.dev_select_top > 1 else []
        return [row for split in dict.fromkeys([*selecting, *settings.splits]) for row in self._rows(split)]

    def run(self) -> TrialRecord:
        """Run or continue to the end; a finished run only returns its record.

        Raises:
            Interrupted: ``should_stop`` said so; the last finished step is saved.
            DataError: the start prompt is too long for a row that is to be evaluated.
        """
        if self.store is not None and (record := self.store.load_record()) is not None:
            self.observer.finished(record)
            return record
        state, elapsed, stop_reason = self._resume()
        problem = self._problem
        if not state.step:
            self._refuse_long({state.prompt_ids, state.result})
        steps = steps_at_most(self.config.budget, self.method, self.method_config, len(problem.examples))
        self.observer.started(self.config, state.step, steps)
        ledger = Ledger(self.config.budget, self.model, self.optimizer)
        ledger.open(elapsed)
        while stop_reason is None:
            stop_reason = self._stop_reason(state)
            if stop_reason is None:
                self._check_interrupt()
                try:
                    ledger.left()
                    state, info = self.method.step(problem, self.method_config, state)
                    self._save_step(state, info, ledger.elapsed)
                except BudgetSpent as limit:
                    stop_reason = str(limit)
        ledger.close()
        self._save_state(state, ledger.elapsed, stop_reason)
        return self._finish(state, stop_reason)

    def _refuse_long(self, prompts: Collection[TokenIds]) -> None:
        """Tell before the search what would only show in the final evaluation: prompts that do not fit a row there."""
        length, room = max(map(len, prompts)), self._problem.room
        if room is None or length <= room:
            return
        rows = self._evaluated_rows()
        while len(rows) > 1:
            half = rows[: len(rows) // 2]
            fits = (self.model.ask(PromptRoom(half)) or 0) >= length
            rows = rows[len(half) :] if fits else half
        left = self.model.ask(PromptRoom(rows)) or 0
        raise DataError(
            f"row '{rows[0].id}': beside it, up to {self.config.decoding.max_reasoning_tokens} tokens of reasoning and "
            f"the answer, the model's context window has room for {max(0, left)} tokens of prompt, the start prompt "
            f"has {length}; lower decoding.max_reasoning_tokens, shorten the prompt or leave the row out."
        )

    # -- going on where a run stopped --------------------------------------------------------------------------------

    def _resume(self) -> tuple[MethodState, float, str | None]:
        saved = self.store.load_state() if self.store is not None else None
        if saved is None:
            return self.method.start(self._problem, self.method_config), 0.0, None
        assert self.store is not None
        for kept in KEPT:
            self.model.memory.restore(kept, self.store.lines(kept.name).read())
        self.model.usage, self.model.seen_prefixes = Usage(**saved["usage"]), set(saved["seen_prefixes"])
        self.optimizer.usage = Usage(**saved["optimizer_usage"])
        # A folder of an earlier version has no counts.
        self._proposals = Counter(saved.get("proposals", {}))
        state = self.method.state_type.model_validate(saved["method_state"])
        return state, saved["elapsed"], saved["stop_reason"]

    def _save_state(self, state: MethodState, elapsed: float, stop_reason: str | None) -> None:
        if self.store is None:
            return
        for kept in KEPT:
            self.store.lines(kept.name).append(self.model.memory.fresh(kept))
        self.store.save_state(
            {
                "method_state": state.model_dump(mode="json"),
                "usage": asdict(self.model.usage),
                "optimizer_usage": asdict(self.optimizer.usage),
                "proposals": self._proposals,
                "seen_prefixes": sorted(self.model.seen_prefixes),
                "elapsed": elapsed,
                "stop_reason": stop_reason,
            }
        )

    def _save_step(self, state: MethodState, info: StepInfo, elapsed: float) -> None:
        record = StepRecord(
            step=state.step,
            position=info.position,
            prompt_ids=info.prompt_ids,
            prompt_text=self.config.layout.frozen_prefix + info.prompt_text,
            loss=info.loss,
            best_loss=info.best_loss,
            accepted=info.accepted,
            candidates=tuple(asdict(c) for c in info.candidates),
            notes=info.notes,
            usage=_usage_record(self.model.usage),
            optimizer_usage=_usage_record(self.optimizer.usage),
            elapsed_seconds=elapsed,
        )
        if self.store is not None:
            self.store.steps.append([record.model_dump(mode="json")])
        self._proposals.update(info.written)
        self._save_state(state, elapsed, None)
        self.observer.stepped(self.config, record)

    def _check_interrupt(self) -> None:
        if self.should_stop():
            if self.store is None:
                raise Interrupted("stopped; without a run folder nothing is saved.")
            raise Interrupted(
                f"stopped; everything finished is saved in '{self.store.folder}', the same command continues."
            )

    def _stop_reason(self, state: MethodState) -> str | None:
        budget = self.config.budget
        if state.finished:
            return "finished"
        if budget.steps is not None and state.step >= budget.steps:
            return "steps"
        if budget.patience is not None and state.steps_since_best >= budget.patience:
            return "patience"
        return None

    # -- the end: only here are test rows answered ---------------------------------------------------------------------

    def _finish(self, state: MethodState, stop_reason: str) -> TrialRecord:
        searched, spent = self.model.usage, Usage()
        initial = self.method.start(self._problem, self.method_config).prompt_ids
        top = self.config.evaluation.dev_select_top
        finalists = [ids for _, ids in state.best[:top]] if top else [state.result]
        finalists = finalists or [state.result]
        evaluations: dict[tuple[str, TokenIds], EvaluationRecord] = {}

        def measure(split: str, prompt: TokenIds, which: str) -> Usage:
            if (split, prompt) in evaluations or not (rows := self._rows(split)):
                return Usage()
            evaluations[split, prompt], usage = self._evaluate(split, rows, prompt, which)
            return usage

        best = finalists[0]
        # Where no prompt was scored, none was chosen.
        chosen_by = [self.method.selects_by if self.task.dev() else "train"] if state.best else []
        if len(finalists) > 1:
            # A part of the search, as other methods go by dev rows in their steps; no limit cuts it off.
            for rank, prompt in enumerate(finalists):
                searched = searched + measure("dev", prompt, f"finalist {rank + 1}")
            scored = [p for p in finalists if ("dev", p) in evaluations]
            best = max(scored, key=lambda p: evaluations["dev", p].accuracy, default=best)
            chosen_by += ["dev"] if scored else []
        for split in self.config.evaluation.splits:
            spent = spent + measure(split, initial, "before") + measure(split, best, "after")
        losses = {ids: loss for loss, ids in state.best}
        if state.initial_loss is not None:
            losses[initial] = state.initial_loss
        record = TrialRecord(
            trial_id=self.config.trial_id(),
            config=self.config,
            stop_reason=stop_reason,
            steps=state.step,
            initial=self._prompt_record(initial, losses),
            best=self._prompt_record(best, losses),
            finalists=tuple(self._prompt_record(ids, losses) for _, ids in state.best),
            chosen_by=tuple(dict.fromkeys(chosen_by)),
            evaluations=tuple(evaluations.values()),
            comparisons=tuple(
                compare(evaluations[split, initial], evaluations[split, best])
                for split in self.config.evaluation.splits
                if best != initial and (split, initial) in evaluations
            ),
            optimization_usage=_usage_record(searched),
            evaluation_usage=_usage_record(spent),
            optimizer_usage=_usage_record(self.optimizer.usage),
            proposals=dict(sorted(self._proposals.items())),
            optimizer=self.optimizer_facts,
            task={"name": self.task.name, "answer_type": self.task.answer_type, **self.task.provenance},
            model=self.model_facts,
            environment=provenance.environment() | {"computed_on": self.hardware},
        )
        if self.store is not None:
            self.store.save_record(record)
        self.observer.finished(record)
        return record

    def _evaluate(
        self, split: str, rows: Sequence[Example], prompt: TokenIds, which: str
    ) -> tuple[EvaluationRecord, Usage]:
        """Evaluate as many shards at once as are computed at once, taking over what an interrupted run has written."""
        known = {}
        for line in self.store.evaluations.read() if self.store is not None else []:
            if line["split"] == split and tuple(line["prompt_ids"]) == prompt:
                known[line["shard"]] = line
        shards = split_shards(rows, self.config.shard_size)
        todo = [k for k in range(len(shards)) if k not in known]
        width = self.model.executor.width
        self.observer.evaluating(split, which, sum(len(shards[k]) for k in known), len(rows))
        for group in (todo[i : i + width] for i in range(0, len(todo), width)):
            self._check_interrupt()
            works = [Answers(shards[k], (prompt,)) for k in group]
            for k, ((answers,), usage) in zip(group, self.model.ask_each(works), strict=True):
                records = [read_answer(self.task, e, a) for e, a in zip(shards[k], answers, strict=True)]
                line = {"split": split, "prompt_ids": list(prompt), "shard": k, "usage": asdict(usage)}
                known[k] = line | {"rows": [r.model_dump(mode="json") for r in records]}
            if self.store is not None:
                self.store.evaluations.append([known[k] for k in group])
            self.observer.evaluating(split, which, sum(len(shards[k]) for k in known), len(rows))
        for shard in shards:
            self.model.mark_seen(shard)
        results = [ExampleRecord.model_validate(row) for k in range(len(shards)) for row in known[k]["rows"]]
        return summarize(split, prompt, results), total(Usage(**known[k]["usage"]) for k in range(len(shards)))

    def _prompt_record(self, ids: TokenIds, losses: dict[TokenIds, float]) -> PromptRecord:
        check = self.model.ask(CheckPrompts([ids]))[0]
        return PromptRecord(
            ids=ids,
            text=check.text,
            full_text=(self.config.layout.frozen_prefix + check.text).strip(),
            survives_retokenization=check.survives,
            loss=losses.get(ids),
        )


def _usage_record(usage: Usage) -> UsageRecord:
    return UsageRecord(**usage.to_json())

"""Steps and finished trials as records."""

from dataclasses import asdict

from greater_ray import provenance
from greater_ray.assembly import Parts
from greater_ray.checkpoint import Search
from greater_ray.evaluation import compare
from greater_ray.final import Ending
from greater_ray.protocols import MethodState, StepInfo
from greater_ray.records import DemonstrationRecord, PromptRecord, StepRecord, TrialRecord
from greater_ray.types import Shown, TokenIds
from greater_ray.work import CheckPrompts


def step_record(parts: Parts, state: MethodState, info: StepInfo, elapsed: float) -> StepRecord:
    """Return the line of ``steps.jsonl`` for a step that led to ``state``, ``elapsed`` seconds into the search."""
    return StepRecord(
        step=state.step,
        position=info.position,
        prompt_ids=info.prompt_ids,
        prompt_text=parts.config.layout.frozen_prefix + info.prompt_text,
        loss=info.loss,
        best_loss=info.best_loss,
        accepted=info.accepted,
        candidates=tuple(asdict(c) for c in info.candidates),
        notes=info.notes,
        usage=parts.model.usage,
        optimizer_usage=parts.writer.usage,
        elapsed_seconds=elapsed,
    )


def trial_record(parts: Parts, search: Search, initial: TokenIds, ending: Ending) -> TrialRecord:
    """Return the record of a finished trial."""
    config, state, task, evaluations = parts.config, search.state, parts.task, ending.evaluations
    losses = {ids: loss for loss, ids in state.best}
    if state.initial_loss is not None:
        losses[initial] = state.initial_loss
    before, after = (initial, ending.shown_before), (ending.best, ending.shown_after)
    return TrialRecord(
        trial_id=config.trial_id(),
        config=config,
        stop_reason=search.stop_reason or "",
        steps=state.step,
        initial=_prompt_record(parts, *before, losses),
        best=_prompt_record(parts, *after, losses),
        finalists=tuple(_prompt_record(parts, ids, ending.shown_after, losses) for _, ids in state.best),
        chosen_by=ending.chosen_by,
        evaluations=tuple(evaluations.values()),
        comparisons=tuple(
            compare(evaluations[split, *before], evaluations[split, *after])
            for split in config.evaluation.splits
            if after != before and (split, *before) in evaluations
        ),
        optimization_usage=ending.searched,
        evaluation_usage=ending.usage,
        optimizer_usage=parts.writer.usage,
        proposals=dict(sorted(search.proposals.items())),
        optimizer=parts.writer_facts,
        task={"name": task.name, "answer_type": task.answer_type, **task.provenance},
        model=parts.facts,
        rendered=parts.rendered,
        environment=provenance.environment() | {"computed_on": parts.hardware},
    )


def _prompt_record(parts: Parts, ids: TokenIds, shown: Shown, losses: dict[TokenIds, float]) -> PromptRecord:
    (check,) = parts.model.ask(CheckPrompts([ids]))
    return PromptRecord(
        ids=ids,
        text=check.text,
        full_text=(parts.config.layout.frozen_prefix + check.text).strip(),
        survives_retokenization=check.survives,
        loss=losses.get(ids),
        demonstrations=tuple(DemonstrationRecord(**d._asdict()) for d in shown.rows),
        nearest=shown.nearest,
    )

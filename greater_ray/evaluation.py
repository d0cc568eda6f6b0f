"""Score one prompt on rows: train, dev, test and any other rows alike (two stages, paper A.2 and 4.3)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from greater_ray import statistics
from greater_ray.errors import ModelError
from greater_ray.files import Lines, refuse_edited, sealed
from greater_ray.protocols import Task, closed_set, metric_of, reads_likeliest
from greater_ray.records import ComparisonRecord, EvaluationRecord, ExampleRecord
from greater_ray.sharding import ShardedModel
from greater_ray.types import Answer, Example, TokenIds, Usage, split_shards, total
from greater_ray.work import Answers


class Evaluation(NamedTuple):
    """What came of it, and what it cost."""

    record: EvaluationRecord
    usage: Usage


def evaluate(
    task: Task,
    model: ShardedModel,
    split: str,
    rows: Sequence[Example],
    prompt: TokenIds,
    lines: Lines,
    *,
    on_rows: Callable[[int, int], None] = lambda done, of: None,
    check: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Answer and score rows, as many shards at a time as are computed at a time.

    ``lines`` hold what an interrupted run has answered, which is taken over, and get every further shard. ``on_rows``
    is told how many rows are done, ``check`` is asked before every group of shards and may raise.
    """
    layout = model.layout
    shown = tuple(demonstration.id for demonstration in layout.demonstrations) if layout else ()
    nearest = layout.nearest if layout else 0
    known = {
        line["shard"]: line
        for line in lines.read_as(_saved)
        if line["split"] == split
        and tuple(line["prompt_ids"]) == prompt
        and tuple(line.get("demonstrations", ())) == shown
        and line.get("nearest", 0) == nearest
    }
    scored = reads_likeliest(task)
    shards = split_shards(rows, model.shard_size)
    todo = [k for k in range(len(shards)) if k not in known]
    width = model.executor.width
    on_rows(sum(len(shards[k]) for k in known), len(rows))
    for group in (todo[i : i + width] for i in range(0, len(todo), width)):
        check()
        answered = model.ask_each([Answers(shards[k], (prompt,), score_choices=scored) for k in group])
        for k, ((answers,), usage) in zip(group, answered, strict=True):
            records = [read_answer(task, e, a) for e, a in zip(shards[k], answers, strict=True)]
            line = {"split": split, "prompt_ids": list(prompt), "shard": k, "usage": asdict(usage)}
            line |= {"demonstrations": list(shown)} if shown else {}
            line |= {"nearest": nearest} if nearest else {}
            known[k] = sealed(line | {"rows": [r.model_dump(mode="json") for r in records]})
        lines.append([known[k] for k in group])
        on_rows(sum(len(shards[k]) for k in known), len(rows))
    for shard in shards:
        model.mark_seen(shard)
    results = [ExampleRecord.model_validate(row) for k in range(len(shards)) for row in known[k]["rows"]]
    usage = total(Usage(**known[k]["usage"]) for k in range(len(shards)))
    record = summarize(split, prompt, results, metric_of(task))
    return Evaluation(record.model_copy(update={"demonstrations": shown, "nearest": nearest}), usage)


def _saved(line: dict[str, Any]) -> dict[str, Any]:
    """Return the line of a shard if all of it can be read, and is what was written."""
    refuse_edited(line)
    rows = [ExampleRecord.model_validate(row) for row in line["rows"]]
    if not (isinstance(line["shard"], int) and isinstance(line["prompt_ids"], list) and line["split"] and rows):
        raise ValueError("no answers of a shard")
    return line | {"usage": asdict(Usage(**line["usage"]))}


def read_answer(task: Task, example: Example, answer: Answer) -> ExampleRecord:
    """Read one answer by the task's rules.

    Raises:
        ModelError: the likeliest choice is to be taken, and the model did not score the choices.
    """
    generated = task.score(example, answer.reasoning_text, answer.answer_text)
    rollout = answer.rollout
    reading: dict[str, Any] = {"prediction": generated.prediction, "score": generated.score}
    if reads_likeliest(task):
        if answer.choice_nlls is None:
            why = "this model does not tell how likely choices are; set §task.reading to generated."
            raise ModelError(why, setting="task.reading", value="likelihood")
        nlls = dict(zip(closed_set(task), answer.choice_nlls, strict=True))
        likeliest = min(nlls, key=nlls.__getitem__)
        reading = {f"generated_{name}": value for name, value in reading.items()}
        reading |= {"prediction": likeliest, "score": float(likeliest == example.label), "choice_nlls": nlls}
    return ExampleRecord(
        id=example.id,
        target=example.target,
        **reading,
        strict_prediction=generated.strict_prediction,
        strict_score=generated.strict_score,
        truncated=rollout.truncated,
        reasoning_tokens=len(rollout.reasoning) if answer.reasoning_tokens is None else answer.reasoning_tokens,
        label_ce=rollout.label_ce,
        prompt_nll=rollout.prompt_nll,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


def summarize(
    split: str, prompt: TokenIds, rows: Sequence[ExampleRecord], metric: str = "accuracy"
) -> EvaluationRecord:
    """Turn answers into rates with intervals."""
    num = len(rows)
    accuracy = statistics.score_interval([r.score for r in rows])
    generated = [r.generated_score for r in rows if r.generated_score is not None]
    beside: dict[str, Any] = {}
    if generated:
        beside_accuracy = statistics.score_interval(generated)
        beside = {
            "generated_accuracy": beside_accuracy.estimate,
            "generated_accuracy_interval": (beside_accuracy.low, beside_accuracy.high),
            "generated_unreadable_rate": sum(r.generated_prediction is None for r in rows) / num,
        }
    label_ce = statistics.mean(losses) if (losses := _losses(rows)) else None
    return EvaluationRecord(
        split=split,
        prompt_ids=prompt,
        num_examples=num,
        accuracy=accuracy.estimate,
        accuracy_interval=(accuracy.low, accuracy.high),
        strict_accuracy=sum(r.strict_score for r in rows) / num,
        label_ce=label_ce.estimate if label_ce else None,
        label_ce_interval=(label_ce.low, label_ce.high) if label_ce else None,
        unreadable_rate=sum(r.prediction is None for r in rows) / num,
        truncated_rate=sum(r.truncated for r in rows) / num,
        examples=tuple(rows),
        metric=metric,
        **beside,
    )


def compare(before: EvaluationRecord, after: EvaluationRecord) -> ComparisonRecord:
    """Compare two prompts on the same rows of a split."""
    result = statistics.paired([e.score for e in before.examples], [e.score for e in after.examples])
    losses = _losses(before.examples), _losses(after.examples)
    change = statistics.mean([a - b for b, a in zip(*losses, strict=True)]) if all(losses) else None
    return ComparisonRecord(
        split=after.split,
        difference=result.difference.estimate,
        interval=(result.difference.low, result.difference.high),
        wins=result.wins,
        losses=result.losses,
        p_value=result.p_value,
        label_ce_difference=change.estimate if change else None,
        label_ce_interval=(change.low, change.high) if change else None,
    )


def _losses(rows: Sequence[ExampleRecord]) -> list[float]:
    """Return the losses of all rows, or none where the model does not tell them."""
    losses = [r.label_ce for r in rows if r.label_ce is not None]
    return losses if len(losses) == len(rows) else []

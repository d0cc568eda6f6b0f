"""Score one prompt on examples: train, dev, test and any other rows alike (two stages, paper A.2 and 4.3)."""

from collections.abc import Iterator, Sequence

from greater_ray import statistics
from greater_ray.protocols import GradientModel, Task
from greater_ray.records import ComparisonRecord, EvaluationRecord, ExampleRecord
from greater_ray.types import Answer, Example, TokenIds, split_shards
from greater_ray.work import Answers


def evaluate_shards(
    task: Task, model: GradientModel, examples: Sequence[Example], prompt: TokenIds, shard_size: int
) -> Iterator[list[ExampleRecord]]:
    """Answer shard after shard, so that progress can be shown and saved."""
    for shard in split_shards(examples, shard_size):
        (answers,) = model.ask(Answers(shard, [prompt]))
        yield [read_answer(task, example, answer) for example, answer in zip(shard, answers, strict=True)]


def read_answer(task: Task, example: Example, answer: Answer) -> ExampleRecord:
    """Read one answer by the task's rules."""
    score = task.score(example, answer.reasoning_text, answer.answer_text)
    rollout = answer.rollout
    return ExampleRecord(
        id=example.id,
        target=example.target,
        prediction=score.prediction,
        correct=score.correct,
        strict_prediction=score.strict_prediction,
        strict_correct=score.strict_correct,
        truncated=rollout.truncated,
        reasoning_tokens=len(rollout.reasoning),
        label_ce=rollout.label_ce,
        prompt_nll=rollout.prompt_nll,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


def summarize(split: str, prompt: TokenIds, rows: Sequence[ExampleRecord]) -> EvaluationRecord:
    """Turn answers into rates with intervals."""
    num = len(rows)
    accuracy = statistics.accuracy([r.correct for r in rows])
    label_ce = statistics.mean([r.label_ce for r in rows])
    return EvaluationRecord(
        split=split,
        prompt_ids=prompt,
        num_examples=num,
        accuracy=accuracy.estimate,
        accuracy_interval=(accuracy.low, accuracy.high),
        strict_accuracy=sum(r.strict_correct for r in rows) / num,
        label_ce=label_ce.estimate,
        label_ce_interval=(label_ce.low, label_ce.high),
        unreadable_rate=sum(r.prediction is None for r in rows) / num,
        truncated_rate=sum(r.truncated for r in rows) / num,
        examples=tuple(rows),
    )


def compare(before: EvaluationRecord, after: EvaluationRecord) -> ComparisonRecord:
    """Compare two prompts on the same rows of a split."""
    result = statistics.paired([e.correct for e in before.examples], [e.correct for e in after.examples])
    change = statistics.mean([a.label_ce - b.label_ce for b, a in zip(before.examples, after.examples, strict=True)])
    return ComparisonRecord(
        split=after.split,
        difference=result.difference.estimate,
        interval=(result.difference.low, result.difference.high),
        wins=result.wins,
        losses=result.losses,
        p_value=result.p_value,
        label_ce_difference=change.estimate,
        label_ce_interval=(change.low, change.high),
    )

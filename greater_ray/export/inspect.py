"""A log of Inspect: every answer of the best prompt, as its conversation, with what was read and how it scored."""

from dataclasses import replace
from typing import Any

from greater_ray.export import Format
from greater_ray.export._answers import measured, said_by
from greater_ray.export._turns import has_system_role, layout_of
from greater_ray.records import ExampleRecord, TrialRecord
from greater_ray.types import Example, Layout


def inspect(record: TrialRecord) -> dict[str, Any]:
    """Return an ``EvalLog`` (version 2) as JSON: of the test rows, or where those were not measured of dev or train.

    Raises:
        ConfigError: the best prompt was measured on no rows.
        DataError: the rows are gone, or others than those that were measured.
    """
    found, task, rows = measured(record, "inspect")
    layout = replace(layout_of(record, task), nearest=record.best.nearest)
    samples = [_sample(record, layout, rows[answer.id], answer, found.metric) for answer in found.examples]
    title, config = record.task.get("task", task.name), record.config
    finished = record.environment.get("finished_at", "1970-01-01T00:00:00+00:00")
    spent = record.evaluation_usage
    read = spent.prefix_tokens + spent.prefill_tokens
    usage = {
        "input_tokens": read,
        "output_tokens": spent.generated_tokens,
        "total_tokens": read + spent.generated_tokens,
    }
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": record.trial_id,
            "run_id": record.trial_id,
            "created": finished,
            "task": title,
            "task_id": record.trial_id,
            "dataset": {
                "name": f"{title} ({found.split})",
                "samples": len(samples),
                "sample_ids": [sample["id"] for sample in samples],
                "shuffled": False,
            },
            "model": config.model.name,
            "model_generate_config": {"temperature": 0.0, "max_tokens": config.decoding.max_reasoning_tokens},
            "config": {"epochs": 1},
            "metadata": {"method": config.method, "seed": config.seed, "prompt": record.best.full_text},
        },
        # A reader of headers alone wants the parts in this order, and a plan.
        "plan": {"name": "plan", "steps": [{"solver": "greater-ray", "params": {}}], "config": {}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [
                _score("answer", found.metric, found.accuracy, len(samples)),
                _score("strict", found.metric, found.strict_accuracy, len(samples)),
            ],
        },
        "stats": {"started_at": finished, "completed_at": finished, "model_usage": {config.model.name: usage}},
        "samples": samples,
    }


def _score(name: str, metric: str, value: float, count: int) -> dict[str, Any]:
    metrics = {metric: {"name": metric, "value": value}}
    return {"name": name, "scorer": name, "scored_samples": count, "unscored_samples": 0, "metrics": metrics}


def _sample(record: TrialRecord, layout: Layout, row: Example, answer: ExampleRecord, metric: str) -> dict[str, Any]:
    turns = layout.conversation(row.question, record.best.text, system_role=has_system_role(record))
    asked = [{"role": turn.role, "content": turn.content} for turn in turns]
    said = said_by(record, layout, answer)

    def scored(value: float, prediction: str | None, text: str) -> dict[str, Any]:
        shown = {1.0: "C", 0.0: "I"}.get(value, value) if metric == "accuracy" else value
        return {"value": shown, "answer": prediction, "explanation": text}

    choice = {"message": said[-1], "stop_reason": "stop"}
    return {
        "id": row.id,
        "epoch": 1,
        "input": asked,
        "target": [row.target, *row.references] if row.references else row.target,
        "messages": [*asked, *said],
        "output": {
            "model": record.config.model.name,
            "choices": [choice],
            "completion": said[-1]["content"],
        },
        "scores": {
            "answer": scored(answer.score, answer.prediction, answer.answer_text),
            "strict": scored(answer.strict_score, answer.strict_prediction, answer.reasoning_text),
        },
        "metadata": {
            "question": row.question,
            "truncated": answer.truncated,
            "reasoning_tokens": answer.reasoning_tokens,
            "label_ce": answer.label_ce,
        },
    }


PLUGIN = Format("a log of Inspect with every answer (JSON)", inspect)

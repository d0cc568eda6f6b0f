"""Results as tidy pandas frames: one observation per row, the labels of its cell in front, missing values as NA."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from greater_ray.results.cells import CellResult, Results

# What every function here returns, by a name for those who do not import pandas.
Frame = pd.DataFrame
LABELS = {"method": "string", "task": "string", "model": "string", "seed": "string", "trial_id": "string",
          "source": "string"}  # fmt: skip
# Columns of each frame with their dtypes. Accuracies are shares from 0 to 1, losses nats, seconds wall time.
CELL_COLUMNS = LABELS | {
    "split": "string",
    "selection": "boolean",
    "rows": "Int64",
    "before": "Float64",
    "after": "Float64",
    "after_low": "Float64",
    "after_high": "Float64",
    "change": "Float64",
    "change_low": "Float64",
    "change_high": "Float64",
    "p_value": "Float64",
    "loss_before": "Float64",
    "loss_after": "Float64",
    "loss_change_low": "Float64",
    "loss_change_high": "Float64",
    "search_tokens": "Int64",
    "writer_tokens": "Int64",
    "evaluation_tokens": "Int64",
    "seconds": "Float64",
    "steps": "Int64",
    "stop_reason": "string",
    "prompt": "string",
    "start_prompt": "string",
}
STEP_COLUMNS = LABELS | {
    "step": "Int64",
    "position": "Int64",
    "prompt": "string",
    "loss": "Float64",
    "best_loss": "Float64",
    "accepted": "Int64",
    "candidates": "Int64",
    "tokens": "Int64",
    "writer_tokens": "Int64",
    "elapsed_seconds": "Float64",
}
ANSWER_COLUMNS = LABELS | {
    "split": "string",
    "when": "string",
    "row": "string",
    "target": "string",
    "prediction": "string",
    "score": "Float64",
    "strict_score": "Float64",
    "generated_prediction": "string",
    "generated_score": "Float64",
    "truncated": "boolean",
    "label_ce": "Float64",
    "reasoning_tokens": "Int64",
    "answer_text": "string",
    "reasoning_text": "string",
}
# Columns that are fields of an answer under the same name.
_OF_ANSWERS = tuple(name for name in ANSWER_COLUMNS if name not in {*LABELS, "split", "when", "row"})


def cell_frame(results: Results) -> pd.DataFrame:
    """One row per finished cell and split, with the columns of ``CELL_COLUMNS``."""
    return _frame((row for cell in results.finished for row in _cell_rows(cell)), CELL_COLUMNS)


def step_frame(results: Results) -> pd.DataFrame:
    """One row per step, with the columns of ``STEP_COLUMNS``; a half-written last line is left out.

    Raises:
        StoreError: another line is broken; with file and line.
    """
    return _frame((row for cell in results.cells for row in _step_rows(cell)), STEP_COLUMNS)


def answer_frame(results: Results) -> pd.DataFrame:
    """One row per answered row, split and prompt, with the columns of ``ANSWER_COLUMNS``.

    ``when`` is ``before`` (the start prompt), ``after`` (the found one) or ``both`` where they are the same.
    """
    return _frame((row for cell in results.finished for row in _answer_rows(cell)), ANSWER_COLUMNS)


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as mappings, with None where a value is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def _frame(rows: Iterator[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(columns))
    return frame.astype(columns)


def _labels(cell: CellResult) -> dict[str, Any]:
    return {**cell.labels, "trial_id": cell.trial_id, "source": cell.source}


def _cell_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    found = cell.outcome
    for score in found.scores:
        low_high = {
            "after": score.interval,
            "change": score.change_interval or (None, None),
            "loss_change": score.loss_interval or (None, None),
        }
        yield {
            **_labels(cell),
            **{name: value for name, value in asdict(score).items() if "interval" not in name},
            **{f"{name}_{end}": pair[k] for name, pair in low_high.items() for k, end in enumerate(("low", "high"))},
            **{f"{part}_tokens": usage.tokens for part, usage in found.costs.items()},
            "seconds": sum(usage.seconds for usage in found.costs.values()),
            "steps": found.steps,
            "stop_reason": found.stop_reason,
            "prompt": found.prompt,
            "start_prompt": found.start_prompt,
        }


def _step_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    for step in cell.step_records:
        yield {
            **_labels(cell),
            **{name: getattr(step, name) for name in ("step", "position", "loss", "best_loss", "accepted")},
            "prompt": step.prompt_text,
            "candidates": len(step.candidates),
            "tokens": step.usage.tokens,
            "writer_tokens": step.optimizer_usage.tokens,
            "elapsed_seconds": step.elapsed_seconds,
        }


def _answer_rows(cell: CellResult) -> Iterator[dict[str, Any]]:
    record = cell.record
    for evaluation in record.evaluations:
        before, after = (prompt.was_measured(evaluation) for prompt in (record.initial, record.best))
        when = "both" if before and after else "before" if before else "after" if after else "finalist"
        for answer in evaluation.examples:
            values = {name: getattr(answer, name) for name in _OF_ANSWERS}
            yield {**_labels(cell), "split": evaluation.split, "when": when, "row": answer.id, **values}

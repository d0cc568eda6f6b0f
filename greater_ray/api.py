"""The Python interface.

from greater_ray import optimize
record = optimize(model="smollm2-135m", task="bbh/navigate", data="synthetic", steps=8)
print(record.best.full_text)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greater_ray.assembly import resolve_config
from greater_ray.records import EvaluationRecord, TrialRecord
from greater_ray.runs import evaluate_prompt, run_config
from greater_ray.settings import merged


def _named(value: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": value} if isinstance(value, str) else value


def _kept(rows: Any) -> str | None:
    if rows is None or isinstance(rows, str | Path):
        return None if rows is None else str(rows)
    from greater_ray.tasks import keep_rows

    return keep_rows(rows)


def optimize(
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any] = "rows",
    method: str = "greater",
    *,
    out: str | Path | None = None,
    data: str | None = None,
    rows: Any = None,
    steps: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> TrialRecord:
    """Optimize one prompt and return its record; ``settings`` are further sections of ``TrialConfig``.

    ``model`` and ``task`` are names, or mappings such as ``{"name": "gsm8k", "train_size": 20}``. ``rows`` are one's
    own: a file, a pandas DataFrame or mappings, whose content identifies the run. With ``out`` the run is kept in that
    folder and continues there when it was interrupted.
    """
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data, "rows": _kept(rows)}),
        "method": method,
        "seed": seed,
        "budget": {} if steps is None else {"steps": steps},
    }
    return run_config(resolve_config(merged(own, settings)), Path(out) if out is not None else None)


def evaluate(
    prompt: str,
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any] = "rows",
    *,
    split: str = "test",
    data: str | None = None,
    rows: Any = None,
    **settings: Any,
) -> EvaluationRecord:
    """Score one prompt, exactly as it is, on a split of a task; ``settings`` are sections of ``TrialConfig``.

    ``rows``: as for ``optimize``.
    """
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data, "rows": _kept(rows)}),
        "layout": {"frozen_prefix": ""},
    }
    return evaluate_prompt(resolve_config(merged(own, settings)), prompt, split)

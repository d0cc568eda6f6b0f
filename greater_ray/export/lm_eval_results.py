"""The answers in the layout in which lm-evaluation-harness writes results: a file of results, one of samples."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from typing import Any

from greater_ray.export import Files, Format
from greater_ray.export._answers import measured, said_by
from greater_ray.export._turns import has_system_role, layout_of
from greater_ray.export.lm_eval import task_name
from greater_ray.records import TrialRecord

# In place of the name of a filter: scores are ours, read behind the extractor.
_FILTER = "greater-ray"


def lm_eval_results(record: TrialRecord) -> Files:
    """Return ``results_TIME.json`` and ``samples_TASK_TIME.jsonl``: of test rows, or where there are none dev or train.

    Raises:
        ConfigError: the best prompt was measured on no rows.
        DataError: the rows are gone, or others than those that were measured.
    """
    found, task, rows = measured(record, "lm-eval-results")
    layout = replace(layout_of(record, task), nearest=record.best.nearest)
    name = task_name(task)
    metric = "exact_match" if found.metric == "accuracy" else found.metric
    samples = []
    for k, answer in enumerate(found.examples):
        row = rows[answer.id]
        turns = layout.conversation(row.question, record.best.text, system_role=has_system_role(record))
        doc = {"id": row.id, "question": row.question, "label": row.label}
        asked = json.dumps([turn._asdict() for turn in turns], ensure_ascii=False)
        said = "\n\n".join(m["content"] for m in said_by(record, layout, answer) if m["role"] == "assistant")
        samples.append(
            {
                "doc_id": k,
                "doc": doc,
                "target": row.label,
                "arguments": {
                    "gen_args_0": {
                        "arg_0": asked,
                        "arg_1": {"until": [], "do_sample": False, "max_gen_toks": layout.max_reasoning_tokens},
                    }
                },
                "resps": [[said]],
                "filtered_resps": [answer.prediction or "[invalid]"],
                "filter": _FILTER,
                "metrics": [metric],
                "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": _hash(asked),
                "target_hash": _hash(row.label),
                metric: answer.score,
            }
        )
    count, model = len(samples), record.config.model.name
    value: dict[str, Any] = {
        "results": {
            name: {
                "alias": name,
                f"{metric},{_FILTER}": found.accuracy,
                f"{metric}_stderr,{_FILTER}": _error([answer.score for answer in found.examples]),
            }
        },
        "group_subtasks": {name: []},
        "configs": {name: {"task": name, "test_split": found.split, "metadata": {"trial_id": record.trial_id}}},
        "versions": {name: 1.0},
        "n-shot": {name: layout.nearest or len(layout.demonstrations)},
        "higher_is_better": {name: {metric: True}},
        "n-samples": {name: {"original": count, "effective": count}},
        "config": {"model": "greater-ray", "model_args": f"pretrained={model}", "limit": None},
        "model_source": "greater-ray",
        "model_name": model,
    }
    time = re.sub(r"[^\dT-]", "-", str(record.environment.get("finished_at", "1970-01-01T00:00:00"))[:19])
    return Files(
        {
            f"results_{time}.json": json.dumps(value, indent=2, ensure_ascii=False) + "\n",
            f"samples_{name}_{time}.jsonl": "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in samples),
        }
    )


def _hash(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _error(scores: list[float]) -> float | str:
    """Return the standard error of a mean score, as lm-eval has it; of a single row there is none."""
    if len(scores) < 2:
        return "N/A"
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)
    return float((variance / len(scores)) ** 0.5)


PLUGIN = Format("the answers as lm-eval writes results: a folder with results and samples", lm_eval_results)

"""Files in the layout of the official BBH, GSM8K and FOLIO, filled with made rows, as many as the official ones have.

The content is made from numbers; what is kept of the official files is what the code must cope with: their sizes, rows
with broken options, duplicates, numbers with thousands separators, and premises that several rows share.
"""

import json
from pathlib import Path
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.tasks import expand, load_task

SIZES = {"causal_judgement": 187, "snarks": 178, "penguins_in_a_table": 146}
BROKEN = {"movie_recommendation": [163], "ruin_names": [99, 144]}
DUPLICATES = {"sports_understanding": [(27, 155), (80, 227)]}
# No shape with the letters A and H is ever the answer.
UNUSED = {"geometric_shapes": {"A", "H"}}


def write_made_rows(folder: Path) -> Path:
    """Write ``bbh/<task>.json``, ``gsm8k/{train,test}.jsonl`` and ``folio/folio-{train,validation}.jsonl``."""
    for part in ("bbh", "gsm8k", "folio"):
        (folder / part).mkdir(parents=True)
    for name in expand("bbh"):
        task = name.removeprefix("bbh/")
        (folder / "bbh" / f"{task}.json").write_text(
            json.dumps({"examples": _bbh(name, task, folder)}), encoding="utf-8"
        )
    for split, count in (("train", 7473), ("test", 1319)):
        _write_lines(folder / "gsm8k" / f"{split}.jsonl", [_gsm8k(k) for k in range(count)])
    _write_lines(folder / "folio" / "folio-train.jsonl", [_folio(k) for k in range(1004)])
    _write_lines(folder / "folio" / "folio-validation.jsonl", [_folio(k + 10**6) for k in range(204)])
    return folder


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _bbh(name: str, task: str, folder: Path) -> list[dict[str, str]]:
    form = load_task(TaskConfig(name=name, data=str(folder))).form
    choices = [choice for choice in form.choices if choice not in UNUSED.get(task, ())]
    rows = []
    for k in range(SIZES.get(task, 250)):
        if choices:
            target = choices[k % len(choices)]
            target = f"({target})" if form.type == "letter" else target
        else:
            target = str(k + 1) if form.type == "number" else f"word{k} and{k}"
        rows.append({"input": f"Made question {k} of {task}?", "target": target})
    for k in BROKEN.get(task, ()):
        rows[k]["target"] = "a broken option"
    for first, second in DUPLICATES.get(task, ()):
        rows[second] = dict(rows[first])
    return rows


def _gsm8k(k: int) -> dict[str, str]:
    return {"question": f"Made question {k}: what is {k} times two?", "answer": f"It is {2 * k}.\n#### {2 * k:,}"}


def _folio(k: int) -> dict[str, Any]:
    premises = [f"Everything of kind {k // 3} is red.", f"Nothing red is of kind {k // 3 + 10**7}."]
    label = ("True", "False", "Uncertain")[k % 3]
    return {"premises": premises, "conclusion": f"Thing {k} is red.", "label": label}

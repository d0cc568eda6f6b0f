"""Folders to be reported on: recorded ones with texts of one's own in them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded" / "0.1.0"
# What a model may write that a page or a terminal would obey.
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src="x" onerror="window.hacked = 1">',
    "\x1b[31mred\x1b[0m",
    "safe\u202egnp.exe\u202c",
    "<!--<script>",
    "{{data}}${window.hacked = 1}",
)


def altered(folder: Path, change: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> Path:
    """Copy the recorded run of GReaTer and change its record and steps, both as JSON."""
    shutil.copytree(RECORDED / "greater-finished", folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    change(record, steps)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")
    return folder


def hostile_run(folder: Path) -> Path:
    """Return a run in which every text that a model or a user wrote is hostile."""

    def change(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        text = " ".join(HOSTILE)
        for prompt in (record["initial"], record["best"]):
            prompt["text"] = prompt["full_text"] = text + prompt["text"]
        for evaluation in record["evaluations"]:
            for k, example in enumerate(evaluation["examples"]):
                example |= {"id": f"{HOSTILE[k % len(HOSTILE)]}{k}", "target": text, "prediction": text}
                example |= {"reasoning_text": text, "answer_text": text, "strict_prediction": text}
        record["config"]["task"]["extractor"] = text
        record["stop_reason"] = record["rendered"] = text
        for step in steps:
            step["prompt_text"] = f"{text} {step['step']}"
            step["notes"] = [text]
            for candidate in step["candidates"]:
                candidate |= {"text": text, "status": text}

    return altered(folder, change)

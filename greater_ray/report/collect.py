"""From a folder's results to what a report shows: an overview of all cells, and beside it what is opened on demand."""

import json
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from greater_ray.errors import StoreError
from greater_ray.provenance import package_version
from greater_ray.records import StepRecord, TrialRecord
from greater_ray.report.curves import curve
from greater_ray.report.gradient import MethodPage
from greater_ray.report.life import FEW_ROWS, MOST_ROWS, demonstrations, rows_won_and_lost, shortened, timeline
from greater_ray.results import CellResult, Results
from greater_ray.results.remembered import LARGEST_FILE, OnRows
from greater_ray.results.scores import Outcome, outcome
from greater_ray.statistics.tables import ALPHA, holm
from greater_ray.types import TokenIds

# Points of a cell's curve in the overview; its own page has all of them.
_MOST_POINTS = 40


@dataclass(frozen=True)
class Detail:
    """What a cell's own page shows, compressed: the timeline, and the rows won and lost, all of them or a few."""

    life: bytes
    few_rows: bytes
    rows: bytes


@dataclass(frozen=True)
class Report:
    """All that a report shows. ``details`` has one entry per cell of the overview, None where there is nothing."""

    overview: dict[str, Any]
    details: list[Detail | None]


def packed(value: Any) -> bytes:
    """Return a value as compressed JSON (zlib's format, which browsers call ``deflate``).

    JSON knows no infinite numbers: they are missing there. Half a surrogate pair is written as a question mark.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "replace"), 6)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def collect(results: Results) -> Report:
    """Read every record and the steps of every cell once, one cell at a time.

    A record or a file of steps that cannot be read costs its own cell only, which is shown with the reason.
    """
    cells: list[dict[str, Any]] = []
    details: list[Detail | None] = []
    page, chosen_by = MethodPage(), dict[str, tuple[str, ...]]()
    numbers = {cell.trial_id: k for k, cell in enumerate(results.cells) if cell.source is None}
    for cell in results.cells:
        shown = _Shown(cell, results.folder)
        shown.read()
        if shown.record is not None and cell.source is None:
            chosen_by[cell.trial_id] = shown.record.chosen_by
        entry = shown.entry(_selection(cell, chosen_by))
        entry["source"] = numbers.get(cell.source) if cell.source is not None else None
        cells.append(entry)
        details.append(shown.detail())
        if cell.source is None:
            page.add(cell.labels["method"], cell.trial_id, shown.steps, shown.record)
    _adjust(cells)
    _mark_best(cells)
    return Report(
        {
            "name": results.name,
            "folder": str(results.folder),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": package_version(),
            "alpha": ALPHA,
            "states": Counter(cell["state"] for cell in cells),
            "cells": cells,
            "method": page.to_json(),
        },
        details,
    )


def _selection(cell: CellResult, chosen_by: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the splits that the prompt of a transfer was selected on; sources stand before their transfers."""
    known = chosen_by.get(cell.source or "")
    return cell.selection_splits if known is None else known


class _Shown:
    """One cell while it is read."""

    def __init__(self, cell: CellResult, root: Path) -> None:
        self.cell, self.root = cell, root
        self.record: TrialRecord | None = None
        self.steps: list[StepRecord] = []
        self.measured: dict[TokenIds, OnRows] = {}
        self.problem = cell.reason if cell.state == "failed" else None
        self.notes: list[str] = []

    def read(self) -> None:
        cell = self.cell
        if cell.done:
            try:
                self.record = cell.record
            except StoreError as error:
                self.problem = str(error)
        try:
            self.steps = cell.step_records
            prompts = [step.prompt_ids for step in self.steps]
            self.measured = cell.on_training_rows([*prompts, *([self.record.initial.ids] if self.record else [])])
        except StoreError as error:
            self.notes.append(f"The steps cannot be shown in full: {error}")
        if self.steps and cell.remembers_too_much:
            self.notes.append(
                f"Loss and hits on training rows are left out: the remembered rollouts in '{cell.folder}' are larger "
                f"than {LARGEST_FILE // 2**20} MiB."
            )

    def entry(self, selection: Sequence[str]) -> dict[str, Any]:
        cell = self.cell
        value: dict[str, Any] = {
            **cell.labels,
            "title": cell.title,
            "id": cell.trial_id,
            "state": "failed" if self.problem is not None else cell.state,
            "reason": self.problem,
            "transfer": cell.source is not None,
            "path": _path(cell.folder, self.root),
        }
        if self.record is not None:
            found = outcome(self.record, selection)
            value |= _figures(found)
            value["synthetic"] = self.record.config.task.data == "synthetic"
            value["loss"] = self.record.initial.loss
        if self.steps:
            value["curve"] = _curve(self.steps, self.record, self.measured)
        return value

    def detail(self) -> Detail | None:
        if self.record is None and not self.steps:
            return None
        record = self.record
        life: dict[str, Any] = {"steps": timeline(self.steps, record, self.measured), "notes": self.notes}
        if record is not None:
            start = self.measured.get(record.initial.ids)
            life |= {
                "startLoss": record.initial.loss,
                "startRows": [start.loss, start.hits] if start else None,
                "bestLoss": record.best.loss,
                "demonstrations": demonstrations(record.best),
                "rendered": shortened(record.rendered) if record.rendered is not None else None,
                "verdict": record.stop_reason,
                "proposals": record.proposals,
                "extractor": record.config.task.extractor,
                "tokenized": record.best.survives_retokenization,
            }
        few, rows = (rows_won_and_lost(record, most) if record else {} for most in (FEW_ROWS, MOST_ROWS))
        return Detail(packed(life), packed(few), packed(rows))


def _path(folder: Path | None, root: Path) -> str | None:
    if folder is None:
        return None
    root = root.absolute()
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)


def _figures(found: Outcome) -> dict[str, Any]:
    return {
        "prompt": found.prompt,
        "start": found.start_prompt,
        "unchanged": found.no_improvement,
        "steps": found.steps,
        "stop": found.stop_reason,
        "tokens": [found.costs[part].tokens for part in ("search", "writer", "evaluation")],
        "seconds": sum(usage.seconds for usage in found.costs.values()),
        "splits": [asdict(score) for score in found.scores],
    }


def _curve(
    steps: Sequence[StepRecord], record: TrialRecord | None, measured: Mapping[TokenIds, OnRows]
) -> list[list[float | None]]:
    """Return at most so many points of a curve; the last step is always there."""
    points = curve(steps, record, measured)
    every = -(-len(points) // _MOST_POINTS)
    return [list(point) for point in [*points[:-1:every], points[-1]]]


def _adjust(cells: Sequence[dict[str, Any]]) -> None:
    """Put p-values beside the plain ones that hold for all comparisons of one split and phase together."""
    families = defaultdict(list)
    for cell in cells:
        for score in cell.get("splits", ()):
            score["holm"] = None
            if score["p_value"] is not None:
                families[cell["transfer"], score["split"]].append(score)
    for family in families.values():
        for score, p_value in zip(family, holm([score["p_value"] for score in family]), strict=True):
            score["holm"] = p_value


def _mark_best(cells: Sequence[dict[str, Any]]) -> None:
    """Mark the highest score on the same rows: of one task, model and split; transfers stand apart."""
    groups = defaultdict(list)
    for cell in cells:
        for score in cell.get("splits", ()):
            groups[cell["transfer"], cell["task"], cell["model"], score["split"]].append(score)
    for group in groups.values():
        most = max(score["after"] for score in group)
        for score in group:
            score["best"] = len(group) > 1 and score["after"] == most

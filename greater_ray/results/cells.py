"""Cells with their results, as plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.errors import ConfigError, StoreError
from greater_ray.grid.cells import title_of
from greater_ray.grid.config import matches
from greater_ray.records import StepRecord, TrialRecord
from greater_ray.results.remembered import OnRows, on_training_rows, too_large
from greater_ray.results.scores import Outcome, SplitScore, outcome
from greater_ray.store import read_record, read_steps
from greater_ray.types import TokenIds, Usage

if TYPE_CHECKING:
    import pandas as pd

# What the model of a transfer's source is called where the folder does not name that source any more.
_UNKNOWN = "another model"


@dataclass(frozen=True)
class CellResult:
    """One cell of a grid, or a single run, and what came of it.

    ``state`` is ``done``, ``failed``, ``begun`` (it can go on) or ``open``; ``reason`` says why it failed. ``source``
    is the trial whose prompt a cell of the transfer phase measures, and ``source_cell`` that trial, where it is known.
    """

    labels: Mapping[str, str]
    trial_id: str
    state: str
    folder: Path | None = None
    reason: str | None = None
    source: str | None = None
    source_cell: "CellResult | None" = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """Name for people; of a transfer with the model that its prompt was found on."""
        return title_of(self.labels, self.source_model)

    @property
    def source_model(self) -> str | None:
        """The label of the model that the prompt of a transfer was found on; None for other cells."""
        if self.source is None:
            return None
        return self.source_cell.labels.get("model", _UNKNOWN) if self.source_cell is not None else _UNKNOWN

    @property
    def done(self) -> bool:
        """Whether there is a record."""
        return self.state == "done" and self.folder is not None

    @property
    def record(self) -> TrialRecord:
        """The record of a finished cell, read anew each time: with all its answers it is too large to be kept.

        Raises:
            StoreError: the cell is not finished, or its record cannot be read.
        """
        if not self.done or self.folder is None:
            why = f"{self.title} is not finished ({self.state})."
            raise StoreError(why, setting="cell", value=self.state, allowed=("done",))
        return read_record(self.folder / "record.json")

    @property
    def step_records(self) -> list[StepRecord]:
        """The steps so far, of an unfinished cell too, read anew each time; none where nothing has begun.

        Raises:
            StoreError: a line cannot be read, or was edited; with file and line.
        """
        return [] if self.folder is None else read_steps(self.folder)

    def on_training_rows(self, prompts: Iterable[TokenIds]) -> dict[TokenIds, OnRows]:
        """Return what the search remembers of prompts on training rows, read anew each time.

        Raises:
            StoreError: a line cannot be read; with file and line.
        """
        return {} if self.folder is None else on_training_rows(self.folder, prompts)

    @property
    def remembers_too_much(self) -> bool:
        """Whether ``on_training_rows`` leaves something out: a file of remembered results is too large to be read."""
        return self.folder is not None and too_large(self.folder)

    @cached_property
    def outcome(self) -> Outcome:
        """Figures and prompts of a finished cell, kept once they are read.

        Raises:
            StoreError: the cell is not finished, or its record cannot be read.
        """
        return outcome(self.record, self.selection_splits)

    @property
    def problem(self) -> str | None:
        """Why there is no result: the cell has failed, or its record cannot be read."""
        if not self.done:
            return self.reason if self.state == "failed" else None
        try:
            _ = self.outcome
        except StoreError as error:
            return str(error)
        return None

    @cached_property
    def selection_splits(self) -> tuple[str, ...]:
        """Splits that the prompt of a transfer was selected on; none where its source cannot be read any more."""
        if self.source_cell is None or not self.source_cell.done:
            return ()
        try:
            return self.source_cell.outcome.chosen_by
        except StoreError:
            return ()

    @property
    def scores(self) -> list[SplitScore]:
        """Scores by split; see ``SplitScore``."""
        return self.outcome.scores

    @property
    def costs(self) -> dict[str, Usage]:
        """The ledgers of search, writer and final evaluation."""
        return self.outcome.costs


@dataclass(frozen=True)
class Results:
    """All cells of a folder, those of the transfer phase included."""

    name: str
    folder: Path
    cells: tuple[CellResult, ...]

    @property
    def finished(self) -> list[CellResult]:
        """The cells that have a record."""
        return [cell for cell in self.cells if cell.done]

    def select(self, labels: Mapping[str, Sequence[str]]) -> list[CellResult]:
        """Return the finished cells whose labels match: ``{"method": ["greater"], "task": ["bbh/*"]}``."""
        return [cell for cell in self.finished if matches({k: list(v) for k, v in labels.items()}, cell.labels)]

    def one(self, labels: Mapping[str, Sequence[str]]) -> CellResult:
        """Return the only finished cell whose labels match.

        Raises:
            ConfigError: there is none, or more than one; the sentence lists what there is.
        """
        chosen = self.select(labels)
        if len(chosen) == 1:
            return chosen[0]
        listed = "; ".join(cell.title for cell in (chosen or self.finished)[:8])
        more = len(chosen or self.finished) - 8
        listed += f"; and {more} more" if more > 0 else ""
        what = f"{len(chosen)} finished cells match" if chosen else "no finished cell matches"
        asked = ", ".join(f"{axis}={','.join(patterns)}" for axis, patterns in labels.items())
        about = f"{what} '{asked}'" if asked else f"name one of the {len(chosen)} finished cells"
        why = f"{about} in '{self.folder}'; there are: {listed or 'none'}."
        raise ConfigError(why, setting="cell", value=asked)

    def cell_frame(self) -> "pd.DataFrame":
        """One row per finished cell and split; see ``frames.cell_frame``."""
        from greater_ray.results.frames import cell_frame

        return cell_frame(self)

    def step_frame(self) -> "pd.DataFrame":
        """One row per step of every cell, unfinished ones included; see ``frames.step_frame``."""
        from greater_ray.results.frames import step_frame

        return step_frame(self)

    def answer_frame(self) -> "pd.DataFrame":
        """One row per answered row and prompt; see ``frames.answer_frame``."""
        from greater_ray.results.frames import answer_frame

        return answer_frame(self)

    def _repr_html_(self) -> str:
        """Return cells, scores and costs as a notebook shows them."""
        from greater_ray.results.tables import results_html

        return results_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print one line, where IPython shows text."""
        printer.text(f"Results({self.name!r}, '{self.folder}': {len(self.cells)} cells, {len(self.finished)} finished)")

    def to_json(self) -> list[dict[str, Any]]:
        """Return every cell as JSON."""
        return [cell_json(cell) for cell in self.cells]


def cell_json(cell: CellResult) -> dict[str, Any]:
    """Return a cell with its scores and costs as JSON; tokens and seconds are the sums over its ledgers.

    A cell whose record cannot be read has ``failed``, with the reason.
    """
    value: dict[str, Any] = {**cell.labels, "trial_id": cell.trial_id, "source": cell.source, "state": cell.state}
    if cell.problem is not None:
        value |= {"state": "failed", "reason": cell.problem}
    elif cell.done:
        found = cell.outcome
        cost = {name: usage.to_json() for name, usage in found.costs.items()}
        value |= {
            "folder": str(cell.folder),
            "prompt": found.prompt,
            "scores": [asdict(score) for score in found.scores],
            **{name: sum(part[name] for part in cost.values()) for name in ("tokens", "seconds")},
            "cost": cost,
            "proposals": found.proposals,
            "no_improvement": found.no_improvement,
        }
    return value

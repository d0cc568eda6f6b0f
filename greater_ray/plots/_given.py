"""From what a caller has, results, some of their cells or a frame, to the rows and cells that a picture is made of."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from greater_ray.errors import ConfigError
from greater_ray.records import StepRecord, TrialRecord
from greater_ray.results import CellResult, Results
from greater_ray.results.scores import SPLITS_SHOWN

if TYPE_CHECKING:
    from greater_ray.results.frames import Frame

Row = dict[str, Any]
ValueT = TypeVar("ValueT")


def cells_of(given: "Results | CellResult | Sequence[CellResult]") -> list[CellResult]:
    """Return the cells."""
    if isinstance(given, CellResult):
        return [given]
    return list(given.cells if isinstance(given, Results) else given)


def rows_of(given: "Results | CellResult | Sequence[CellResult] | Frame", kind: str = "cell_frame") -> list[Row]:
    """Return the rows of a frame, or of the frame of this kind that results make; missing values are None.

    Raises:
        StoreError: a record or a file of steps cannot be read.
    """
    from greater_ray.results.frames import Frame, as_rows

    if isinstance(given, Frame):
        return as_rows(given)
    results = given if isinstance(given, Results) else Results("", Path(), tuple(cells_of(given)))
    return as_rows(getattr(results, kind)())


def on_split(rows: Sequence[Row], split: str | None, *, transfers: bool) -> tuple[list[Row], str]:
    """Return the rows of one phase on one split, and its name; None takes test rows where there are some.

    Raises:
        ConfigError: there are none.
    """
    own = [row for row in rows if (row["source"] is not None) == transfers]
    splits = {row["split"] for row in own}
    found = split or next((known for known in SPLITS_SHOWN if known in splits), None)
    chosen = [row for row in own if row["split"] == found]
    if not chosen:
        what = "transfer" if transfers else "finished cell"
        why = f"there is no {what}" + (f" with scores on '{split}' rows" if split else "") + " to be drawn."
        raise ConfigError(why, setting="split" if split else "cells", value=split, allowed=splits)
    return chosen, str(found)


def read(cell: CellResult) -> tuple[list[StepRecord], TrialRecord | None]:
    """Return the steps of a cell, and its record where it is finished.

    Raises:
        StoreError: one of them cannot be read.
    """
    return cell.step_records, cell.record if cell.done else None


def grouped(values: Iterable[ValueT], key: Callable[[ValueT], Any]) -> dict[Any, list[ValueT]]:
    """Return the values by a key, in the order in which keys come first."""
    groups: dict[Any, list[ValueT]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def mean(values: Sequence[float]) -> float:
    """Return the mean of some numbers."""
    return sum(values) / len(values)


def counted(number: int, noun: str) -> str:
    """Write ``1 cell`` or ``3 cells``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")

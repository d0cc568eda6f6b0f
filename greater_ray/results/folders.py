"""From a folder to its results."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from greater_ray.errors import StoreError
from greater_ray.grid.cells import Cell
from greater_ray.grid.store import CellState, GridStore
from greater_ray.records import RunConfigFile
from greater_ray.results.cells import CellResult, Results


def load(folder: str | Path) -> Results:
    """Return what a grid's folder or a run's folder holds, finished or not; nothing is locked or written.

    Raises:
        StoreError: the folder is missing, or holds neither.
    """
    path = Path(folder)
    if not path.is_dir():
        raise StoreError(f"there is no folder '{path}'.")
    store = GridStore(path)
    if store.exists:
        entries = store.entries()
        states = {entry.trial_id: store.state(entry.trial_id) for entry in entries}
        cells = [_cell(entry.labels, entry.trial_id, entry.source, states[entry.trial_id], states) for entry in entries]
        return Results(store.read_grid()["name"], path, tuple(cells))
    try:
        config = RunConfigFile.model_validate_json((path / "config.json").read_bytes()).config
    except FileNotFoundError:
        raise StoreError(f"'{path}' holds neither a grid (grid.json) nor a run (config.json).") from None
    except (OSError, ValidationError) as error:
        raise StoreError(f"'{path / 'config.json'}' cannot be read, or another version wrote it.") from error
    labels = {
        "method": config.method,
        "task": config.task.name,
        "model": config.model.name,
        "seed": str(config.seed),
    }
    state = "done" if (path / "record.json").exists() else "begun"
    return Results(path.name, path, (CellResult(labels, config.trial_id(), state, path),))


def of_grid(store: GridStore, cells: Iterable[tuple[Cell, CellState]]) -> list[CellResult]:
    """Return the results of cells whose states are known, as after a grid has run."""
    pairs = list(cells)
    known = {cell.trial_id: state for cell, state in pairs}
    sources = {cell.source for cell, _ in pairs if cell.source is not None} - known.keys()
    known |= {trial_id: store.state(trial_id) for trial_id in sources}
    return [_cell(cell.labels, cell.trial_id, cell.source, state, known) for cell, state in pairs]


def _cell(
    labels: dict[str, str], trial_id: str, source: str | None, state: CellState, states: dict[str, CellState]
) -> CellResult:
    return CellResult(
        labels=labels,
        trial_id=trial_id,
        state=state.state,
        folder=state.folder,
        reason=state.reason,
        source=source,
        selection_splits=_selection_splits(states[source]) if source in states else (),
    )


def _selection_splits(source: CellState) -> tuple[str, ...]:
    """Return the splits that chose a source's prompt; nothing where its record cannot be read any more."""
    try:
        return CellResult({}, "", source.state, source.folder).record.chosen_by
    except StoreError:
        return ()

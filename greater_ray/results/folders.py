"""From a folder to its results."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from greater_ray.errors import Place, StoreError
from greater_ray.files import read_object, unfit
from greater_ray.grid.cells import Cell
from greater_ray.grid.store import CellState, GridEntry, GridStore
from greater_ray.records import RunConfigFile
from greater_ray.results.cells import CellResult, Results


def load(folder: str | Path) -> Results:
    """Return what a grid's folder or a run's folder holds, finished or not; nothing is locked or written.

    Raises:
        StoreError: the folder is missing, or holds neither.
    """
    path = Path(folder)
    if not path.is_dir():
        raise StoreError(f"there is no folder '{path}'.", setting="folder", value=path)
    store = GridStore(path)
    if store.exists:
        entries = store.entries()
        states = store.states(dict.fromkeys(entry.trial_id for entry in entries))
        return Results(store.read_grid()["name"], path, tuple(_results(entries, states)))
    noted = path / "config.json"
    if not noted.exists():
        why = f"'{path}' holds neither a grid (grid.json) nor a run (config.json)."
        raise StoreError(why, setting="folder", value=path)
    try:
        config = RunConfigFile.model_validate(read_object(noted)).config
    except ValidationError as error:
        raise StoreError(f"not a run of this version ({unfit(error)}).", place=Place(str(noted))) from error
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
    states = {cell.trial_id: state for cell, state in pairs}
    others = {cell.source for cell, _ in pairs if cell.source is not None} - states.keys()
    entries = [GridEntry(cell.trial_id, cell.labels, cell.source) for cell, _ in pairs]
    return _results(entries, states | store.states(dict.fromkeys(others)))


def _results(entries: list[GridEntry], states: dict[str, CellState]) -> list[CellResult]:
    """Return a result for every entry; those of the transfer phase know the cells whose prompts they measure."""
    labels = {entry.trial_id: entry.labels for entry in entries}
    sources = {
        trial_id: CellResult(labels.get(trial_id, {}), trial_id, *states[trial_id])
        for trial_id in {entry.source for entry in entries}
        if trial_id is not None and trial_id in states
    }
    return [
        sources[entry.trial_id]
        if entry.source is None and entry.trial_id in sources
        else CellResult(
            entry.labels,
            entry.trial_id,
            *states[entry.trial_id],
            source=entry.source,
            source_cell=sources.get(entry.source or ""),
        )
        for entry in entries
    ]

"""Reading run folders."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError, StoreError
from greater_ray.export import export, export_results, form_of
from greater_ray.grid.config import parse_only
from greater_ray.grid.store import GRID_FILE
from greater_ray.records import TrialRecord
from greater_ray.results import load


def read_run(folder: Path, option: str = "RUN", cell: Sequence[str] = ()) -> TrialRecord:
    """Return the record of a finished run, or of the finished cell of a grid that ``cell`` names by its labels.

    Raises:
        StoreError: the folder is missing, holds no run, or its run is not finished.
        ConfigError: no cell of the grid, or more than one, has these labels.
    """
    try:
        results = load(folder)
    except StoreError as error:
        raise error.about(option) from error
    if (folder / GRID_FILE).exists():
        return results.one(parse_only(cell, "cell")).record
    if cell:
        why = f"'{folder}' holds a single run, which has no cells to choose from."
        raise ConfigError(why, setting="cell", value=",".join(cell))
    (single,) = results.cells
    if not single.done:
        why = f"the run in '{folder}' is not finished; the command that began it continues it."
        raise StoreError(why, setting=option, value=folder)
    return single.record


def exported(folder: Path, form: str, cell: Sequence[str] = ()) -> Any:
    """Return a run, or a cell of a grid, in the form of another program; answers are those of all its cells.

    Raises:
        StoreError, ConfigError: see ``read_run`` and ``greater_ray.export``.
    """
    if not form_of(form).of_results:
        return export(read_run(folder, cell=cell), form)
    try:
        results = load(folder)
    except StoreError as error:
        raise error.about("RUN") from error
    if cell:
        results = replace(results, cells=tuple(results.select(parse_only(cell, "cell"))))
    if not results.finished:
        raise StoreError(f"nothing in '{folder}' is finished yet.", setting="RUN", value=folder)
    return export_results(results, form)


def default_folder(config: TrialConfig) -> Path:
    """Return where a run goes that was given no folder: the same settings always mean the same folder."""
    model = Path(config.model.name).name
    words = (*config.task.name.split("/"), model, config.method.rpartition(":")[2], f"seed{config.seed}")
    slug = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)
    return Path("runs") / f"{slug}-{config.trial_id()[:8]}"

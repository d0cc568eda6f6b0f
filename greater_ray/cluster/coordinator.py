"""One cell as a Tune trial: a thin process without torch that calls the pools and writes the cell's run folder.

The run folder is the truth. A Tune checkpoint is a copy of it without the record; a coordinator that is started again
where the folder is empty begins from that copy.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from greater_ray.assembly import Served, local_models
from greater_ray.cluster.pool import PoolExecutor
from greater_ray.config import ModelConfig
from greater_ray.errors import EndpointError, PoolError, StoreError
from greater_ray.files import writing
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import CellObserver, Progress, run_cell
from greater_ray.grid.store import CellState, GridStore
from greater_ray.models.endpoint import is_endpoint
from greater_ray.results import scores
from greater_ray.work.memory import KEPT

# What optimizer state is made of; evaluations come after the last checkpoint of the search.
_CHECKPOINT_FILES = ("config.json", "state.json", "steps.jsonl", *(f"{kept.name}.jsonl" for kept in KEPT))


@dataclass(frozen=True)
class Plan:
    """What every coordinator of a wave knows: the cells, where they are written, and the pools."""

    cells: tuple[Cell, ...]
    out: Path
    pools: tuple[tuple[ModelConfig, PoolExecutor], ...]
    folder: str

    def serve(self, config: ModelConfig, caller: str) -> Served:
        """Return the pool of a model, once it has loaded; an endpoint is called from here.

        Raises:
            PoolError: there is no such pool, or it cannot load the model.
        """
        if is_endpoint(config.name):
            return local_models()(config)
        for model, executor in self.pools:
            if model == config:
                return executor.served(caller)
        raise PoolError(f"no pool serves '{config.name}'.", setting="model.name")


def caller_of(number: int) -> str:
    """Return the name under which brokers know the coordinator of a cell."""
    return str(number)


def coordinate(config: dict[str, Any], plan: Plan) -> None:
    """Run one cell (the function trainable); its outcome is the last report."""
    if os.path.isdir(plan.folder):
        os.chdir(plan.folder)
    number = config["cell"]["number"]
    cell = plan.cells[number]
    store = GridStore(plan.out)
    folders: list[Path] = []

    def restore(folder: Path) -> None:
        folders.append(folder)
        checkpoint = tune.get_checkpoint()
        if checkpoint is not None and not (folder / "state.json").exists():
            with checkpoint.as_directory() as saved:
                folder.mkdir(parents=True, exist_ok=True)
                for name in _CHECKPOINT_FILES:
                    if (Path(saved) / name).exists():
                        shutil.copy2(Path(saved) / name, folder / name)

    def report(progress: Progress) -> None:
        metrics = {"state": "running", **progress._asdict()}
        if progress.phase != "search" or progress.step == 0:
            tune.report(metrics)
            return
        # Tune copies it once more, below the folder of the grid.
        with writing(store.folder / ".tune"), tempfile.TemporaryDirectory() as copy:
            for name in _CHECKPOINT_FILES:
                if (folders[0] / name).exists():
                    shutil.copy2(folders[0] / name, copy)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(copy))

    observer = CellObserver(cell, report)
    try:
        outcome = run_cell(cell, store, lambda model: plan.serve(model, caller_of(number)), observer, restore=restore)
        end: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason, **_scores(store, outcome)}
    except (EndpointError, PoolError, StoreError) as error:
        end = {"state": "stopped", "reason": str(error)}
    tune.report({**observer.progress._asdict(), **end})


def _scores(store: GridStore, outcome: CellState) -> dict[str, float]:
    """Return the scores of a finished cell for trackers, before and after the search, by split."""
    if outcome.folder is None:
        return {}
    found: dict[str, float | None] = {}
    for score in scores(store.record(outcome.folder)):
        found |= {
            f"{score.split}_accuracy_before": score.before,
            f"{score.split}_label_loss_before": score.loss_before,
            f"{score.split}_accuracy": score.after,
            f"{score.split}_label_loss": score.loss_after,
        }
    return {name: value for name, value in found.items() if value is not None}

"""What a grid needs before it starts: rows that load, files of models with their hashes, servers that answer."""

from collections.abc import Iterable, Sequence

from greater_ray.assembly import load_engine, row_hash
from greater_ray.config import ModelConfig, TaskConfig, TrialConfig
from greater_ray.errors import EndpointError
from greater_ray.grid.cells import Cell
from greater_ray.grid.store import CellState, GridStore
from greater_ray.models.endpoint import is_endpoint


def reach(models: Iterable[ModelConfig], setting: str) -> None:
    """Make sure that endpoints answer before anything starts.

    Raises:
        EndpointError: one does not.
    """
    for model in models:
        if is_endpoint(model.name):
            try:
                load_engine(model).contact()
            except EndpointError as error:
                why = f"{model.name}: {error.told(lambda key: f'§{key}')}"
                raise EndpointError(why, setting=setting) from None


class Inputs:
    """Hashes of what configs only name: the rows, and the files of models that lie on this disk.

    Rows are loaded here, once per task, so that a mistake shows before anything starts.

    Raises:
        DataError: rows are missing or broken.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._rows: dict[TaskConfig, dict[str, str]] = {}
        self._files: dict[tuple[ModelConfig, ModelConfig | None], dict[str, str]] = {}
        self.add(cells)

    def add(self, cells: Sequence[Cell]) -> None:
        """Take in further cells."""
        from greater_ray.tasks import load_task

        for cell in cells:
            config = cell.config.task
            if config not in self._rows:
                task = load_task(config)
                task.train(), task.dev()
                self._rows[config] = row_hash(task)
            models = cell.config.model, cell.config.optimizer_model
            if models not in self._files:
                self._files[models] = files_hash(cell.config)

    def of(self, cell: Cell) -> dict[str, str]:
        """Return the hashes of a cell's rows and files."""
        return {**self._rows[cell.config.task], **self._files[cell.config.model, cell.config.optimizer_model]}

    def states(self, store: GridStore, cells: Sequence[Cell]) -> list[tuple[Cell, CellState]]:
        """Tell how far each cell is with these inputs."""
        states = store.states({cell.trial_id: self.of(cell) for cell in cells})
        return [(cell, states[cell.trial_id]) for cell in cells]


def files_hash(config: TrialConfig) -> dict[str, str]:
    """Return the hashes of the files of models, that of the writer apart; nothing for one that is not at hand."""
    from greater_ray.models.identity import sample_files

    named = {"files": config.model, "optimizer_files": config.optimizer_model}
    found = {key: sample_files(model) for key, model in named.items() if model is not None}
    return {key: value for key, value in found.items() if value is not None}

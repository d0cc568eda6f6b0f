"""The flow of a grid, wherever it runs: what is open, phase one, phase two, and what came of every cell.

A ``Backend`` runs cells; in this process (``LocalBackend``) or on Ray (``greater_ray.cluster.grid``). Both call
``run_cell``, so a grid finds the same things in both.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from greater_ray.assembly import Models, Served, assemble, local_models
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.errors import DiskError, EndpointError, GreaterRayError, Interrupted, PoolError, StoreError, redacted
from greater_ray.grid.cells import Cell, expand_grid
from greater_ray.grid.config import GridConfig, TransferConfig
from greater_ray.grid.inputs import Inputs, files_hash, reach
from greater_ray.grid.store import CellState, GridStore
from greater_ray.grid.transfer import Missing, plan_transfer, sources_in, transfer_models
from greater_ray.observer import Observer
from greater_ray.records import StepRecord
from greater_ray.runs import run_parts


class Progress(NamedTuple):
    """How far a running cell is; ``steps`` is how many its search has at most, None where no number bounds them."""

    step: int
    steps: int | None
    phase: str
    loss: float | None
    best_loss: float | None
    tokens: int


class GridObserver:
    """Follows a grid and shows nothing; derive from it and override what is to be shown. Must not raise."""

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        """A phase begins; ``open_cells`` are those still to run."""

    def started(self, cell: Cell) -> None:
        """A cell runs."""

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """A running cell has come further."""

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A cell is ``done``, has ``failed``, or was ``stopped`` without blame."""

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """What the replicas do, every second."""

    def message(self, text: str) -> None:
        """Show what is being waited for."""


class Backend(Protocol):
    """Runs cells to their end and leaves records or failures in the store."""

    def check(self, models: Sequence[ModelConfig], store: GridStore, observer: GridObserver) -> None:
        """Make sure that each of these models could be served here, as a later phase will need it.

        Raises:
            Interrupted: the user asked to stop while nodes were waited for.
            ConfigError: there is no room for one.
        """
        ...

    def run_cells(self, cells: Sequence[Cell], store: GridStore, observer: GridObserver) -> None:
        """Run the cells in any order. A cell that fails does not stop the others.

        Raises:
            Interrupted: the user asked to stop; everything finished is saved.
            ConfigError: they cannot run here; nothing was started.
            DiskError: the folder takes no more.
        """
        ...


@dataclass
class GridResult:
    """Every cell of both phases with its state, what transfer had to leave out, and why it was refused if it was."""

    cells: list[tuple[Cell, CellState]]
    transfers: list[tuple[Cell, CellState]]
    missing: list[Missing] = field(default_factory=list)
    refused: GreaterRayError | None = None

    @property
    def complete(self) -> bool:
        """Whether every cell has a record."""
        ended = all(state.state == "done" for _, state in [*self.cells, *self.transfers])
        return ended and not self.missing and self.refused is None


def run_grid(
    grid: GridConfig,
    out: Path,
    backend: Backend,
    *,
    only: dict[str, list[str]] | None = None,
    retry_failed: bool = False,
    observer: GridObserver | None = None,
) -> GridResult:
    """Run what is not done yet, in both phases; what phase two needs is checked before phase one.

    Raises:
        GreaterRayError: a wrong setting, wrong data or folder; ``Interrupted`` when asked to stop.
    """
    cells = expand_grid(grid, only)
    own = {cell.config.model for cell in cells}
    targets = [model for model in transfer_models(cells[0].config, grid.transfer) if own != {model}]
    transfers = [Transfers(cells, grid.transfer)] if grid.transfer.models else []
    return run_plan(
        Plan(grid.name, cells, transfers, targets, whole=only is None),
        out,
        backend,
        retry_failed=retry_failed,
        observer=observer,
    )


class Transfers(NamedTuple):
    """Cells of phase one whose prompts go to the models of a transfer."""

    sources: Sequence[Cell]
    to: TransferConfig


class Plan(NamedTuple):
    """What is to be run: distinct cells, then transfers from some of them.

    ``targets`` are models of phase two whose room is checked before phase one; ``whole`` tells that nothing else is
    wanted of the folder (``GridStore.write_grid``).
    """

    name: str
    cells: Sequence[Cell]
    transfers: Sequence[Transfers]
    targets: Sequence[ModelConfig]
    whole: bool


def run_plan(
    plan: Plan, out: Path, backend: Backend, *, retry_failed: bool = False, observer: GridObserver | None = None
) -> GridResult:
    """Run what is not done yet of a plan, in both phases.

    Raises:
        GreaterRayError: as ``run_grid``.
    """
    observer = observer or GridObserver()
    cells = list(plan.cells)
    reach({cell.config.model for cell in cells}, "models")
    reach(plan.targets, "transfer.models")
    inputs = Inputs(cells)
    store = GridStore(out)
    store.claim()
    try:
        _tell_damaged_log(store, observer)
        store.write_grid(plan.name, cells, whole=plan.whole)
        _run_phase("optimize", cells, inputs, store, backend, observer, retry_failed, then=plan.targets)
        result = GridResult(_ended(store, cells, inputs), [])
        if not plan.transfers:
            return result
        try:
            transfers, result.missing = _planned_transfers(store, plan.transfers, inputs)
            inputs.add(transfers)
            result.transfers = inputs.states(store, transfers)
            if transfers:
                store.write_grid(plan.name, transfers, whole=plan.whole)
                _run_phase("transfer", transfers, inputs, store, backend, observer, retry_failed)
            result.transfers = _ended(store, transfers, inputs)
        except Interrupted:
            raise
        except GreaterRayError as error:
            # Phase one took hours: what it found is told all the same.
            result.refused = error
        return result
    finally:
        store.close()


def _planned_transfers(
    store: GridStore, transfers: Sequence[Transfers], inputs: "Inputs"
) -> tuple[list[Cell], list[Missing]]:
    """Build the cells of phase two for every transfer, each named once; a lost source is listed once."""
    cells: dict[tuple[str, str | None], Cell] = {}
    missing: dict[Missing, None] = {}
    for sources, to in transfers:
        planned, lost = plan_transfer(store, sources, to, inputs.of)
        cells |= {(cell.trial_id, cell.source): cell for cell in planned}
        missing |= dict.fromkeys(lost)
    return list(cells.values()), list(missing)


def run_transfer(
    out: Path, transfer: TransferConfig, backend: Backend, *, retry_failed: bool, observer: GridObserver | None = None
) -> GridResult:
    """Run phase two alone, on all that is finished in a grid's folder.

    Raises:
        GreaterRayError: as ``run_grid``; also where there is no grid.
    """
    observer = observer or GridObserver()
    store = GridStore(out)
    store.read_grid()
    store.claim()
    try:
        _tell_damaged_log(store, observer)
        sources, lost = sources_in(store)
        inputs = Inputs(sources)
        transfers, missing = plan_transfer(store, sources, transfer, inputs.of)
        reach(dict.fromkeys(cell.config.model for cell in transfers), "transfer.models")
        inputs.add(transfers)
        store.write_grid(store.read_grid()["name"], transfers, whole=True)
        _run_phase("transfer", transfers, inputs, store, backend, observer, retry_failed)
        return GridResult([], _ended(store, transfers, inputs), lost + missing)
    finally:
        store.close()


def _tell_damaged_log(store: GridStore, observer: GridObserver) -> None:
    """Name a log of events that cannot be read; nothing depends on it, and further events are appended."""
    try:
        store.events.read()
    except StoreError as error:
        observer.message(f"WARNING: {error} No result depends on this log; move it away to have a whole one.")


def _ended(store: GridStore, cells: Sequence[Cell], inputs: Inputs) -> list[tuple[Cell, CellState]]:
    """Tell what came of cells that were run.

    Raises:
        DiskError: the folder is gone since: all of them would look as if they had never been begun.
    """
    states = inputs.states(store, cells)
    store.require()
    return states


def open_cells(store: GridStore, cells: Sequence[Cell], inputs: Inputs, retry_failed: bool) -> list[Cell]:
    """Return the cells without a record, each trial once; failed ones only if they are to be tried again."""
    wanted = ("begun", "open", "failed") if retry_failed else ("begun", "open")
    chosen = {cell.trial_id: cell for cell, state in reversed(inputs.states(store, cells)) if state.state in wanted}
    return list(reversed(chosen.values()))


def _run_phase(
    phase: str,
    cells: Sequence[Cell],
    inputs: Inputs,
    store: GridStore,
    backend: Backend,
    observer: GridObserver,
    retry_failed: bool,
    then: Sequence[ModelConfig] = (),
) -> None:
    """Run what is open of a phase; ``then`` are the models of the next one."""
    todo = open_cells(store, cells, inputs, retry_failed)
    observer.planned(phase, cells, todo)
    for cell in todo:
        store.forget_failure(cell.trial_id)
    if todo:
        backend.check(then, store, observer)
        store.note("phase", phase=phase, cells=len(cells), open=len(todo))
        backend.run_cells(todo, store, observer)


class CellObserver(Observer):
    """Turns a trial's events into a cell's progress; ``report`` gets it with the store's folder of the trial."""

    def __init__(self, cell: Cell, report: Callable[[Progress], None]) -> None:
        self.cell, self.report = cell, report
        self.progress = Progress(0, cell.config.budget.steps, "search", None, None, 0)

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Report where the search begins."""
        self._tell(step=done_steps, steps=steps)

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Report a step."""
        self._tell(step=record.step, loss=record.loss, best_loss=record.best_loss, tokens=record.usage.tokens)

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Report how far the final evaluation is."""
        self._tell(phase=f"{split}, {which}: {done} of {of}")

    def _tell(self, **changes: Any) -> None:
        self.progress = self.progress._replace(**changes)
        self.report(self.progress)


def run_cell(
    cell: Cell,
    store: GridStore,
    models: Models,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
    restore: Callable[[Path], None] = lambda folder: None,
) -> CellState:
    """Run one cell to its record, or record why it failed; ``restore`` may fill an empty run folder beforehand.

    Raises:
        Interrupted, EndpointError, PoolError, StoreError: nothing is wrong with the cell; it can go on later.
    """
    inputs: dict[str, str] = {}
    try:
        store.require()
        files = files_hash(cell.config)
        parts = assemble(cell.config, models)
        inputs = {**parts.inputs, **files}
        folder = store.cell_folder(cell, inputs)
        restore(folder)
        run_parts(parts, folder, observer=observer, should_stop=should_stop, files=files)
    except (Interrupted, EndpointError, PoolError, StoreError):
        raise
    except GreaterRayError as error:
        return _failed(cell, store, inputs, str(error), "")
    except Exception as error:  # noqa: BLE001 - a defect in one cell is recorded and the grid goes on
        reason = " ".join(f"internal error: {type(error).__name__}: {error}".split())
        return _failed(cell, store, inputs, reason, traceback.format_exc())
    store.forget_failure(cell.trial_id)
    return CellState("done", folder)


def _failed(cell: Cell, store: GridStore, inputs: dict[str, str], reason: str, trace: str) -> CellState:
    reason = redacted(reason)
    store.write_failure(cell, inputs, reason, redacted(trace))
    store.note("cell failed", trial_id=cell.trial_id, cell=cell.title, reason=reason)
    return CellState("failed", None, reason)


class LocalBackend:
    """Runs cells one after the other in this process, without Ray; a model is loaded once."""

    def __init__(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.should_stop = should_stop

    def check(self, models: Sequence[ModelConfig], store: GridStore, observer: GridObserver) -> None:
        """Refuse nothing: models are loaded one after the other."""

    def run_cells(self, cells: Sequence[Cell], store: GridStore, observer: GridObserver) -> None:
        """Run the cells; see ``Backend``."""
        models = local_models(observer.message)

        def serve(config: ModelConfig) -> Served:
            try:
                return models(config)
            except GreaterRayError as error:
                # As with a pool: no cell is to blame.
                raise PoolError(f"'{config.name}' cannot be served: {error}", setting="model.name") from error

        for cell in cells:
            observer.started(cell)

            def report(progress: Progress, cell: Cell = cell) -> None:
                observer.progressed(cell, progress)

            try:
                state = run_cell(cell, store, serve, CellObserver(cell, report), self.should_stop)
            except DiskError:
                # Every other cell would meet it too, some after hours.
                raise
            except (EndpointError, PoolError, StoreError) as error:
                # Its model does not load, or its folder is in use or damaged: no matter of the other cells.
                observer.ended(cell, "stopped", str(error))
            else:
                observer.ended(cell, state.state, state.reason)

"""TensorBoard, MLflow and W&B through Tune's own callbacks. A tracker that fails is left out; the run goes on."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.errors import ConfigError, redacted, unknown_name
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.store import GridStore
from greater_ray.results import scores

if TYPE_CHECKING:
    from ray import tune

TRACKERS = ("tensorboard", "mlflow", "wandb")
_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of trackers that can be used.

    Raises:
        ConfigError: an unknown tracker, or one whose package is not installed.
    """
    from importlib.util import find_spec

    names = tuple(names)
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if find_spec(_PACKAGES[name]) is None:
            raise ConfigError(
                f"'{name}' needs the package {_PACKAGES[name]}; pip install {_PACKAGES[name]}.", setting="tracker"
            )
    return names


def _make(name: str) -> "tune.Callback":
    if name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(experiment_name="greater-ray")
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project="greater-ray")


@dataclass(eq=False)
class _Trial:
    """A cell as Tune's callbacks know a trial."""

    trial_id: str
    config: dict[str, Any]
    experiment_dir_name: str
    local_path: str
    begun: float = field(default_factory=time.monotonic)
    reports: int = 0
    checkpoint: None = None

    def __str__(self) -> str:
        return self.trial_id

    @property
    def evaluated_params(self) -> dict[str, Any]:
        return self.config

    def init_local_path(self) -> None:
        os.makedirs(self.local_path, exist_ok=True)


class _Guarded:
    """Passes events on until the tracker raises for the first time."""

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self._name, self._tell = name, tell
        self._inner: Any = None
        self._do(lambda: setattr(self, "_inner", _make(name)))

    def __call__(self, event: str, *args: Any) -> None:
        inner = self._inner
        if inner is not None:
            self._do(lambda: getattr(inner, event)(*args))

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, the run goes on
            self._inner = None
            reason = redacted(" ".join(str(error).split()))
            self._tell(f"tracker {self._name} failed and is left out: {type(error).__name__}: {reason}")


class Tracked(GridObserver):
    """Passes on what it is told about the cells of a wave, and tells trackers; their own files are below ``folder``."""

    def __init__(
        self, observer: GridObserver, names: Sequence[str], cells: Sequence[Cell], store: GridStore, folder: Path
    ) -> None:
        self._observer, self._store = observer, store
        self._trackers = [_Guarded(name, observer.message) for name in names]
        self._trials: dict[str, _Trial] = {}
        for number, cell in enumerate(cells):
            # The number keeps cells of one name apart.
            name = f"{number:03d}-{cell.slug}"
            self._trials[cell.trial_id] = _Trial(name, dict(cell.labels), folder.name, str(folder / name))
        self._call("setup")

    def _call(self, event: str, *args: Any) -> None:
        for tracker in self._trackers:
            tracker(event, *args)

    def _report(self, cell: Cell, values: dict[str, Any]) -> None:
        trial = self._trials[cell.trial_id]
        trial.reports += 1
        told = {
            **{name: value for name, value in values.items() if value is not None},
            "training_iteration": trial.reports,
            "time_total_s": time.monotonic() - trial.begun,
            "timestamp": int(time.time()),
            "trial_id": trial.trial_id,
        }
        self._call("on_trial_result", trial.reports, [], trial, told)

    def started(self, cell: Cell) -> None:
        """A cell runs, for the first time or again."""
        self._call("on_trial_start", 0, [], self._trials[cell.trial_id])
        self._observer.started(cell)

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """A cell has come further."""
        self._report(cell, progress._asdict())
        self._observer.progressed(cell, progress)

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A cell has ended; of one that is done the scores are told."""
        found = self._scores(cell) if state == "done" else {}
        self._report(cell, {"state": state, "reason": reason, **found})
        end = "on_trial_complete" if state == "done" else "on_trial_error"
        self._call(end, 0, [], self._trials[cell.trial_id])
        self._observer.ended(cell, state, reason)

    def _scores(self, cell: Cell) -> dict[str, float | None]:
        """Return the scores of a finished cell before and after the search, by split."""
        folder = self._store.state(cell.trial_id).folder
        found: dict[str, float | None] = {}
        for score in scores(self._store.record(folder)) if folder is not None else ():
            found |= {
                f"{score.split}_accuracy_before": score.before,
                f"{score.split}_label_loss_before": score.loss_before,
                f"{score.split}_accuracy": score.after,
                f"{score.split}_label_loss": score.loss_after,
            }
        return found

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """Pass it on."""
        self._observer.pools(stats)

    def message(self, text: str) -> None:
        """Pass it on."""
        self._observer.message(text)

    def close(self) -> None:
        """The wave has ended: trackers that send what they were told do so now."""
        self._call("on_experiment_end", [])

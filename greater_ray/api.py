"""The Python interface.

from greater_ray import optimize
record = optimize(model="smollm2-135m", task="bbh/navigate", data="synthetic", steps=8)
print(record.best.full_text)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greater_ray.assembly import local_models, resolve_config
from greater_ray.errors import unknown_name
from greater_ray.observer import Observer
from greater_ray.records import EvaluationRecord, TrialRecord
from greater_ray.runs import evaluate_prompt, run_config
from greater_ray.settings import merged, read_yaml

if TYPE_CHECKING:
    from greater_ray.grid.config import GridConfig
    from greater_ray.grid.run import Backend, GridObserver
    from greater_ray.progress.stop import Stop
    from greater_ray.results import Results


def _named(value: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": value} if isinstance(value, str) else value


def _kept(rows: Any) -> str | None:
    if rows is None or isinstance(rows, str | Path):
        return None if rows is None else str(rows)
    from greater_ray.tasks import keep_rows

    return keep_rows(rows)


def optimize(  # noqa: PLR0913 - keywords that each stand for themselves
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any] = "rows",
    method: str = "greater",
    *,
    out: str | Path | None = None,
    data: str | None = None,
    rows: Any = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool | Observer | None = None,
    **settings: Any,
) -> TrialRecord:
    """Optimize one prompt and return its record; ``settings`` are further sections of ``TrialConfig``.

    ``model`` and ``task`` are names, or mappings such as ``{"name": "gsm8k", "train_size": 20}``. ``rows`` are one's
    own: a file, a pandas DataFrame or mappings, whose content identifies the run. With ``out`` the run is kept in that
    folder and continues there when it was interrupted.

    ``progress``: None shows it in a notebook and on a terminal (standard error), True elsewhere too, False nowhere; an
    ``Observer`` of one's own is told instead.
    """
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data, "rows": _kept(rows)}),
        "method": method,
        "seed": seed,
        "budget": {} if steps is None else {"steps": steps},
    }
    config = resolve_config(merged(own, settings))
    from greater_ray.progress.watched import watched_trial

    with watched_trial(progress, f"{config.method} on {config.task.name}") as observer:
        observer.message("loading rows and model")
        folder = Path(out) if out is not None else None
        return run_config(config, folder, observer=observer, models=local_models(observer.message))


def evaluate(
    prompt: str,
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any] = "rows",
    *,
    split: str = "test",
    data: str | None = None,
    rows: Any = None,
    progress: bool | Observer | None = None,
    **settings: Any,
) -> EvaluationRecord:
    """Score one prompt, exactly as it is, on a split of a task; ``settings`` are sections of ``TrialConfig``.

    ``rows`` and ``progress``: as for ``optimize``.
    """
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data, "rows": _kept(rows)}),
        "layout": {"frozen_prefix": ""},
    }
    config = resolve_config(merged(own, settings))
    from greater_ray.progress.watched import watched_trial

    with watched_trial(progress, f"{config.task.name} with {config.model.name}") as observer:
        observer.message("loading rows and model")
        return evaluate_prompt(
            config,
            prompt,
            split,
            on_rows=lambda done, of: observer.evaluating(split, "the prompt", done, of),
            message=observer.message,
            models=local_models(observer.message),
        )


def run_grid(
    grid: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    only: Mapping[str, str | Sequence[str]] | None = None,
    replicas: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    progress: bool | None = None,
    **keys: Any,
) -> "Results":
    """Run what is not done yet of a grid and return what its folder holds, as ``load`` does.

    It is what the command ``greater-ray grid`` runs: the same cells, the same folder. A cell that fails does not stop
    the others; it is in the results, with the reason.

    Args:
        grid: a YAML file, the name of a built-in grid, or what would stand in the file.
        out: the folder; the same call continues there.
        only: cells to be run, by patterns on the axes, for instance ``{"task": "bbh/*", "seed": ["0", "1"]}``.
        replicas: copies of each model; 0 runs in this process, without Ray; None means as many as fit.
        address: of the Ray to join; None takes ``RAY_ADDRESS``, else starts one that ends with the call.
        retry_failed: failed cells are run again.
        progress: None shows it in a notebook and on a terminal (standard error), True elsewhere too, False nowhere.
        keys: keys of the grid that take the place of those in the file, for instance ``seeds=[0]``.

    Raises:
        GreaterRayError: a wrong setting, wrong data or folder; what refused the second phase; ``Interrupted`` after the
            first Ctrl-C, or interrupt of the kernel, once finished steps are saved.
    """
    from greater_ray.grid.cells import expand_grid
    from greater_ray.grid.config import grid_file, load_grid
    from greater_ray.grid.run import run_grid as run_cells
    from greater_ray.grid.transfer import transfer_models
    from greater_ray.progress.grid import GridStop
    from greater_ray.progress.watched import watched_grid
    from greater_ray.results import load

    layers = dict(grid) if isinstance(grid, Mapping) else read_yaml(grid_file(str(grid)))
    served = {"replicas": {"count": replicas}} if replicas else {}
    parsed, rule, folder = load_grid(merged(layers, keys, served)), _rule(only), Path(out)
    transfer_models(expand_grid(parsed, rule)[0].config, parsed.transfer)
    with (
        GridStop() as stop,
        watched_grid(progress, folder) as observer,
        _backend(parsed, stop, observer, here=replicas == 0, address=address) as backend,
    ):
        result = run_cells(parsed, folder, backend, only=rule, retry_failed=retry_failed, observer=observer)
    if result.refused is not None:
        raise result.refused
    return load(folder)


def _rule(only: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]]:
    """Return patterns by axis.

    Raises:
        ConfigError: there is no such axis.
    """
    from greater_ray.grid.config import AXES

    rule = {}
    for axis, given in (only or {}).items():
        if axis not in AXES:
            raise unknown_name("only", axis, AXES)
        rule[axis] = [given] if isinstance(given, str) else [str(pattern) for pattern in given]
    return rule


@contextmanager
def _backend(
    grid: "GridConfig", stop: "Stop", observer: "GridObserver", *, here: bool, address: str | None
) -> "Iterator[Backend]":
    if here:
        from greater_ray.grid.run import LocalBackend

        yield LocalBackend(stop.should_stop)
        return
    observer.message("getting Ray ready")
    from greater_ray.cluster.session import on_ray

    with on_ray(grid, stop, observer.message, address=address) as backend:
        yield backend

"""Running tables: what is missing of them, in one grid, in the one folder; then seals, tables and pictures."""

from collections.abc import Sequence
from pathlib import Path

from greater_ray.config import ModelConfig
from greater_ray.drawing import has_matplotlib
from greater_ray.errors import ConfigError, ModelError
from greater_ray.grid.run import Backend, GridObserver, GridResult, run_plan
from greater_ray.paper.catalog import tables
from greater_ray.paper.figures import FORMS, draw
from greater_ray.paper.layout import FORMATS, shown
from greater_ray.paper.measure import Filled
from greater_ray.paper.plan import TablePlan, View, grid_plan, plan_table
from greater_ray.paper.power import resolutions
from greater_ray.paper.store import PaperStore


def plan_tables(name: str, view: View) -> list[TablePlan]:
    """Return one table, or all of which the view leaves something.

    Raises:
        ConfigError: as ``plan_table``; for ``all`` where nothing is left.
    """
    if name != "all":
        return [plan_table(name, view)]
    plans, last = [], ConfigError("there are no tables.", setting="table")
    for known in tables():
        try:
            plans.append(plan_table(known, view))
        except ConfigError as error:
            if error.setting != "only":
                raise
            last = error
    if not plans:
        raise last
    return plans


def check_models(plans: Sequence[TablePlan]) -> None:
    """Make sure that every model of some tables can be found, before anything is written.

    Raises:
        ConfigError: one cannot.
    """
    from greater_ray.models.sources import resolve

    plan = grid_plan(plans)
    models = dict.fromkeys([*(model for cell in plan.cells for model in cell.models), *plan.targets])
    for model in {ModelConfig(name=m.name, revision=m.revision): None for m in models}:
        if ":" in model.name:
            continue
        try:
            resolve(model)
        except ModelError as error:
            raise ConfigError(error.why, setting="model.name", value=model.name) from error


def run_tables(
    plans: Sequence[TablePlan],
    store: PaperStore,
    backend: Backend,
    *,
    retry_failed: bool = False,
    observer: GridObserver | None = None,
) -> GridResult:
    """Run what is missing of some tables of one view, and seal what is finished.

    Raises:
        GreaterRayError: as ``run_plan``; a folder of another scale or version.
    """
    store.check(plans[0].view.scale)
    store.begin({plan.table.name: plan.view for plan in plans})
    result = run_plan(grid_plan(plans), store.folder, backend, retry_failed=retry_failed, observer=observer)
    store.seal((cell.trial_id, state) for cell, state in [*result.cells, *result.transfers])
    return result


def write_files(filled: Filled, folder: Path, forms: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Write a table into a folder in some forms, a figure as pictures too where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for form in forms:
        path = folder / f"{filled.plan.table.name}.{FORMATS[form][0]}"
        path.write_text(shown(filled, form, resolutions(filled)), encoding="utf-8")
        written.append(path)
    if filled.plan.table.figure is not None and has_matplotlib():
        written += draw(filled, folder, FORMS)
    return written

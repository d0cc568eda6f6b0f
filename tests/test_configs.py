"""Every built-in grid expands to trials that resolve."""

from pathlib import Path

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.grid.cells import expand_grid, replica_configs
from greater_ray.grid.config import load_grid
from greater_ray.methods.greater import PLUGIN as GREATER

ROOT = Path(__file__).parent.parent
GRIDS = sorted((ROOT / "greater_ray" / "grid" / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_built_in_grid_expands(path: Path) -> None:
    grid = load_grid(path)
    cells = expand_grid(grid)
    assert grid.name == path.stem
    assert len({cell.trial_id for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.config.trial_id() == resolve_config(cell.config.model_dump(mode="json")).trial_id()
        assert cell.config.model.threads == 1
    replica_configs(grid)


def test_the_grid_of_the_paper_has_its_tasks_models_and_settings() -> None:
    cells = expand_grid(load_grid(ROOT / "greater_ray" / "grid" / "presets" / "bbh-paper.yaml"))
    models = {"meta-llama/Meta-Llama-3-8B-Instruct", "google/gemma-2-9b-it"}
    assert len(cells) == 2 * 21 * 2
    assert {(cell.method, cell.model) for cell in cells} == {
        (m, n) for m in ("greater", "zero-shot-cot") for n in models
    }
    assert len({cell.task for cell in cells}) == 21
    for cell in cells:
        assert (cell.config.preset, cell.config.task.train_size) == ("paper", None)
        if cell.method == "greater":
            assert cell.config.budget.steps == GREATER.presets["paper"]["budget"]["steps"]

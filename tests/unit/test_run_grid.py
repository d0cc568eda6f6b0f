"""A grid from Python: the cells and the folder of the command, its errors in Python's words."""

from pathlib import Path

import pytest
import yaml

from greater_ray import Observer, TrialConfig, load, optimize, run_grid
from greater_ray.cli.app import run
from greater_ray.errors import ConfigError
from tests.grids import GREATER, SMALL, tiny_grid


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a grid that the call has run in part."""
    out = tmp_path_factory.mktemp("called") / "out"
    results = run_grid(tiny_grid(tiny_folder), out, only={"method": "greater", "seed": ["0"]}, replicas=0)
    assert len(results.cells) == len(results.finished) == 1
    return out


def test_the_command_goes_on_where_the_call_has_ended(
    finished: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(tiny_grid(tiny_folder)))
    (first,) = load(finished).finished
    written = (first.folder / "record.json").stat().st_mtime_ns
    assert run(["grid", str(file), "--out", str(finished), "--replicas", "0"]) == 0
    assert "3 cells, 1 done before, 2 to run" in capsys.readouterr().out
    again = run_grid(file, finished, replicas=0)
    assert [cell.state for cell in again.cells] == ["done"] * 3
    assert (first.folder / "record.json").stat().st_mtime_ns == written


def test_keys_take_the_place_of_those_in_the_grid(tiny_folder: Path, tmp_path: Path):
    failing = {"name": "fixed", "label": "empty", "method_config": {"prompt": ""}}
    results = run_grid(tiny_grid(tiny_folder), tmp_path / "out", replicas=0, methods=[failing], seeds=[0])
    assert [(cell.labels["method"], cell.state) for cell in results.cells] == [("empty", "failed")]
    assert "has no tokens" in str(results.cells[0].reason)


def test_mistakes_are_named_before_anything_is_written(tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    for grid, details, sentence in (
        ("bbh-smok", {}, "grid: 'bbh-smok' is unknown; .*Did you mean 'bbh-smoke'"),
        (tiny_grid(tiny_folder), {"only": {"methods": "greater"}}, "only: 'methods' is unknown"),
        (tiny_grid(tiny_folder), {"only": {"method": "gpo"}}, "no cell of the 3"),
        (tiny_grid(tiny_folder), {"sedes": [1]}, "sedes"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            run_grid(grid, out, replicas=0, **details)
    assert not out.exists()


def test_an_observer_of_ones_own_follows_a_run(tiny_folder: Path):
    class Told(Observer):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
            self.texts.append(f"{config.method}, {steps} step")

        def evaluating(self, split: str, which: str, done: int, of: int) -> None:
            self.texts.append(f"{split}: {done} of {of}")

    told = Told()
    settings = {key: value for key, value in SMALL.items() if key != "task"}
    task = {"name": "bbh/boolean_expressions", **SMALL["task"]}
    method = {key: value for key, value in GREATER.items() if key != "name"}
    optimize(str(tiny_folder), task, progress=told, **settings, **method)
    assert told.texts[0] == "greater, 1 step"
    assert "test: 2 of 2" in told.texts

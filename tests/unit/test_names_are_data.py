"""Names of tasks, methods, models and labels are data: no path out of a folder, and code only where that is said."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from greater_ray.cli._runs import default_folder
from greater_ray.cli.app import run
from greater_ray.config import TrialConfig
from greater_ray.export.lm_eval import task_name
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.config import load_grid
from greater_ray.grid.store import GridStore
from greater_ray.plugins import outside
from tests.grids import tiny_grid

NAMES = [
    "../../../etc/x",
    "/etc/passwd",
    "..",
    ".",
    "a/../../b",
    "..\\..\\x",
    "x\x00y",
    "\x1b[2J",
    "-rf",
    "~root",
    "=1+1",
    "é" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder_of_its_grid(name: str, tmp_path: Path) -> None:
    axes = {
        "methods": [{"name": "fixed", "label": name, "method_config": {"prompt": " x"}}],
        "models": [{"name": name, "label": name}],
        "tasks": [{"name": "bbh/navigate", "label": name, "data": "synthetic"}],
    }
    (cell,) = expand_grid(load_grid({**axes, "seeds": [0]}))
    store = GridStore(tmp_path / "out")
    folder = store.cell_folder(cell, {})
    assert folder.parent == store.cells
    assert folder.resolve().parent == store.cells.resolve()
    assert len(folder.name.encode()) < 255
    assert folder.name.isprintable()
    folder.mkdir(parents=True)  # the file system takes it


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder_of_runs(name: str) -> None:
    config = TrialConfig(model={"name": name}, task={"name": name}, method=name)
    folder = default_folder(config)
    assert folder.parent == Path("runs")
    assert folder.name not in ("", ".", "..")
    assert folder.name.isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder_of_an_export(name: str) -> None:
    assert task_name(SimpleNamespace(name=name)).isidentifier()  # type: ignore[arg-type]


def test_names_of_code_are_found_wherever_a_grid_may_have_one() -> None:
    grid = {
        "name": "a.b:C",
        "methods": ["greater", "mine.method:M", {"name": "own:X", "label": "l:l", "method_config": {"prompt": "a:b"}}],
        "tasks": [{"name": "tasks.mine:T", "rows": "hub:org", "metric": "m.f:score"}],
        "models": ["sim:quick", "C:/models/x", {"name": "greater_ray.models:inside"}],
        "include": [{"methods": ["more:N"]}],
        "settings": {"task": {"metric": "m.f:score"}, "optimizer_model": {"name": "w.w:W"}},
        "transfer": {"models": [{"name": "far:F"}]},
    }
    assert outside(grid) == [
        "mine.method:M",
        "own:X",
        "tasks.mine:T",
        "m.f:score",
        "sim:quick",
        "more:N",
        "w.w:W",
        "far:F",
    ]
    assert outside(tiny_grid("m")) == []


def test_a_grid_file_says_which_code_it_names_before_that_code_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text("import sys; sys.stderr.write('the code runs\\n')\nraise ImportError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(tiny_grid("m", methods=["planted:Method"])))
    assert run(["grid", str(file), "--out", str(tmp_path / "out"), "--plan"]) == 2
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == f"'{file}' names code outside this package, which runs with your rights: planted:Method"
    assert second == "the code runs"
    sys.modules.pop("planted", None)
    config = tmp_path / "one.yaml"
    config.write_text("method: planted:Method\ntask: bbh/navigate\nmodel: m\n")
    assert run(["optimize", "--config", str(config)]) == 2
    assert "planted:Method" in capsys.readouterr().err.splitlines()[0]

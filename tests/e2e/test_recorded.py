"""Folders of an earlier version are read, are not computed again, and go on to the very record they would have had."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from benchmarks.simulated import SimulatedEngine
from greater_ray.config import TrialConfig
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.config import GridConfig, load_grid
from greater_ray.grid.run import LocalBackend, run_grid
from greater_ray.grid.store import GridStore
from greater_ray.records import RunConfigFile, TrialRecord
from greater_ray.runs import run_config
from greater_ray.settings import merged

RECORDED = Path(__file__).parent.parent / "recorded" / "0.1.0"
GRID = {
    "name": "recorded",
    "methods": [
        {"name": "greater", "budget": {"steps": 2}, "method_config": {"num_evaluated": 1}},
        "zero-shot-cot",
        {"name": "fixed", "label": "empty", "method_config": {"prompt": ""}},
    ],
    "tasks": ["bbh/navigate"],
    "models": ["benchmarks.simulated:instant"],
    "seeds": [0, 1],
    "settings": {
        "task": {"data": "synthetic", "train_size": 6, "dev_size": 4, "test_size": 6},
        "decoding": {"max_reasoning_tokens": 8, "max_answer_tokens": 3},
        "evaluation": {"splits": ["test"]},
        "shard_size": 3,
    },
    "transfer": {"models": ["benchmarks.simulated:quick"]},
}

# Methods whose presets compute something else than before, and what they computed; GPO's old rules are gone.
BEFORE = {"textgrad": {"layout": {"placement": "after"}}, "few-shot": {"method_config": {"form": "text"}}, "gpo": {}}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every unit of work that takes time."""
    units: list[str] = []
    wait = SimulatedEngine._wait

    def noted(engine: SimulatedEngine, *content: object) -> None:
        units.append(str(content[0]))
        wait(engine, *content)

    monkeypatch.setattr(SimulatedEngine, "_wait", noted)
    return units


def copied(name: str, to: Path) -> Path:
    return shutil.copytree(RECORDED / name, to / name)


def record_of(folder: Path) -> TrialRecord:
    return TrialRecord.model_validate_json((folder / "record.json").read_bytes())


def go_on(folder: Path) -> TrialRecord:
    return run_config(RunConfigFile.model_validate_json((folder / "config.json").read_bytes()).config, folder)


@pytest.mark.parametrize("name", ["greater-finished", "opro-finished"])
def test_a_finished_run_is_read_and_not_computed_again(name: str, tmp_path: Path, computed: list[str]):
    folder = copied(name, tmp_path)
    before = (folder / "record.json").read_bytes()
    assert go_on(folder) == record_of(RECORDED / name)
    assert (folder / "record.json").read_bytes() == before
    assert computed == []


@pytest.mark.parametrize(
    ("name", "straight"),
    [
        ("greater-interrupted", "greater-finished"),
        ("greater-evaluating", "greater-finished"),
        ("opro-interrupted", "opro-finished"),
    ],
)
def test_an_interrupted_run_ends_with_the_record_of_a_straight_one(
    name: str, straight: str, tmp_path: Path, computed: list[str]
):
    folder = copied(name, tmp_path)
    steps = (folder / "steps.jsonl").read_bytes()
    assert go_on(folder).without_times() == record_of(RECORDED / straight).without_times()
    assert (folder / "steps.jsonl").read_bytes().startswith(steps), "what was done is not done again"
    assert computed


def grid() -> GridConfig:
    return load_grid(GRID)


def test_a_finished_grid_is_not_computed_again(tmp_path: Path, computed: list[str]):
    result = run_grid(grid(), copied("grid-finished", tmp_path), LocalBackend())
    assert [state.state for _, state in result.cells] == ["done", "done", "done", "failed"]
    assert [state.state for _, state in result.transfers] == ["done"] * 3
    assert computed == []


def test_an_interrupted_grid_goes_on_to_the_same_records(tmp_path: Path):
    out = copied("grid-interrupted", tmp_path)
    result = run_grid(grid(), out, LocalBackend())
    assert [state.state for _, state in result.cells] == ["done", "done", "done", "failed"]
    assert len(list((out / "cells").iterdir())) == 6, "a begun cell goes on in its own folder"
    recorded = GridStore(RECORDED / "grid-finished")
    for cell, state in (*result.cells[:3], *result.transfers):
        assert state.folder is not None
        straight = recorded.state(cell.trial_id)
        assert straight.folder is not None
        assert state.folder.name == straight.folder.name
        ours, theirs = (record_of(f).without_times() for f in (state.folder, straight.folder))
        # What 0.1.0 did not know is in the config with the value that stands for what it did.
        known = theirs["config"]["method_config"].keys()
        ours["config"]["method_config"] = {k: v for k, v in ours["config"]["method_config"].items() if k in known}
        assert ours == theirs


def test_the_cells_of_the_built_in_grids_keep_their_identity():
    """But for methods whose presets compute something else since; what they did is an option, but for GPO."""
    known = json.loads((RECORDED / "trial_ids.json").read_text(encoding="utf-8"))
    presets = files("greater_ray.grid").joinpath("presets")
    for name, ids in known.items():
        found = expand_grid(load_grid(Path(str(presets.joinpath(f"{name}.yaml")))))
        cells = [cell for cell in found if cell.title in ids]
        assert {cell.title for cell in cells} == ids.keys(), "a grid may grow, and loses no cell"
        moved = {cell.title for cell in cells if cell.trial_id != ids[cell.title]}
        assert moved == {cell.title for cell in cells if cell.config.method in BEFORE}, name
        again = {c.title: TrialConfig.model_validate(merged(c.config.model_dump(), BEFORE.get(c.config.method, {})))
                 for c in cells}  # fmt: skip
        assert {title for title, config in again.items() if config.trial_id() != ids[title]} == {
            cell.title for cell in cells if cell.config.method == "gpo"
        }, name

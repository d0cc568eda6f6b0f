"""Damaged folders: what is broken is named once, with file and line, and never read as a result."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.errors import Place, StoreError
from greater_ray.grid.store import GridStore
from greater_ray.runs import run_config
from tests.e2e.test_recorded import GRID, RECORDED, RunConfigFile

FIRST = "greater--bbh_navigate--benchmarks.simulated_instant--s0-f257f1d2c8f73afe-22f1bccc"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return shutil.copytree(RECORDED / "grid-finished", tmp_path / "grid")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def half_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n")


def no_text(path: Path) -> None:
    path.write_bytes(b'{"a": "\xff"}\n')


def no_object(path: Path) -> None:
    path.write_text("[]\n")


def other(path: Path) -> None:
    path.write_text('{"a": 1}\n')


def deep(path: Path) -> None:
    path.write_text("[" * 5_000 + "\n")


def nothing_but_zeros(path: Path) -> None:
    path.write_bytes(b"\0" * 100 + b"\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (half, half_line, no_text, no_object, other, deep, nothing_but_zeros, a_folder)


def frames(folder: Path) -> None:
    results = load(folder)
    results.cell_frame(), results.step_frame(), results.answer_frame()


def told(call: Callable[[], object]) -> StoreError | None:
    """Return the error that ends a call; anything else that is raised fails the test."""
    try:
        call()
    except StoreError as error:
        return error
    return None


# -- a grid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["grid.json", f"cells/{FIRST}/record.json", f"cells/{FIRST}/steps.jsonl"])
def test_frames_of_a_damaged_grid_are_one_error_with_the_path(name: str, damage: Callable, grid: Path):
    path = grid / name
    whole = path.read_bytes()
    damage(path)
    error = told(lambda: frames(grid))
    if name.endswith("steps.jsonl") and damage is half:
        assert error is None, "a half-written last line is left out"
        return
    assert error is not None
    assert "\n" not in str(error)
    assert isinstance(error.place, Place)
    assert error.place.file == str(path)
    if damage is half_line:
        # Where the cut is: in a file of one object the line behind it may be named.
        assert (error.place.line or 0) - whole[: len(whole) // 2].count(b"\n") - 1 in (0, 1)
    if damage in (no_text, nothing_but_zeros, deep):
        assert error.place.line == 1


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["grid.json", f"cells/{FIRST}/record.json", f"cells/{FIRST}/config.json", "failures/a558e97e0ebc3cfe.json"],
)
def test_no_face_of_a_damaged_grid_ends_in_a_traceback(
    name: str, damage: Callable, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    damage(grid / name)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    again = ["grid", str(tmp_path / "grid.yaml"), "--out", str(grid)]
    for args in (
        ["status", str(grid)],
        ["status", str(grid), "--json"],
        ["export", str(grid), "--cell", "method=greater,seed=0,model=*instant"],
        [*again, "--plan", "--no-probe"],
        [*again, "--replicas", "0", "--json"],
    ):
        code = run(args)
        said = capsys.readouterr()
        assert "internal error" not in said.err
        assert "Traceback" not in said.err
        errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
        if name == "grid.json" and "--plan" not in args:
            assert (code, len(errors)) == (1, 1), said.err
            assert str(grid / name) in errors[0]
        else:
            assert len(errors) <= (args[0] == "export"), said.err
        if name.endswith("record.json") and args[0] in ("status", "grid") and "--plan" not in args:
            shown = said.out + said.err
            assert shown.count(f"{FIRST}/record.json") <= 2, "named once, and once more as the source of a transfer"


def test_a_record_that_cannot_be_read_is_no_result_of_a_grid(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    half(grid / "cells" / FIRST / "record.json")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    args = ["grid", str(tmp_path / "grid.yaml"), "--out", str(grid), "--replicas", "0"]
    assert run([*args, "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["complete"] is False
    assert [cell["state"] for cell in value["cells"]] == ["failed", "done", "done", "failed"]
    assert f"{FIRST}/record.json', line " in value["cells"][0]["reason"]
    assert "scores" not in value["cells"][0]
    lost = {entry["source"]: entry["reason"] for entry in value["missing"]}
    assert f"{FIRST}/record.json', line " in lost["greater on bbh/navigate with benchmarks.simulated:instant, seed 0"]
    assert len(value["transfers"]) == 2, "the other sources are transferred"
    (grid / "cells" / FIRST / "record.json").unlink()
    assert run([*args, "--json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["cells"][0]["state"] == "done", "moved away, it is made again"
    assert len(value["transfers"]) == 3


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_reason_leaves_the_cell_failed_and_the_others_as_they_are(damage: Callable, grid: Path):
    (path,) = (grid / "failures").iterdir()
    damage(path)
    cells = load(grid).cells
    assert [cell.state for cell in cells] == ["done", "done", "done", "failed", "done", "done", "done"]
    assert str(cells[3].reason).startswith(f"the reason is lost: '{path}'")
    assert cells[3].problem == cells[3].reason


def test_what_is_no_run_folder_is_no_cell(grid: Path):
    cells = grid / "cells"
    before = [cell.state for cell in load(grid).cells]
    shutil.rmtree(cells / FIRST)
    (cells / FIRST).write_text("a file")
    (cells / "nothing").mkdir()
    assert [cell.state for cell in load(grid).cells] == ["open", *before[1:]]
    shutil.rmtree(cells)
    assert {cell.state for cell in load(grid).cells} == {"open", "failed"}
    cells.write_text("a file")
    with pytest.raises(StoreError, match=r"'.*/cells': cannot be listed \(Not a directory\)"):
        load(grid)


def test_text_with_other_line_ends_is_one_line(grid: Path):
    path = grid / "cells" / FIRST / "steps.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\ni"
    steps[0]["prompt_text"] = odd
    path.write_bytes("".join(json.dumps(step, ensure_ascii=False) + "\n" for step in steps).encode())
    frame = load(grid).step_frame()
    own = frame[frame["trial_id"] == "f257f1d2c8f73afe"]
    assert list(own["prompt"]) == [odd, steps[1]["prompt_text"]]
    with path.open("ab") as file:
        file.write(b'{"step": 3, "position')
    assert len(load(grid).step_frame()) == len(frame)


# -- a run that goes on ------------------------------------------------------------------------------------------------


def go_on(name: str, folder: Path) -> None:
    run_config(RunConfigFile.model_validate_json((RECORDED / name / "config.json").read_bytes()).config, folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.json", "rollouts.jsonl", "config.json", "evaluations.jsonl"])
def test_a_run_does_not_go_on_from_what_is_broken(name: str, damage: Callable, tmp_path: Path):
    folder = shutil.copytree(RECORDED / "greater-evaluating", tmp_path / "run")
    damage(folder / name)
    steps = (folder / "steps.jsonl").read_bytes()
    error = told(lambda: go_on("greater-evaluating", folder))
    if (name, damage) == ("evaluations.jsonl", half):
        assert error is None, "no checkpoint vouches for it, and half a line is cut off"
        return
    assert error is not None
    assert "\n" not in str(error)
    assert name in str(error) or "holds a different run" in str(error)
    assert (folder / "steps.jsonl").read_bytes() == steps, "nothing is cut off"
    assert not (folder / "record.json").exists()


@pytest.mark.parametrize("name", ["steps.jsonl", "rollouts.jsonl"])
def test_lines_that_a_checkpoint_vouches_for_must_be_there(name: str, tmp_path: Path):
    folder = shutil.copytree(RECORDED / "greater-interrupted", tmp_path / "run")
    half(folder / name)
    with pytest.raises(StoreError, match=rf"{name}': shorter than its checkpoint says \(\d+ of \d+ bytes\)"):
        go_on("greater-interrupted", folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"time": 1, "pid": 1}', '{"time": "now"}'])
def test_a_status_that_no_grid_wrote_is_named_and_not_believed(
    content: str, grid: Path, capsys: pytest.CaptureFixture[str]
):
    (grid / "status.json").write_text(content)
    for form in ([], ["--json"]):
        assert run(["status", str(grid), *form]) == 0
        said = capsys.readouterr()
        assert said.err.startswith(f"WARNING: '{grid / 'status.json'}'")
        assert json.loads(said.out)["running"] is None if form else said.out.startswith("recorded: not running\n")


def test_a_transfer_whose_source_is_gone_is_shown_without_it(grid: Path):
    shutil.rmtree(grid / "cells" / FIRST)
    results = load(grid)
    assert results.cells[0].state == "open"
    assert results.cells[4].source == results.cells[0].trial_id
    assert [score.selection for score in results.cells[4].scores] == [False]
    assert GridStore(grid).states({"unknown": None})["unknown"].state == "open"

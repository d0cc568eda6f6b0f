"""Every file of a run and of a grid, changed by a byte here and there: named with its path, never read as a result."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.config import TrialConfig, parse
from greater_ray.errors import Interrupted, StoreError
from greater_ray.records import RunConfigFile
from greater_ray.runs import run_config
from greater_ray.store import read_steps
from tests.e2e.test_recorded import GRID, RECORDED

PLACES = 24  # bytes that are changed, one at a time, all over a file
OTHER = {ord(b): ord(a) for a, b in zip("1234567890", "0123456789", strict=True)}


class After:
    """Asks to stop from its n-th question on."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def settings() -> TrialConfig:
    noted = RunConfigFile.model_validate_json((RECORDED / "greater-evaluating" / "config.json").read_bytes())
    return noted.config


@pytest.fixture(scope="module")
def evaluating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was stopped amid its final evaluation."""
    folder = tmp_path_factory.mktemp("edits") / "run"
    for questions in range(1, 40):
        with pytest.raises(Interrupted):
            run_config(settings(), folder, should_stop=After(questions))
        if (folder / "evaluations.jsonl").exists():
            return folder
    raise AssertionError("never evaluated")


@pytest.fixture(scope="module")
def finished(evaluating: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(evaluating, tmp_path_factory.mktemp("edits") / "run")
    run_config(settings(), folder)
    return folder


def edits(data: bytes) -> Iterator[bytes]:
    """Change digits one at a time where there are some (the JSON stays whole), and other bytes elsewhere."""
    step = max(1, len(data) // PLACES)
    for begin in range(0, len(data) - 1, step):
        at = next((k for k in range(begin, min(begin + step, len(data))) if data[k] in OTHER), begin)
        new = OTHER.get(data[at], data[at] ^ 1)
        yield data[:at] + bytes([new]) + data[at + 1 :]


def read_all(folder: Path) -> None:
    results = load(folder)
    results.cell_frame(), results.step_frame(), results.answer_frame()


def refused(call: Callable[[], object], path: Path) -> None:
    with pytest.raises(StoreError) as error:
        call()
    assert path.name in str(error.value) or "different run" in str(error.value) or "was begun with" in str(error.value)
    assert "\n" not in str(error.value)
    assert any(word in str(error.value) for word in ("move", "choose another folder", "line", "edited"))


@pytest.mark.parametrize("name", ["config.json", "state.json", "steps.jsonl", "rollouts.jsonl", "evaluations.jsonl"])
def test_no_run_goes_on_from_an_edited_file(name: str, evaluating: Path, tmp_path: Path):
    folder = shutil.copytree(evaluating, tmp_path / "run")
    path = folder / name
    before = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}
    changed = [*edits(path.read_bytes())]
    assert len(changed) >= PLACES / 2
    for data in changed:
        path.write_bytes(data)
        refused(lambda: run_config(settings(), folder), path)
        assert path.read_bytes() == data, "it is left as it is"
        for known in before.keys() - {name, *(["state.json"] if name == "evaluations.jsonl" else [])}:
            assert (folder / known).read_bytes() == before[known], "nothing is cut off, nothing is begun anew"


@pytest.mark.parametrize("name", ["record.json", "steps.jsonl"])
def test_no_edited_file_is_read_as_a_result(name: str, finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished, tmp_path / "run")
    read_all(folder)
    path = folder / name
    for data in edits(path.read_bytes()):
        path.write_bytes(data)
        refused(lambda: read_all(folder), path)
        assert path.read_bytes() == data
    if name == "record.json":
        refused(lambda: run_config(settings(), folder), path)


def test_moved_away_what_was_edited_is_made_again(finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished, tmp_path / "run")
    whole = (folder / "record.json").read_bytes()
    (folder / "record.json").rename(tmp_path / "record.json")
    assert run_config(settings(), folder).without_times() == run_config(settings(), finished).without_times()
    assert len((folder / "record.json").read_bytes()) == pytest.approx(len(whole), abs=200)


def test_a_change_of_ones_own_is_taken_where_its_digest_is_removed(finished: Path, tmp_path: Path):
    folder = shutil.copytree(finished, tmp_path / "run")
    path = folder / "record.json"
    value = json.loads(path.read_bytes())
    value["environment"]["host"] = "elsewhere"
    path.write_text(json.dumps(value))
    refused(lambda: run_config(settings(), folder), path)
    (folder / "record.sha256").unlink()
    assert parse(TrialConfig, run_config(settings(), folder).config.model_dump()) == settings()


def test_an_edited_grid_is_named_and_its_cells_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    grid = shutil.copytree(RECORDED / "grid-finished", tmp_path / "grid")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    again = ["grid", str(tmp_path / "grid.yaml"), "--out", str(grid), "--replicas", "0"]
    assert run(again) == 1, "one cell has failed"
    path = grid / "grid.json"
    for data in edits(path.read_bytes()):
        path.write_bytes(data)
        refused(lambda: load(grid), path)
    capsys.readouterr()
    assert run(again) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(path) in error
    path.rename(tmp_path / "grid.json")
    assert run(again) == 1
    said = capsys.readouterr()
    assert "optimize: 4 cells, 3 done before, 0 to run" in said.out, "moved away, it is made again"
    assert [cell.state for cell in load(grid).cells].count("done") == 6


def test_a_damaged_log_of_events_is_named_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    grid = shutil.copytree(RECORDED / "grid-finished", tmp_path / "grid")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    (grid / "events.jsonl").write_bytes(b'{"time": 1, "ev\n' + (grid / "events.jsonl").read_bytes())
    run(["grid", str(tmp_path / "grid.yaml"), "--out", str(grid), "--replicas", "0"])
    assert f"WARNING: '{grid / 'events.jsonl'}', line 1: not readable JSON" in capsys.readouterr().out


def test_steps_of_a_run_that_goes_on_are_read(evaluating: Path, tmp_path: Path):
    folder = shutil.copytree(evaluating, tmp_path / "run")
    steps = read_steps(folder)
    assert steps
    with (folder / "steps.jsonl").open("ab") as file:
        file.write((folder / "steps.jsonl").read_bytes().splitlines(keepends=True)[-1] + b'{"half')
    assert read_steps(folder) == [*steps, steps[-1]]

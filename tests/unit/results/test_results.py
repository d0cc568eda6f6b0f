"""Results of the recorded folders: as values, as frames, in a LaTeX table, and with broken files among them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.drawing import has_matplotlib
from greater_ray.errors import ConfigError, StoreError
from greater_ray.results.frames import ANSWER_COLUMNS, CELL_COLUMNS, STEP_COLUMNS

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests" / "recorded" / "0.1.0"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return shutil.copytree(RECORDED / "grid-finished", tmp_path / "grid")


def test_a_grid_gives_its_cells_with_states_scores_and_costs(grid: Path):
    results = load(grid)
    assert results.name == "recorded"
    assert [cell.state for cell in results.cells] == ["done", "done", "done", "failed", "done", "done", "done"]
    first, failed, transfer = results.cells[0], results.cells[3], results.cells[4]
    (score,) = first.scores
    assert (score.split, score.rows, score.selection) == ("test", 6, False)
    assert score.change == pytest.approx(score.after - score.before)
    assert score.interval[0] < score.after < score.interval[1]
    assert first.costs["search"].tokens == first.record.optimization_usage.tokens > 0
    assert "has no tokens" in str(failed.reason)
    with pytest.raises(StoreError, match=r"empty on bbh/navigate .* is not finished"):
        _ = failed.record
    assert transfer.source == first.trial_id
    assert transfer.selection_splits == first.record.chosen_by == ("train",)
    assert transfer.record.initial.full_text == first.record.initial.full_text


def test_a_transfer_is_named_after_the_models_that_its_prompt_is_from_and_goes_to(grid: Path):
    results = load(grid)
    title = "on bbh/navigate with benchmarks.simulated:quick (prompt found on benchmarks.simulated:instant)"
    assert [cell.title for cell in results.cells[4:]] == [
        f"greater {title}, seed 0",
        f"greater {title}, seed 1",
        f"zero-shot-cot {title}",
    ]
    assert len({cell.title for cell in results.cells}) == len(results.cells)
    noted = json.loads((grid / "grid.json").read_text())
    noted["cells"] = [entry for entry in noted["cells"] if entry["source"] is not None]
    (grid / "grid.json").write_text(json.dumps(noted))
    assert "(prompt found on another model)" in load(grid).cells[0].title


def test_an_unfinished_grid_and_single_runs_are_read_too():
    begun = load(RECORDED / "grid-interrupted")
    assert [cell.state for cell in begun.cells] == ["done", "begun", "open", "open"]
    assert len(begun.cell_frame()) == 1
    assert set(begun.step_frame()["seed"]) == {"0", "1"}, "steps of a begun cell are there"
    (finished,) = load(RECORDED / "opro-finished").cells
    assert finished.title == "opro on bbh/navigate with benchmarks.simulated:instant, seed 0"
    assert [score.selection for score in finished.scores] == [True, True, False]
    (interrupted,) = load(RECORDED / "opro-interrupted").cells
    assert interrupted.state == "begun"


def test_frames_are_tidy_and_typed(grid: Path):
    results = load(grid)
    cells, steps, answers = results.cell_frame(), results.step_frame(), results.answer_frame()
    for frame, columns in ((cells, CELL_COLUMNS), (steps, STEP_COLUMNS), (answers, ANSWER_COLUMNS)):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns
    assert len(cells) == len(results.finished) == 6
    own = cells[cells["source"].isna()]
    assert list(own["change"].isna()) == [False, False, True]
    assert len(steps) == sum(cell.record.steps for cell in results.finished)
    rows = answers[(answers["trial_id"] == results.cells[0].trial_id) & (answers["when"] == "after")]
    assert float(rows["score"].mean()) == pytest.approx(results.cells[0].scores[0].after)
    assert set(answers["when"]) == {"before", "after", "both"}


def test_the_page_of_columns_names_every_column_with_its_dtype_and_unit():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").partition("\n## Columns\n")[2]
    common, *parts = text.split("\n### ")
    headings = [part.partition("\n")[0] for part in parts]
    assert headings == ["`cell_frame()`", "`step_frame()`", "`answer_frame()`"]
    for part, columns in zip(parts, (CELL_COLUMNS, STEP_COLUMNS, ANSWER_COLUMNS), strict=True):
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", common + part, re.MULTILINE)
        assert [(name, dtype) for name, dtype, _, _ in rows] == list(columns.items()), "in the order of the frame"
        for name, dtype, unit, _ in rows:
            assert (unit == "-") == (dtype in ("string", "boolean") or name == "accepted"), f"{name} in {unit}"


def test_the_examples_of_the_page_of_results_run(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    codes = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for code in codes:
        # A grid is run from Python in tests/unit/test_run_grid.py.
        if "run_grid" in code or ("plots" in code and not has_matplotlib()):
            continue
        narrowed = code.replace("runs/mine", str(grid)).replace('"seed": ["0"]', '"seed": ["0"], "model": ["*instant"]')
        exec(compile(narrowed.replace("gsm8k", "bbh/navigate"), "results.md", "exec"), {})
    assert len(codes) == 3
    assert (tmp_path / "accuracy.pdf").exists() == has_matplotlib()
    out = capsys.readouterr().out
    assert all(cell.title in out for cell in load(grid).finished)
    assert "strict_score=" in out


def test_one_cell_is_chosen_by_its_labels(grid: Path):
    results = load(grid)
    assert results.one({"method": ["zero*"], "model": ["*instant"]}).labels["method"] == "zero-shot-cot"
    with pytest.raises(ConfigError, match=r"4 finished cells match 'method=greater' .*greater on .*seed 0; greater on"):
        results.one({"method": ["greater"]})
    with pytest.raises(ConfigError, match=r"no finished cell matches 'seed=7' .*; there are: greater on bbh/navigate"):
        results.one({"seed": ["7"]})


def test_export_and_evaluate_take_a_cell_of_a_grid(grid: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["export", str(grid)]) == 2
    assert "6 finished cells" in capsys.readouterr().err
    for chosen in (
        ["method=greater", "seed=0", "model=*instant"],
        ["method=greater,seed=0,model=*instant"],
        ["method=x,greater,seed=0", "model=*instant"],
    ):
        assert run(["export", str(grid), *(word for rule in chosen for word in ("--cell", rule))]) == 0
        assert capsys.readouterr().out.strip() == load(grid).cells[0].record.best.full_text
    assert run(["evaluate", "--run", str(grid), "--cell", "method=zero-shot-cot,x", "--cell", "model=*instant"]) == 0
    assert "test: 6 rows" in capsys.readouterr().out
    assert run(["export", str(RECORDED / "opro-finished"), "--cell", "seed=0"]) == 2
    assert "holds a single run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method"], "--cell: 'method' must have the form axis=pattern"),
        (["method="], "--cell: 'method=' must have the form axis=pattern"),
        (
            ["method=greater,sed=1"],
            "--cell: 'sed' is unknown; allowed: method, model, seed, task. Did you mean 'seed'?",
        ),
        (["method=greater,seed=7"], "--cell: no finished cell matches 'method=greater, seed=7' in "),
        (["method=greater", "seed=0"], "--cell: 2 finished cells match 'method=greater, seed=0' in "),
    ],
)
def test_a_wrong_cell_is_one_sentence_about_the_option(
    words: list[str], said: str, grid: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["export", str(grid), *(word for rule in words for word in ("--cell", rule))]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1


def test_a_cell_needs_the_folder_of_a_grid(capsys: pytest.CaptureFixture[str]):
    assert run(["evaluate", "--cell", "method=greater", "--prompt", "Think."]) == 2
    told = "error: --cell: chooses a cell of a grid; give the grid's folder too, with --run.\n"
    assert capsys.readouterr().err == told
    assert run(["export", str(RECORDED / "opro-finished" / "nowhere")]) == 1
    assert "RUN: there is no folder" in capsys.readouterr().err


def test_status_of_a_finished_grid_shows_the_results(grid: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["status", str(grid)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "optimize: 4 cells: 3 done, 1 failed" in lines
    assert any(line.startswith("greater ") and "66.7 %" in line and "+16.7" in line for line in lines)
    assert sum(line.startswith("failed: empty on") for line in lines) == 1


def test_status_of_a_finished_grid_as_json_holds_the_scores_of_its_results(
    grid: Path, capsys: pytest.CaptureFixture[str]
):
    noted = json.loads((grid / "grid.json").read_text())["cells"]
    assert run(["status", str(grid), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    results = load(grid)
    results_as_told = json.loads(json.dumps(results.to_json()))
    for entry, cell, own in zip(noted, told["cells"], results_as_told, strict=True):
        assert entry.items() <= cell.items(), "what the grid has noted stays"
        assert own.items() <= cell.items()
        assert ("scores" in cell) == (cell["state"] == "done")
    assert told["cells"][0]["scores"][0]["after"] == results.cells[0].scores[0].after
    assert told["cells"][0]["reason"] is None
    assert "has no tokens" in told["cells"][3]["reason"]


def test_status_as_json_names_a_record_that_cannot_be_read(grid: Path, capsys: pytest.CaptureFixture[str]):
    (load(grid).cells[0].folder / "record.json").write_text("{")  # type: ignore[operator]
    assert run(["status", str(grid), "--json"]) == 0
    first, second, *_ = json.loads(capsys.readouterr().out)["cells"]
    assert (first["state"], "scores" in first) == ("failed", False)
    assert "record.json" in first["reason"]
    assert second["scores"]


def test_a_cell_gives_its_steps_whether_it_is_finished_or_not():
    done, begun, still_open, _ = load(RECORDED / "grid-interrupted").cells
    assert [step.step for step in done.step_records] == list(range(1, done.outcome.steps + 1))
    assert begun.folder is not None
    assert len(begun.step_records) == len((begun.folder / "steps.jsonl").read_text().splitlines()) > 0
    assert still_open.step_records == []


def test_a_cell_gives_what_its_search_remembers_of_prompts_on_training_rows(grid: Path):
    (cell,) = load(RECORDED / "greater-finished").cells
    prompt = cell.step_records[0].prompt_ids
    assert cell.on_training_rows([prompt])[prompt].rows == cell.record.config.task.train_size
    assert not cell.remembers_too_much
    still_open = load(RECORDED / "grid-interrupted").cells[2]
    assert still_open.on_training_rows([prompt]) == {}
    assert not still_open.remembers_too_much


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1}', "[1, 2]"])
def test_a_broken_record_is_named_with_its_path_and_the_other_cells_stay(
    grid: Path, content: str, capsys: pytest.CaptureFixture[str]
):
    broken = load(grid).cells[0].folder
    assert broken is not None
    (broken / "record.json").write_text(content)
    results = load(grid)
    with pytest.raises(StoreError, match=rf"{broken.name}/record\.json'(, line 1)?: not a record .*move it away"):
        _ = results.cells[0].scores
    assert results.cells[1].scores
    assert run(["status", str(grid)]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(rf"^failed: .*{broken.name}/record\.json'.*: not a record", shown, re.MULTILINE)) == 1
    assert sum(line.startswith("greater ") for line in shown.splitlines()) == 3, "the others are there"
    assert results.cells[4].selection_splits == ()


def test_folders_without_results_are_one_sentence(tmp_path: Path, grid: Path):
    with pytest.raises(StoreError, match="there is no folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds neither a grid"):
        load(tmp_path / "empty")
    noted = json.loads((grid / "grid.json").read_text())
    del noted["cells"][0]["method"]
    (grid / "grid.json").write_text(json.dumps(noted))
    with pytest.raises(StoreError, match=r"grid\.json': not what a grid writes \(cells\.0\.method: Field required\)"):
        load(grid)


def test_a_latex_table_takes_twenty_lines_and_no_private_name(grid: Path):
    script = ROOT / "examples" / "latex_table.py"
    code = script.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 24
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    done = subprocess.run([sys.executable, script, grid], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count(r"\\") == 1 + 3
    assert r"greater & bbh/navigate & benchmarks.simulated:instant & 0 & 50.0 & 66.7 & 1 \\" in done.stdout

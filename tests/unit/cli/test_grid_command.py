"""``greater-ray grid``, ``status`` and ``transfer`` in this process: what they print, refuse and leave."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from greater_ray.cli.app import run
from greater_ray.grid.status import GridStatus
from tests.families import save_tiny
from tests.grids import tiny_grid

ROOT = Path(__file__).parents[3]
FAILING = {"name": "fixed", "label": "empty", "method_config": {"prompt": ""}}


def write(folder: Path, tiny: Path | str, **changes: Any) -> str:
    (folder / "grid.yaml").write_text(yaml.safe_dump(tiny_grid(tiny, **changes)))
    return str(folder / "grid.yaml")


def table(text: str, phase: str) -> list[list[str]]:
    """Return the rows of a phase's table, without its heading."""
    rows = [line.split() for line in text.split(f"\n{phase}: accuracy")[1].split("\n\n")[0].splitlines()[2:]]
    return [row for row in rows if "".join(row[1:2]).startswith("bbh/boo")]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("qwen2", tmp_path_factory.mktemp("far") / "qwen"))


@pytest.fixture(scope="module")
def small(tiny_folder: Path) -> dict[str, Any]:
    """Return a grid whose tables fit the screen."""
    return tiny_grid("-", models=[{"name": str(tiny_folder), "label": "tiny"}])


@pytest.fixture(scope="module")
def finished(small: dict, target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    transfer = {"models": [{"name": target, "label": "far"}]}
    (folder / "grid.yaml").write_text(yaml.safe_dump({**small, "transfer": transfer}))
    assert run(["grid", str(folder / "grid.yaml"), "--out", str(folder / "out"), "--replicas", "0"]) == 0
    return folder


# -- running -----------------------------------------------------------------------------------------------------------


def test_the_same_command_again_prints_the_same_tables_and_runs_nothing(finished: Path, capsys: pytest.CaptureFixture):
    args = ["grid", str(finished / "grid.yaml"), "--out", str(finished / "out"), "--replicas", "0"]
    assert run(args) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"grid folder: {finished / 'out'} (the same command continues there)"
    assert "optimize: 3 cells, 3 done before, 0 to run" in out
    # Sources that found the same prompt share a trial, and each has its row.
    assert re.search(r"transfer: [23] cells, [23] done before, 0 to run", out)
    assert [row[:4] for row in table(out, "optimize")] == [
        ["greater", "bbh/boolean_expressions", "tiny", "0"],
        ["greater", "bbh/boolean_expressions", "tiny", "1"],
        ["zero-shot-cot", "bbh/boolean_expressions", "tiny", "-"],
    ]
    assert [row[2] for row in table(out, "transfer")] == ["far"] * 3
    assert run([*args, "--json"]) == 0
    said = capsys.readouterr()
    value = json.loads(said.out)
    assert "grid folder" in said.err
    assert (value["complete"], value["missing"]) == (True, [])
    assert [len(value[phase]) for phase in ("cells", "transfers")] == [3, 3]
    for row, entry in zip(table(out, "optimize"), value["cells"], strict=True):
        parts = entry["cost"]
        assert list(parts) == ["search", "writer", "evaluation"]
        assert row[-4:-1] == [f"{part['tokens']:,}" for part in parts.values()]
        assert entry["tokens"] == sum(part["tokens"] for part in parts.values())
        assert entry["seconds"] == sum(part["seconds"] for part in parts.values())
        # The search of GReaTer without a writer has one step with one candidate; zero-shot CoT has no step.
        assert entry["proposals"] == {}, "nothing was written"
    assert "(selection)" not in out, "nothing is selected on test rows"
    (score,) = value["cells"][2]["scores"]
    assert "-" in table(out, "optimize")[2]
    assert (score["split"], score["rows"], score["change"]) == ("test", 2, None)
    for entry in (*value["cells"], *value["transfers"]):
        assert entry["state"] == "done"
        assert Path(entry["folder"], "prompt.txt").read_text().strip() == entry["prompt"]
    ids = {entry["trial_id"] for entry in value["cells"]}
    assert {entry["source"] for entry in value["transfers"]} == ids


def test_rows_that_chose_a_prompt_are_marked(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    models = [{"name": str(tiny_folder), "label": "tiny"}]
    file = write(tmp_path, "-", models=models, seeds=[0], settings={"evaluation": {"splits": ["train", "test"]}})
    assert run(["grid", file, "--out", str(tmp_path / "out"), "--replicas", "0"]) == 0
    out = capsys.readouterr().out
    assert "the prompt was selected on rows marked (selection)" in out
    marked = [(row[0], " ".join(row[4:6])) for row in table(out, "optimize") if row[4] == "train"]
    assert [(method, split == "train (selection)") for method, split in marked] == [
        ("greater", True),
        ("zero-shot-cot", False),
    ]


def test_transfer_alone_finds_what_the_grid_found(finished: Path, target: str, capsys: pytest.CaptureFixture):
    args = ["transfer", str(finished / "out"), "--to", target, "--replicas", "0", "--json"]
    assert run(args) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["complete"], value["cells"], len(value["transfers"])) == (True, [], 3)
    assert run([*args, "--split", "train"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert {score["split"] for entry in value["transfers"] for score in entry["scores"]} == {"train"}
    chose = [(entry["method"], entry["scores"][0]["selection"]) for entry in value["transfers"]]
    assert chose == [("greater", True), ("greater", True), ("zero-shot-cot", False)], "under the source's model"
    assert run([*args, "--set", "model.dtype=float64", "--set", "replicas.gpus=1"]) == 0
    value = json.loads(capsys.readouterr().out)
    configs = [json.loads((Path(entry["folder"]) / "config.json").read_text()) for entry in value["transfers"]]
    assert {config["config"]["model"]["dtype"] for config in configs} == {"float64"}


def test_a_failed_cell_is_named_and_the_exit_code_tells(
    small: dict, target: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**small, "methods": [FAILING, "zero-shot-cot"]}))
    args = ["grid", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out"), "--replicas", "0"]
    assert run([*args, "--transfer-to", target]) == 1
    out = capsys.readouterr().out
    title = "empty on bbh/boolean_expressions with tiny"
    reason = "method_config.prompt: '' has no tokens; give at least one word."
    assert f"failed: {title}: {reason}" in out
    assert f"missing source: {title}: {reason}" in out
    assert "failed cells run again with --retry-failed" in out
    assert len(table(out, "transfer")) == 1
    assert run(args) == 1
    out = capsys.readouterr().out
    assert "optimize: 2 cells, 1 done before, 0 to run" in out
    assert run([*args, "--plan", "--no-probe", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["total"] == {"cells": 2, "done": 1, "to_run": 0}
    assert run([*args, "--plan", "--no-probe", "--json", "--retry-failed"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["to_run"] == 1
    assert run([*args, "--retry-failed", "--json"]) == 1
    said = capsys.readouterr()
    assert "1 to run" in said.err
    assert [entry["state"] for entry in json.loads(said.out)["cells"]] == ["failed", "done"]
    assert run([*args, "--transfer-to", target, "--plan", "--no-probe"]) == 0
    assert f"then 2 of transfer at most, to {target} (not estimated)" in capsys.readouterr().out
    assert json.loads(said.out)["cells"][0]["reason"] == reason


def test_what_phase_one_found_is_printed_though_phase_two_is_refused(
    small: dict, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    # One's own task that does not let another model read it; that shows only once there is a prompt for it.
    (tmp_path / "shy_task.py").write_text(
        "from greater_ray.errors import DataError\n"
        "from greater_ray.tasks import load_task as load\n"
        "def make(config):\n"
        "    if config.extractor == 'plain': raise DataError('rows: too shy.')\n"
        "    return load(config.model_copy(update={'name': 'bbh/navigate'}))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tasks = ["bbh/boolean_expressions", {"name": "shy_task:make", "extractor": "dollar"}]
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**small, "tasks": tasks, "methods": ["zero-shot-cot"]}))
    args = ["grid", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "out"), "--replicas", "0"]
    assert run([*args, "--transfer-to", target]) == 2
    said = capsys.readouterr()
    assert len(table(said.out, "optimize")) == 1
    assert "shy_task:make" in said.out
    code, error = said.err.splitlines()
    assert code.endswith("names code outside this package, which runs with your rights: shy_task:make")
    assert error == "error: rows: too shy."


def test_options_go_over_the_file(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    grid = write(tmp_path, "not-there")
    args = ["--model", str(tiny_folder), "--set", "settings.shard_size=7", "--set", "seeds=[5]"]
    command = ["grid", grid, "--out", str(tmp_path / "out"), *args, "--only", "method=greater", "--replicas", "0"]
    assert run([*command, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["cells"]
    assert (entry["model"], entry["seed"]) == (str(tiny_folder), "5")
    assert json.loads((Path(entry["folder"]) / "config.json").read_text())["config"]["shard_size"] == 7


def test_a_folder_named_like_the_grid_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bbh-smoke").mkdir()
    assert run(["grid", "bbh-smoke", "--out", "bbh-smoke", "--plan", "--no-probe"]) == 0
    assert "2 cells, 0 done, 2 to run" in capsys.readouterr().out
    assert list((tmp_path / "bbh-smoke").iterdir()) == []


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_plan_shows_cells_states_and_costs_and_writes_nothing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    args = ["grid", str(finished / "grid.yaml"), "--set", "seeds=[0,4]", "--plan"]
    assert run([*args, "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert out.count("open   ") == out.count("on one replica") == 3
    assert "3 cells, 0 done, 3 to run" in out
    assert "with 1 replica (an order of magnitude" in out
    assert not (tmp_path / "new").exists()
    assert run([*args, "--out", str(finished / "out"), "--json", "--replicas", "2"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [cell["state"] for cell in value["cells"]] == ["done", "open", "done"]
    assert ["tokens" in cell for cell in value["cells"]] == [False, True, False]
    assert value["total"]["to_run"] == 1
    assert value["total"]["replicas"] == 2
    assert value["total"]["tokens"] == value["cells"][1]["tokens"] > 0


def test_a_plan_says_which_replicas_take_several_gpus(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    grid = write(tmp_path, tiny_folder, transfer={"models": [{"name": "far", "replicas": {"gpus": 4}}]})
    args = ["grid", grid, "--out", str(tmp_path / "out"), "--plan", "--no-probe"]
    assert run([*args, "--set", "replicas.gpus=2"]) == 0
    out = capsys.readouterr().out
    assert f"each replica of {tiny_folder} takes 2 GPUs of one machine\n" in out.replace("\n ", " ")
    assert "each replica of far takes 4 GPUs of one machine\n" in out
    assert run([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["gpus_per_replica"] == {"far": 4}


def test_a_plan_says_where_there_is_no_estimate(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    grid = write(tmp_path, tiny_folder, methods=[FAILING])
    assert run(["grid", grid, "--out", str(tmp_path / "out"), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "no estimate: method_config.prompt: '' has no tokens" in out
    assert "on one replica" not in out


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_counts_cells_by_phase_and_state(finished: Path, small: dict, capsys: pytest.CaptureFixture):
    assert run(["status", str(finished / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny: not running"
    assert lines[1] == "optimize: 3 cells: 3 done"
    assert lines[2].startswith("transfer: ")
    assert lines[2].endswith(" done")
    assert run(["status", str(finished / "out"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["running"] is None
    assert {cell["state"] for cell in value["cells"]} == {"done"}


def test_status_shows_failures_and_a_grid_that_runs_now(small: dict, tmp_path: Path, capsys: pytest.CaptureFixture):
    from greater_ray.grid.cells import expand_grid
    from greater_ray.grid.config import load_grid
    from greater_ray.grid.run import Progress
    from greater_ray.grid.store import GridStore

    cells = expand_grid(load_grid(small))
    store = GridStore(tmp_path)
    store.claim()
    store.write_grid("tiny", cells, whole=True)
    store.write_failure(cells[2], {}, "too dark")
    store.cell_folder(cells[0], {}).mkdir()
    figures = GridStatus(tmp_path)
    figures.planned("optimize", cells, cells[:2])
    figures._written = 0
    figures.progressed(cells[0], Progress(1, 4, "search", 2.0, 1.5, 10))
    assert run(["status", str(tmp_path)]) == 0
    out = re.sub(r"time left 0:00:\d\d", "time left SOON", capsys.readouterr().out)
    assert out.splitlines() == [
        "tiny: running now",
        "optimize: cells: 1 running, 0 of 3 done, 1 failed; time left SOON",
        "  greater on bbh/boolean_expressions with tiny, seed 0: step 1 of 4, best loss 1.5000",
        "optimize: 3 cells: 1 begun, 1 open, 1 failed",
        "failed: zero-shot-cot on bbh/boolean_expressions with tiny: too dark",
    ]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["bbh-smok"], ("CONFIG: 'bbh-smok' is unknown", "Did you mean 'bbh-smoke'?")),
        (["missing.yaml"], ("missing.yaml", "No such file")),
        (["bbh-smoke", "--only", "tsk=x"], ("--only: 'tsk'", "Did you mean 'task'?")),
        (["bbh-smoke", "--only", "task=nothing"], ("--only: no cell of the 2",)),
        (["bbh-smoke", "--set", "seeds"], ("--set: 'seeds' must have the form key=value",)),
        (["bbh-smoke", "--set", "settings.budget.step=1"], ("budget.step", "Did you mean 'steps'?")),
        (["bbh-smoke", "--set", "sedes=[1]"], ("sedes", "Did you mean 'seeds'?")),
        (["bbh-smoke", "--set", "settings.seed=1"], ("settings.seed", "seeds")),
        (["bbh-smoke", "--set", "replicas=2", "--replicas", "1"], ("replicas", "not 2")),
        (["bbh-smoke", "--set", "transfer=x", "--transfer-to", "y"], ("transfer", "not 'x'")),
        (["bbh-smoke", "--replicas", "0", "--address", "auto"], ("--replicas: 0 runs", "leave out --address.")),
        (["bbh-smoke", "--replicas", "0", "--wait", "3"], ("leave out --wait.",)),
        (["bbh-smoke", "--replicas", "0", "--concurrency", "3"], ("leave out --concurrency.",)),
        (["bbh-smoke", "--replicas", "0", "--dashboard"], ("leave out --dashboard.",)),
        (["bbh-smoke", "--replicas", "0", "--tracker", "mlflow", "--wait", "1"], ("leave out --wait, --tracker.",)),
        (["bbh-smoke", "--replicas", "-1"], ("--replicas", "-1")),
        (["bbh-smoke", "--concurrency", "0"], ("--concurrency", "0")),
        (["bbh-smoke", "--replica", "1"], ("--replica", "Did you mean '--replicas'?")),
        (["bbh-smoke", "--tracker", "tensorbord"], ("--tracker: 'tensorbord'", "Did you mean 'tensorboard'?")),
    ],
)
def test_a_wrong_command_is_one_sentence_and_leaves_nothing(
    args: list[str], parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    assert run(["grid", *args, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert all(part in said for part in parts), said
    assert list(tmp_path.iterdir()) == []
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        (["grid", "bbh-smoke"], 2, "--out"),
        (["status", "nowhere"], 1, "holds no grid"),
        (["transfer", "nowhere", "--to", "m"], 1, "holds no grid"),
        (["transfer", "nowhere"], 2, "--to"),
        (["transfer", "nowhere", "--to", "m", "--split", "tset"], 2, "'train', 'dev' or 'test', not 'tset'"),
        (["transfer", "nowhere", "--to", "m", "--set", "replicas.gpus=1.5"], 2, "replicas.gpus: input should be 0, a"),
        (["transfer", "nowhere", "--to", "m", "--set", "replicas=2"], 2, "replicas"),
        (["transfer", "nowhere", "--to", "m", "--set", "replica.gpus=1"], 2, "Did you mean 'replicas'?"),
        (["transfer", "nowhere", "--to", "m", "--set", "model.devise=cpu"], 2, "Did you mean 'device'?"),
        (["transfer", "nowhere", "--to", "m", "--set", "model.name=x"], 2, "--set: model: 'name' is unknown"),
        (["transfer", "nowhere", "--to", "m", "--set", "model=x"], 2, "--set: model=x must name a setting"),
        (["transfer", "nowhere", "--to", "m", "--set", "model.dtype=bf16"], 2, "model.dtype: input should be"),
        (["transfer", "nowhere", "--to", "openai/m", "--set", "model.dtype=bfloat16"], 1, "holds no grid"),
    ],
)
def test_other_wrong_commands(args: list[str], code: int, part: str, tmp_path: Path, monkeypatch: Any, capsys: Any):
    monkeypatch.chdir(tmp_path)
    assert run(args) == code
    assert part in capsys.readouterr().err


def test_a_file_or_a_foreign_folder_as_out_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "mine.txt").write_text("precious")
    args = ["grid", "bbh-smoke", "--replicas", "0", "--out"]
    for out, part in ((tmp_path, "holds no grid"), (tmp_path / "mine.txt", "cannot be written")):
        assert run([*args, str(out)]) == 1
        assert part in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "precious"


# -- pipelines ---------------------------------------------------------------------------------------------------------


def script(name: str, args: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipelines" / f"{name}.py"), *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def in_process(name: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [name, *args])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_scripts_run_from_another_directory(
    tiny_folder: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    shutil.copytree(tiny_folder, tmp_path / "near")
    sizes = ["--set", "settings.task.train_size=2", "--set", "settings.decoding.max_reasoning_tokens=4"]
    options = ["--replicas", "0", "--model", "near", "--out", "out", *sizes]
    done = script("bbh_grid", ["--preset", "smoke", *options, "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [cell["state"] for cell in json.loads(done.stdout)["cells"]] == ["done", "done"]
    monkeypatch.chdir(tmp_path)
    assert in_process("transfer", ["out", "--to", target, "--replicas", "0", "--json"], monkeypatch) == 0
    assert len(json.loads(capsys.readouterr().out)["transfers"]) == 2
    data = ["--set", "settings.task.data=synthetic", "--set", "tasks=[bbh/navigate]"]
    assert in_process("gsm8k_folio_grid", [*options[:-1], sizes[-1], "--out", "other", *data], monkeypatch) == 0
    assert "bbh/navigate" in capsys.readouterr().out


def test_the_script_that_compares_says_what_the_tests_say(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    options = ["--out", "race", "--model", str(tiny_folder), "--replicas", "0"]
    sections = {"task.data": "synthetic", "task.train_size": 2, "task.dev_size": 2, "task.test_size": 4}
    sections |= {"decoding.max_reasoning_tokens": 4, "decoding.max_answer_tokens": 2, "budget.tokens": 500}
    settings = {f"settings.{name}": value for name, value in sections.items()}
    settings |= {"seeds": "[0,1]", "methods": "[greater-race,zero-shot-cot]", "tasks": "[bbh/navigate]"}
    assert in_process("successor", ["--out", "race", "--table-only"], monkeypatch) == 1
    assert "no table yet" in capsys.readouterr().err
    for name, value in settings.items():
        options += ["--set", f"{name}={value}"]
    assert in_process("successor", options, monkeypatch) == 0
    table = (tmp_path / "race" / "against.md").read_text()
    assert table in capsys.readouterr().out
    assert {line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")} == {
        *("| method", "| ---", "| greater-race", "| zero-shot-cot", "| (its start prompt)", "| task", "| bbh/navigate"),
    }


@pytest.mark.parametrize("name", ["bbh_grid", "gsm8k_folio_grid"])
def test_the_scripts_hand_every_option_on(name: str, tmp_path: Path, monkeypatch: Any, capsys: Any):
    monkeypatch.chdir(tmp_path)
    data = ["--set", "settings.task.data=synthetic", "--set", "tasks=[bbh/navigate, bbh/object_counting]"]
    assert in_process(name, ["--out", "out", "--plan", "--no-probe", *data], monkeypatch) == 0
    assert "0 done" in capsys.readouterr().out
    assert in_process(name, ["--out", "out", "--plan", "--noprobe"], monkeypatch) == 2
    assert "--noprobe: no such option" in capsys.readouterr().err
    assert in_process(name, ["--preset", "huge"], monkeypatch) == 2
    assert "invalid choice: 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "args", "folder"),
    [
        ("bbh_grid", [], "bbh-laptop"),
        ("bbh_grid", ["--preset", "smoke"], "bbh-smoke"),
        ("gsm8k_folio_grid", [], "gsm8k-folio-laptop"),
    ],
)
def test_the_scripts_need_no_option(name: str, args: list[str], folder: str, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    # A grid of nothing but a model that is not there: it ends where the default folder has been made.
    grid = ["--model", "./missing", "--set", "settings.task.data=synthetic", "--set", "tasks=[bbh/navigate]"]
    assert in_process(name, [*args, "--replicas", "0", *grid], monkeypatch) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder]

"""The commands for tables, from arguments to exit codes, on a tiny model in this process."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.models.rates import path_of
from greater_ray.paper.plan import View, plan_table
from greater_ray.paper.store import PAPER_FILE
from greater_ray.provenance import processor
from tests.made_tables import made_tables
from tests.unit.test_prediction import machine

SMALL = ["--set", "task.test_size=2", "--set", "decoding.max_reasoning_tokens=2"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Path, list[str]]:
    """Return a folder with a table that was run, and the command."""
    out = tmp_path_factory.mktemp("paper") / "out"
    command = ["paper", "run", "table7", "--scale", "smoke", "--out", str(out), "--replicas", "0"]
    command += ["--model", str(tiny_folder), *SMALL]
    assert run([*command, "--format", "json"]) == 0
    return out, command


def said(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([*args])
    found = capsys.readouterr()
    assert "internal error" not in found.err
    return code, found.out, found.err


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    code, _, error = said(capsys, *args)
    assert code == 2
    assert len(error.splitlines()) == 1
    return error


def test_a_table_is_run_and_shown_as_it_was_run(done, capsys: pytest.CaptureFixture[str]):
    out, command = done
    code, shown, _ = said(capsys, "paper", "show", "table7", str(out), "--format", "json")
    assert code == 0
    value = json.loads(shown)
    assert value["complete"]
    assert value["view"]["settings"]["task"]["test_size"] == 2
    assert [number["rows"] for number in value["numbers"]] == [2, 2]
    assert [number["state"] for number in value["numbers"]] == ["done", "done"]
    assert {Path(path).suffix for path in (out / "tables").iterdir()} == {".json"}
    code, shown, _ = said(capsys, *command)
    assert code == 0
    assert "2 done before, 0 to run" in shown
    assert "2 rows are too few to show any difference" in shown
    assert {Path(path).suffix for path in (out / "tables").iterdir()} == {".json", ".csv", ".md", ".tex", ".txt"}


def test_a_transfer_is_run_from_the_prompt_that_was_found(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
):
    far = shutil.copytree(tiny_folder, tmp_path / "far")
    command = ["paper", "run", "table4", "--scale", "smoke", "--out", str(tmp_path / "out"), "--replicas", "0", *SMALL]
    command += ["--model", f"llama-3-8b={tiny_folder}", "--model", f"gemma-2-27b={far}"]
    command += ["--only", "method=greater,task=bbh/navigate"]
    code, shown, _ = said(capsys, *command, "--format", "json", "--json")
    assert code == 0
    (first, mean) = json.loads(shown)["numbers"]
    assert (first["column"], mean["column"]) == ("movie_rec.", "average")
    source, target = (load(path).cells[0].record for path in first["records"])
    assert (source.config.model.name, target.config.model.name) == (str(tiny_folder), str(far))
    assert (source.config.method, target.config.method) == ("greater", "fixed")
    assert target.config.method_config["prompt"] == source.best.full_text
    code, shown, _ = said(capsys, *command)
    assert code == 0
    assert shown.count("1 done before, 0 to run") == 2


def test_the_list_tells_what_is_done(done, tiny_folder: Path, capsys: pytest.CaptureFixture[str]):
    out, _ = done
    code, shown, _ = said(
        capsys, "paper", "list", "--out", str(out), "--model", str(tiny_folder), *SMALL, "--json"
    )  # fmt: skip
    assert code == 0
    tables = {entry["table"]: entry for entry in json.loads(shown)["tables"]}
    assert (tables["table7"]["cells"], tables["table7"]["done"], tables["table7"]["tokens"]) == (2, 2, 0)
    assert tables["table6"]["done"] == 1
    assert tables["table6"]["tokens"] > 0
    assert tables["all"]["scale"] == "smoke"
    assert tables["all"]["cells"] < sum(entry["cells"] for entry in tables.values()) / 2


def test_the_list_tells_hours_of_this_machine_or_what_lacks(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command = ("paper", "list", "--scale", "smoke", "--only", "method=greater")
    code, shown, _ = said(capsys, *command)
    assert code == 0
    assert "tokens left" in shown
    assert "as how fast this machine is in float32 on 1 thread is not measured yet" in shown
    assert "paper list --measure" in shown
    path = path_of(processor(), "float32", 1)
    path.parent.mkdir()
    path.write_text(machine(each=1.0).model_dump_json())
    code, shown, _ = said(capsys, *command, "--json")
    everything = json.loads(shown)["tables"][-1]
    assert everything["hours_here"] > 0
    assert everything["lacking_here"] == {}
    code, shown, _ = said(capsys, *command)
    assert "not in it" not in shown


def test_nothing_of_another_scale_or_version_gets_into_a_folder(done, capsys: pytest.CaptureFixture[str]):
    out, command = done
    other = [*command]
    other[other.index("smoke")] = "full"
    before = (out / PAPER_FILE).read_bytes()
    assert "holds numbers of scale 'smoke', not 'full'" in refused(capsys, *other)
    (out / PAPER_FILE).write_text(json.dumps(json.loads(before) | {"version": "0.0.1"}))
    assert "version 0.0.1" in refused(capsys, *command)
    assert "version 0.0.1" in refused(capsys, "paper", "show", "table7", str(out))
    (out / PAPER_FILE).write_text("[")
    assert PAPER_FILE in refused(capsys, "paper", "show", "table7", str(out))
    (out / PAPER_FILE).write_bytes(before)
    assert said(capsys, "paper", "show", "table7", str(out))[0] == 0


def test_an_edited_record_ends_show_and_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    view = View(scale="smoke")
    store = made_tables(tmp_path / "out", [plan_table("table7", view)])
    path = next(store.grid.cells.iterdir()) / "record.json"
    path.write_text(path.read_text().replace('"prompt_nll": ', '"prompt_nll": 1'))
    whole = path.read_bytes()
    for args in (["show", "table7", str(tmp_path / "out")], ["run", "table7", "--out", str(tmp_path / "out")]):
        assert "record.json': this record is not what was written" in refused(capsys, "paper", *args)
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in refused(capsys, "paper", "show", "table7", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["run", "tabel7"], "ID: 'tabel7' is unknown"),
        (["run", "table5"], "ID: 'table5' is unknown"),
        (["run", "table7", "--scale", "smok"], "--scale: 'smok' is unknown"),
        (["run", "table7", "--scale", "smoke", "--model", "smolm2-135m"], "Did you mean 'smollm2-135m'?"),
        (["run", "table7", "--scale", "smoke", "--model", "/nowhere/at/all"], "there is no folder '/nowhere/at/all'"),
        (["run", "table7", "--model", "lama=x"], "--model: 'lama' is unknown"),
        (["run", "table7", "--seeds", "a"], "--seeds: 'a' must be numbers"),
        (["run", "table7", "--only", "task=gsm8k"], "--only: no cell of 'table7' matches"),
        (["run", "table7", "--set", "task.siez=3"], "'task.siez' is unknown"),
        (["run", "table7", "--set", "task.data=nowhere"], "'nowhere' is neither"),
        (["run", "table7", "--format", "html"], "--format: 'html' is unknown"),
        (["run", "table7", "--scale", "smoke", "--set", "replicas.gpu=1"], "replicas.gpu: unknown option"),
    ],
)
def test_wrong_words_are_one_sentence_and_write_nothing(
    args: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    error = refused(capsys, "paper", *args, "--out", str(tmp_path / "out"), "--replicas", "0")
    assert sentence in error
    assert not (tmp_path / "out").exists()


def test_all_tables_of_a_folder_are_one_document_and_one_set_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    view = View(scale="smoke", only={"task": ["bbh/web_of_lies"]})
    made_tables(tmp_path / "out", [plan_table("table10", view), plan_table("figure4", view)])
    common = ["paper", "show", "all", str(tmp_path / "out"), "--only", "task=bbh/web_of_lies"]
    code, shown, _ = said(capsys, *common, "--format", "json")
    assert code == 0
    tables = {value["table"]: value["complete"] for value in json.loads(shown)}
    assert (tables["table10"], tables["figure4"], tables["table1"]) == (True, True, False)
    code, shown, _ = said(capsys, *common, "--format", "csv")
    assert shown.count("published_percent") == 1
    code, shown, _ = said(capsys, *common, "--to", str(tmp_path / "files"))
    assert code == 0
    assert "table10: 5 done" in shown
    names = {path.name for path in (tmp_path / "files").iterdir()}
    assert {f"{name}.{form}" for name in tables for form in ("txt", "md", "tex", "csv", "json")} <= names


def test_the_script_for_ray_submit_runs_every_table_into_a_folder_of_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    script = Path(__file__).parents[3] / "pipelines" / "paper_tables.py"

    def started(*args: str) -> int:
        monkeypatch.setattr("sys.argv", ["paper_tables", *args, "--replicas", "0"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        return int(ended.value.code or 0)

    assert started("--model", "./missing") == 2
    assert "there is no folder './missing'" in capsys.readouterr().err
    made_tables(tmp_path / "runs" / "paper-smoke", [plan_table("table7", View(scale="smoke"))])
    assert started("table7", "--only", "task=gsm8k") == 2
    assert started("table7", "--scale", "full", "--out", "runs/paper-smoke") == 2
    assert "holds numbers of scale 'smoke'" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "holds no tables" in refused(capsys, "paper", "show", "table7", str(tmp_path))
    recorded = Path(__file__).parents[2] / "recorded" / "0.1.0" / "grid-finished"
    assert "holds a grid, and no tables" in refused(capsys, "paper", "show", "table7", str(recorded))

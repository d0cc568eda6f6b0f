"""The doors: version, module, help pages without noise, completion of names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import greater_ray
from greater_ray.cli.app import run
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.config import load_grid
from greater_ray.grid.store import GridStore


def test_the_version_is_told_by_the_command_and_by_the_module():
    done = subprocess.run(
        [sys.executable, "-m", "greater_ray", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"greater-ray {greater_ray.__version__}\n"


@pytest.mark.parametrize("command", ["", "optimize", "evaluate", "grid", "transfer", "status", "list", "doctor"])
def test_help_names_no_types_of_flags_and_no_braces(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "<bool>" not in shown
    assert "<str>" not in shown
    assert "{" not in shown


def test_options_and_commands_are_grouped(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(panel in shown for panel in ("One prompt", "Grids", "Look around", "--install-completion"))
    assert run(["optimize", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(panel in shown for panel in ("Model", "Task and data", "Method", "Budget"))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("greater-ray optimize --task bbh/nav", "bbh/navigate"),
        ("greater-ray optimize --method greater-t", "greater-textual"),
        ("greater-ray evaluate --model smol", "smollm2-135m"),
        ("greater-ray tran", "transfer"),
        ("greater-ray optimize --method gpo --preset sg", "sgdm"),
        ("greater-ray optimize --method gpo --set method.max_e", "method.max_edit="),
        ("greater-ray optimize --set task.rows_s", "task.rows_split="),
        ("greater-ray optimize --set model.endpoint.ret", "model.endpoint.retries="),
        ("greater-ray optimize --extractor dollar-", "dollar-gemma"),
        ("greater-ray optimize --dtype b", "bfloat16"),
        ("greater-ray optimize --answer-type y", "yes-no"),
        ("greater-ray evaluate --split d", "dev"),
        ("greater-ray export runs/mine --format prom", "promptfoo"),
        ("greater-ray export runs/mine --cell me", "method="),
        ("greater-ray grid bbh-l", "bbh-laptop"),
        ("greater-ray grid bbh-laptop --only ta", "task="),
        ("greater-ray grid bbh-laptop --tracker te", "tensorboard"),
        ("greater-ray paper show gpo-table2", "gpo-table2"),
        ("greater-ray paper list --scale s", "smoke"),
        ("greater-ray list me", "methods"),
        ("greater-ray schema g", "grid"),
    ],
)
def test_a_shell_completes_names(
    words: str, wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert wanted in completed(words, monkeypatch, capsys)


def completed(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a shell is offered for the last word, by the protocol of the installed completion."""
    monkeypatch.setenv("_GREATER_RAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        run([])
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("method=gr", {"method=greater"}),
        ("method=greater,seed=", {"method=greater,seed=0", "method=greater,seed=1"}),
        ("method=greater,ta", {"method=greater,task="}),
        ("colour=", set()),
    ],
)
def test_a_shell_completes_the_cells_of_a_grid(
    part: str, wanted: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    grid = {"methods": ["greater"], "tasks": ["gsm8k"], "models": ["org/name"], "seeds": [0, 1]}
    GridStore(tmp_path).write_grid("mine", expand_grid(load_grid(grid)), whole=True)
    monkeypatch.chdir(tmp_path)
    assert set(completed(f"greater-ray export . --cell {part}", monkeypatch, capsys)) == wanted


def test_where_there_is_no_grid_no_cell_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert completed("greater-ray export . --cell method=g", monkeypatch, capsys) == []


def test_the_module_is_asked_as_the_command_is():
    asked = {"_GREATER_RAY_COMPLETE": "complete_bash", "COMP_WORDS": "greater-ray tran", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "greater_ray"], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["transfer"]

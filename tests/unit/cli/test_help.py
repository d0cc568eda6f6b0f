"""The doors: version, module, help pages without noise, completion of names."""

import os
import subprocess
import sys

import pytest

import greater_ray
from greater_ray.cli.app import run


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
    ],
)
def test_a_shell_completes_names(words: str, wanted: str):
    asked = {"_GREATER_RAY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; sys.argv = ['greater-ray']; from greater_ray.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert wanted in done.stdout.split(), done

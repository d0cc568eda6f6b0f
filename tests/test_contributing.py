"""What is written for contributors exists: targets, files, hooks, and the workflow that runs the same as everybody."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import greater_ray

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", TEXT))))
def test_every_target_exists(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_file_and_folder_exists():
    named = re.findall(r"`([\w./-]+(?:/|\.(?:py|md|toml|yaml)))`", TEXT) + re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(named) > 12
    places = [ROOT, ROOT / "greater_ray"]
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_hooks_run_what_make_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        assert hook["entry"].replace(".venv/bin", "$(BIN)") in makefile.replace("ruff check .", "ruff check"), hook[
            "id"
        ]


def test_the_workflow_runs_what_everybody_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for step in workflow["jobs"]["check"]["steps"]]
    assert any(step.endswith(".ci/run") for step in steps)
    lowest = "\n".join(step.get("run", "") for step in workflow["jobs"]["lowest"]["steps"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package in ("torch", "transformers"):
        (bound,) = [d.split(">=")[1] for d in project["dependencies"] if d.startswith(f"{package}>=")]
        assert f"{package}=={bound}.*" in lowest


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == greater_ray.__version__ == citation["version"]

"""The documentation tells the truth: its examples run, its tables hold the code's values, its links lead somewhere."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from greater_ray.assembly import resolve_config
from greater_ray.methods.greater import PLUGIN, GreaterConfig
from greater_ray.records import TrialRecord
from greater_ray.runs import run_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.exists()]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def python_examples(page: Path) -> dict[str, str]:
    """Return the Python blocks of a page by the file name in their first line."""
    blocks = re.findall(
        r"^```python\n# (\S+\.py)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(blocks)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Write the examples of docs/extending.md where Python finds them, and return their module names."""
    files = python_examples(ROOT / "docs" / "extending.md")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    modules = {name.removesuffix(".py") for name in files}
    yield modules
    torch.set_num_threads(before)
    for module in modules:
        sys.modules.pop(module, None)


def run(tiny_folder: Path, task: dict[str, Any], out: Path | None = None, **settings: Any) -> TrialRecord:
    """Optimize for a few steps on a few rows."""
    sizes = {"train_size": 4, "dev_size": 2, "test_size": 3}
    given = {"model": str(tiny_folder), "task": {**task, **sizes}, "decoding": {"max_reasoning_tokens": 6}}
    return run_config(resolve_config({**given, **settings}), out)


def test_the_method_of_the_docs_runs_and_is_deterministic(
    examples: set[str], tiny_folder: Path, tmp_path: Path
) -> None:
    assert "my_method" in examples
    task = {"name": "bbh/boolean_expressions", "data": "synthetic"}
    settings: dict[str, Any] = {"method": "my_method:PLUGIN", "budget": {"steps": 3}}
    record = run(tiny_folder, task, tmp_path / "run", **settings)
    assert (record.steps, record.stop_reason) == (3, "steps")
    losses = [prompt.loss for prompt in record.finalists]
    assert len(losses) > 1
    assert losses == sorted(losses)
    assert record.best.ids == record.finalists[0].ids
    again = run(tiny_folder, task, **settings)
    assert again.without_times() == record.without_times()


def test_the_task_of_the_docs_runs(examples: set[str], tiny_folder: Path) -> None:
    assert "my_task" in examples
    settings: dict[str, Any] = {"budget": {"steps": 1}, "method_config": {"initial_prompt": " think step by step."}}
    record = run(tiny_folder, {"name": "my_task:Sums"}, **settings)
    counts = {evaluation.split: evaluation.num_examples for evaluation in record.evaluations}
    assert counts == {"train": 4, "dev": 2, "test": 3}
    assert record.task["source"] == "my_task.py"
    assert len({e.id for evaluation in record.evaluations for e in evaluation.examples}) == 9


def test_the_table_of_options_holds_their_values() -> None:
    lines = (ROOT / "docs" / "methods" / "greater.md").read_text(encoding="utf-8").splitlines()
    rows = {cells[1].strip(" `"): cells[2:4] for line in lines if len(cells := line.split("|")) == 6}
    defaults = GreaterConfig()
    released = defaults.model_copy(update=PLUGIN.presets["released"]["method_config"])
    for name in GreaterConfig.model_fields:
        written = [yaml.safe_load(cell.strip().strip("`")) for cell in rows[name]]
        assert written == [getattr(defaults, name), getattr(released, name)], name
    assert "method_config" not in PLUGIN.presets["paper"]


def test_every_difference_from_the_paper_has_a_line() -> None:
    text = (ROOT / "docs" / "methods" / "greater.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| (\d+b?) \|", text, re.MULTILINE)
    assert sorted(numbers) == sorted([*map(str, range(1, 33)), "21b"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if link and not link.startswith("mailto:") and not (page.parent / link).exists()]
    assert not missing

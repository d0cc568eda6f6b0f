"""In a real kernel: the notebooks of `examples/` run, and progress is one output however long it goes on."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="the extra 'notebooks' is not installed")
pytest.importorskip("jupytext", reason="the extra 'notebooks' is not installed")

from examples.execute_notebooks import NOTEBOOKS, execute

ROOT = Path(__file__).parents[2]
# Progress without a model: a search of many steps, an evaluation, a failure, and one that nobody wants to see.
FOLLOWED = """# %%
import time
from greater_ray.progress import notebook
from greater_ray.progress.watched import watched_trial
from tests.unit.progress.test_trial import CONFIG, step
notebook._EVERY = 0.01
HOSTILE = "</pre><script>window.hacked = 1</script>\\x1b[31m\\u202e"
def follow(progress, steps=300):
    with watched_trial(progress, "a run") as told:
        told.started(CONFIG, 0, steps)
        for number in range(1, steps + 1):
            told.stepped(CONFIG, step(number, 0, (5,), f"Use a {HOSTILE}", (5, " a")))
            told.evaluating("test", "after", number, steps)
        if steps == 7:
            raise KeyboardInterrupt

# %%
with watched_trial(None, "a run") as told:
    for number in range(30):
        told.message(f"number {number}")
        time.sleep(0.02)

# %%
follow(None)

# %%
try:
    follow(None, 7)
except KeyboardInterrupt:
    pass

# %%
follow(False)
"""


def outputs(notebook: Any) -> list[list[Any]]:
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def test_progress_is_one_output_and_one_line_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the kernel, which is to find the tests
    (tmp_path / "followed.py").write_text(FOLLOWED, encoding="utf-8")
    notebook = execute([tmp_path / "followed.py"], tmp_path / "out")["followed"]
    _, waited, followed, failed, hidden = outputs(notebook)
    assert [len(found) for found in (waited, followed, failed, hidden)] == [1, 1, 1, 0]
    assert waited[0].data["text/plain"].startswith("a run: number 29")
    assert (
        followed[0].data["text/plain"].startswith("greater on bbh/navigate (synthetic) with m: evaluating test, after")
    )
    panel = failed[0].data
    assert "step 7 of 7" in panel["text/plain"], "after a failure the panel stays"
    assert len(panel["text/plain"].splitlines()) < 20
    assert "<script>" not in panel["text/html"]
    assert not re.search("[\x1b\u202e]", panel["text/html"] + panel["text/plain"])


@pytest.mark.long
@pytest.mark.model
def test_the_notebooks_run(smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Cores are shared with other tests; see tests/conftest.py.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebooks = execute(NOTEBOOKS, tmp_path)
    assert set(notebooks) == {"first_prompt", "grid_and_report", "own_rows_and_method"}
    for name, notebook in notebooks.items():
        shown = [output for found in outputs(notebook) for output in found]
        assert not any(output.get("name") == "stderr" for output in shown), name
        assert all(len(found) <= 2 for found in outputs(notebook)), "progress, and what the cell is about"
        assert any("image/png" in output.get("data", {}) for output in shown), name
        plain = "\n".join(str(output.get("text", output.get("data", {}).get("text/plain"))) for output in shown)
        assert len(plain.splitlines()) < 150, name
    report = tmp_path / "runs" / "small" / "report.html"
    assert "greater-ray report" in report.read_text(encoding="utf-8")[:1000]

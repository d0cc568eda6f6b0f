"""Every `greater-ray` command that the documentation prints runs through the command line as it is written.

So that they take seconds and need no network, some words are exchanged, by the rules in ``exchanged``, and a few
options that make a run small are added at the end. Commands for a Ray that runs elsewhere, for an endpoint and for a
GGUF file of the user's own are not run here; ``ELSEWHERE`` says where they are tested.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from examples.tickets import main as write_tickets
from greater_ray.cli.app import run
from tests.e2e.test_docs import PAGES, ROOT, python_examples
from tests.made_rows import write_made_rows

# What marks a command that is tested elsewhere, and where.
ELSEWHERE = {
    "openai/": "tests/unit/models/test_openai.py",
    ".gguf": "tests/unit/models/test_gguf_cache.py",
    " doctor ": "tests/e2e/test_cli.py",
    " status ": "tests/unit/cli/test_grid_command.py",
    " export ": "tests/e2e/test_cli.py",
    " import ": "tests/unit/test_published.py",
    " paper ": "tests/unit/cli/test_paper_command.py",
    " report ": "tests/unit/report/test_collect.py",
    " cuda:0,cuda:1 ": "tests/unit/models/test_gpu.py",
    "model.quantization=": "tests/unit/models/test_quantized.py",
    " --run ": "tests/unit/results/test_results.py",
}
SMALL = ("--train-size", "3", "--dev-size", "2", "--test-size", "2", "--max-reasoning-tokens", "4")
YAML_FILE = re.compile(r"^```yaml\n# (\S+\.yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the distinct commands of all pages: continued lines joined, comments and prompts dropped."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.match(r"^(?:\$ )?(?:PYTHONPATH=\. )?(greater-ray (?:--?[a-z]|[a-z]+ ).*)$", line)
                if match and "cli/app.py" not in line:
                    found.append(" ".join(shlex.join(shlex.split(match[1], comments=True)).split()))
    return list(dict.fromkeys(found))


COMMANDS = commands()


def exchanged(command: str, model: Path) -> list[str]:
    """Return the arguments, with a tiny model for every other, and files of made rows for those of the hub."""
    words = [word for word in shlex.split(command)[1:] if word != "..."]
    models = {"smollm2-135m", "ORG/NAME", "./my-model", "models/my-model", "Qwen/Qwen2.5-0.5B-Instruct"}
    words = [str(model) if word in models else word for word in words]
    if words[0] == "grid":
        # Its cells are tested elsewhere; that a grid as printed can be planned is what the page promises.
        words = [word for word in words if word != "--plan"]
        return [*words, "--plan", "--no-probe", "--set", "settings.task.data=official"]
    if words[0] in ("optimize", "evaluate"):
        # The one of a file too: options go over it.
        words += ["--model", str(model)] if "--config" in words and "--model" not in words else []
        data = [] if "--rows" in words or "--data" in words or "my_task:Sums" in words else ["--data", "official"]
        steps = ["--steps", "1"] if words[0] == "optimize" and "fixed" not in words else []
        # What has no effect where nothing is optimized is no option there.
        words += [*data, *steps, *SMALL]
    return words


@pytest.fixture
def desk(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the files that the documentation speaks of."""
    write_made_rows(tmp_path / "official")
    for name, text in python_examples(ROOT / "docs" / "extending.md").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name, text in YAML_FILE.findall("\n".join(page.read_text(encoding="utf-8") for page in PAGES)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [{"text": f"What is {k} plus {k}?", "gold": str(2 * k)} for k in range(12)]
    own = [{"question": f"Is {k} even?", "answer": "Yes" if k % 2 == 0 else "No"} for k in range(12)]
    both = [{**a, **b} for a, b in zip(rows, own, strict=True)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, both)), encoding="utf-8")
    choices = [{"question": f"Which one is {k}?", "choices": [str(k), "none"], "answer": "A"} for k in range(12)]
    (tmp_path / "choices.jsonl").write_text("\n".join(map(json.dumps, choices)), encoding="utf-8")
    table = ["q,gold", *(f"What is {k} plus {k}?,{2 * k}" for k in range(12))]
    (tmp_path / "mine.csv").write_text("\n".join(table), encoding="utf-8")
    write_tickets(str(tmp_path / "tickets.csv"))
    (tmp_path / "prompts.yaml").write_text("Llama-3/bbh/navigate/APE: Draw a map.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_documentation_prints_commands():
    assert len(COMMANDS) > 20
    assert any("my_method:PLUGIN" in command for command in COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not any(mark in f"{c} " for mark in ELSEWHERE)])
def test_a_command_of_the_documentation_runs(
    command: str, desk: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
):
    print(command)
    code = run(exchanged(command, tiny_folder))
    assert code == 0, capsys.readouterr()

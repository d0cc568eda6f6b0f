"""Every `greater-ray` command that the documentation prints runs through the command line as it is written.

So that they take seconds and need no network, some words are exchanged, by the rules in ``exchanged``, and a few
options that make a run small are added at the end. What a run, a grid or a table has left is a recorded or made folder.
Commands for a Ray that runs elsewhere, for an endpoint, for GPUs, for a quantized model, for a GGUF file of the user's
own and for the cells of all tables are not run here; ``ELSEWHERE`` says where they are tested.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from examples.tickets import main as write_tickets
from greater_ray.cli.app import run
from greater_ray.paper.plan import View, plan_table
from tests.e2e.test_docs import PAGES, ROOT, python_examples
from tests.made_rows import write_made_rows
from tests.made_tables import made_tables

RECORDED = ROOT / "tests" / "recorded" / "0.1.0"
# What marks a command that is tested elsewhere, and where.
ELSEWHERE = {
    "openai/": "tests/unit/models/test_openai.py",
    ".gguf": "tests/unit/models/test_gguf_cache.py",
    # There one table is run; all of them are many cells of the same kind, on Ray.
    " paper run all ": "tests/unit/cli/test_paper_command.py",
    " cuda:0,cuda:1 ": "tests/unit/models/test_gpu.py",
    "model.quantization=": "tests/unit/models/test_quantized.py",
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
    if words[0] == "paper":
        # All cells of all tables take seconds to be listed, those of the smoke runs do not.
        small = ["--set", "task.test_size=2", "--set", "decoding.max_reasoning_tokens=2"]
        words += ["--model", str(model)] if words[1] == "run" and "--model" not in words else []
        words += small if words[1] == "run" else []
        return [*words, "--scale", "smoke"] if words[1:] == ["list"] else words
    if words[0] == "import":
        return words[: words.index(">")] if ">" in words else words
    if words[0] == "doctor":
        # A folder has no revisions; that those of the hub are taken is tested in tests/unit/models.
        at = words.index("--revision") if "--revision" in words else len(words)
        return [*words[:at], *words[at + 2 :], *SMALL]
    if words[0] in ("optimize", "evaluate") and "--run" not in words:
        # The one of a file too: options go over it.
        words += ["--model", str(model)] if "--config" in words and "--model" not in words else []
        data = [] if "--rows" in words or "--data" in words or "my_task:Sums" in words else ["--data", "official"]
        steps = ["--steps", "1"] if words[0] == "optimize" and "fixed" not in words else []
        # What has no effect where nothing is optimized is no option there.
        words += [*data, *steps, *SMALL]
    return words


def put_folders(command: str, desk: Path) -> None:
    """Put recorded folders and tables where a command reads a run, a grid or a folder of tables."""
    words = command.split()[1:]
    read = {"runs/mine", "runs/first", "runs/demo", "runs/grid", "tickets-run"} if "--out" not in words else set()
    for word in read & set(words):
        # The interrupted grid has one finished cell of GReaTer with seed 0, the finished one has it transferred too.
        of_a_run = word in ("runs/first", "tickets-run") or (words[0] == "export" and word == "runs/mine")
        recorded = "grid-interrupted" if "--cell" in words else "greater-finished" if of_a_run else "grid-finished"
        shutil.copytree(RECORDED / recorded, desk / word)
    if words[:2] == ["paper", "show"]:
        made_tables(desk / "runs" / "paper", [plan_table("table7", View(scale="smoke"))])
    if words[0] == "import":
        assert run(["export", str(RECORDED / "greater-finished"), "--format", "dspy", "--to", "dspy"]) == 0
        shutil.copy(desk / "dspy" / "program.json", desk)


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
    put_folders(command, desk)
    code = run(exchanged(command, tiny_folder))
    assert code == 0, capsys.readouterr()

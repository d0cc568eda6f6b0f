"""The real command on a tiny model: what a user sees, types wrongly, and interrupts."""

import json
import os
import pty
import random
import re
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from greater_ray.cli.app import run
from greater_ray.records import TrialRecord

COMMAND = [sys.executable, "-m", "greater_ray.cli.app"]
HEAVY = ("ray", "torch", "transformers", "pandas", "datasets", "scipy", "numpy", "huggingface_hub")
# One thread: several test processes on few cores otherwise wait for each other.
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def call(args: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND + args, cwd=cwd, env=ENV | env, capture_output=True, text=True, timeout=120)


def begin(args: list[str], cwd: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(COMMAND + args, cwd=cwd, env=ENV, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def small(tiny_folder: Path) -> list[str]:
    sizes = ["--train-size", "4", "--dev-size", "2", "--test-size", "4", "--max-reasoning-tokens", "6"]
    task = ["--task", "bbh/boolean_expressions", "--data", "synthetic"]
    return ["--model", str(tiny_folder), *task, *sizes]


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """Return the folder and the output of an undisturbed run."""
    folder = tmp_path_factory.mktemp("cli")
    sizes = ["--train-size", "4", "--dev-size", "2", "--test-size", "4", "--max-reasoning-tokens", "6"]
    task = ["--task", "bbh/boolean_expressions", "--data", "synthetic"]
    args = ["optimize", "--model", str(tiny_folder), *task, *sizes, "--steps", "12", "--out", "run"]
    return folder / "run", call(args, folder)


def record_in(folder: Path) -> TrialRecord:
    return TrialRecord.model_validate_json((folder / "record.json").read_text())


def wait_for_steps(folder: Path, process: subprocess.Popen[str], num: int = 1) -> None:
    deadline = time.monotonic() + 60
    path = folder / "steps.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= num:
            return
        time.sleep(0.01)
    raise AssertionError(f"no step within a minute: {process.poll()}")


# -- help and lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--help"], ["optimize", "--help"], ["list", "tasks"], ["list", "models"]])
def test_help_and_lists_answer_at_once(args, tmp_path):
    # Processor time: it equals wall time on an idle machine, and a busy one hardly changes the answer: one of three.
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=1.0) >= 0.5:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert call(args, tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("args", [["--help"], ["optimize", "--help"], ["list", "tasks"], ["list", "methods"]])
def test_help_and_lists_load_nothing_heavy(args, tmp_path):
    code = (
        f"import sys; from greater_ray.cli.app import run; run({args}); print(sorted(set(sys.modules) & set({HEAVY})))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_lists(capsys):
    assert run(["list", "tasks", "--json"]) == 0
    tasks = {task["name"]: task for task in json.loads(capsys.readouterr().out)}
    assert tasks["bbh/navigate"]["synthetic"]
    assert tasks["bbh/navigate"]["answer_type"] == "yes-no"
    assert "bbh-paper" in tasks["bbh/navigate"]["groups"]
    assert run(["list", "tasks"]) == 0
    assert re.search(r"^gsm8k +number", capsys.readouterr().out, re.MULTILINE)
    assert run(["list", "methods"]) == 0
    assert re.search(r"^greater .*arXiv 2412.09722", capsys.readouterr().out, re.MULTILINE)
    assert run(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^smollm2-135m +Apache-2.0", out, re.MULTILINE)
    assert "org/name" in out


# -- running, continuing -----------------------------------------------------------------------------------------------


def test_a_run_from_start_to_end(finished):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 12
    assert all(re.match(rf"step {k} of 12  position \d+ of \d+  loss [\d.]+  best", s) for k, s in enumerate(steps, 1))
    record = record_in(folder)
    for part in (
        "greater on bbh/boolean_expressions (synthetic) with",
        f"prompt after:  {record.best.full_text}",
        "accuracy before",
        "loss after",
        "difference",
        "p value",
        "strict accuracy",
        "unreadable",
        "truncated",
        "test (4 rows)",
        f"{record.optimization_usage.tokens:,} tokens",
    ):
        assert part in result.stdout, part
    assert "\x1b" not in result.stdout
    assert (folder / "prompt.txt").read_text() == record.best.full_text + "\n"


def test_a_finished_run_returns_at_once(finished, small):
    folder, _ = finished
    args = ["optimize", *small, "--steps", "12", "--out", "run"]
    start = time.perf_counter()
    result = call([*args, "--json"], folder.parent)
    assert time.perf_counter() - start < 3
    assert result.stdout == (folder / "record.json").read_text()
    assert "nothing was computed" in result.stderr


def test_json_leaves_standard_output_clean(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["optimize", *small, "--steps", "1", "--json", "--set", "method.initial_prompt=Think well."]) == 0
    captured = capsys.readouterr()
    record = TrialRecord.model_validate_json(captured.out)
    assert record.initial.full_text == "Use Think well."
    assert captured.err.count("step 1 of 1") == 1
    assert f"run folder: runs{os.sep}" in captured.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert record_in(folder) == record


def test_killed_at_any_moment_it_ends_with_the_same_record(finished, small, tmp_path):
    args = ["optimize", *small, "--steps", "12", "--out", "run"]
    moments = random.Random(time.time())
    process = begin(args, tmp_path)
    wait_for_steps(tmp_path / "run", process, moments.randint(1, 6))
    time.sleep(delay := moments.uniform(0, 0.2))
    process.kill()
    process.wait()
    assert run([*args[:-1], str(tmp_path / "run")]) == 0
    assert record_in(tmp_path / "run").without_times() == record_in(finished[0]).without_times(), delay


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_continues(number, code, finished, small, tmp_path):
    args = ["optimize", *small, "--steps", "12", "--out", "run"]
    process = begin(args, tmp_path)
    wait_for_steps(tmp_path / "run", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "this step ends and is saved first" in err
    assert "stopped; everything finished is saved in 'run'" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "record.json").exists()
    if number == signal.SIGINT:
        assert run([*args[:-1], str(tmp_path / "run")]) == 0
        assert record_in(tmp_path / "run").without_times() == record_in(finished[0]).without_times()


def test_the_second_ctrl_c_aborts_at_once(tiny_folder, tmp_path):
    long = ["--task", "bbh/navigate", "--data", "synthetic", "--max-reasoning-tokens", "1500", "--steps", "3"]
    process = begin(["optimize", "--model", str(tiny_folder), *long, "--out", "run"], tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    while not process.stdout.readline().startswith("greater on"):
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert "once more aborts" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - start < 5
    assert "aborted; finished steps are kept" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_a_terminal_shows_a_live_panel(small, tmp_path):
    parent, child = pty.openpty()
    # Test rows enough for the panel to be drawn while they are answered.
    args = ["optimize", *small, "--steps", "30", "--test-size", "40", "--out", "run", "--no-color"]
    env = ENV | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(COMMAND + args, cwd=tmp_path, env=env, stdout=child, stderr=child)
    os.close(child)
    parts = []
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:  # Linux tells the end this way
            break
        if not data:
            break
        parts.append(data)
    os.close(parent)
    screen = b"".join(parts).decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert process.wait(timeout=60) == 0
    for part in (
        "loading rows and model",
        "of 30",
        "position",
        "candidate",
        "gradient",
        "taken",
        "prompt: Use",
        "best loss",
        "tokens/s",
        "time left",
        "evaluating test",
        "prompt after:",
    ):
        assert part in text, part
    assert "\x1b[" in screen
    assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", screen)
    assert "\x1b[?25h" in screen  # the cursor is back


def test_the_python_pipeline(tiny_folder, tmp_path, capsys, monkeypatch):
    script = Path(__file__).parents[2] / "pipelines" / "optimize.py"
    assert len(script.read_text().splitlines()) <= 80
    sizes = ["task.train_size=3", "task.dev_size=0", "task.test_size=3", "decoding.max_reasoning_tokens=4"]
    args = ["--model", str(tiny_folder), "--task", "bbh/navigate", "--data", "synthetic", "--steps", "2"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), *args, "--out", "run", "--set", *sizes])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    assert "step 2: loss" in out
    assert f"after:  {record_in(tmp_path / 'run').best.full_text}" in out


# -- using a run -------------------------------------------------------------------------------------------------------


def test_evaluating_a_run_gives_its_own_figures(finished, capsys):
    folder, _ = finished
    record = record_in(folder)
    own = record.evaluation("test", record.best)
    assert own is not None
    assert run(["evaluate", "--run", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["split"] == "test"
    if record.best.survives_retokenization and record.best.text[:1].isspace():
        assert result["label_ce"] == own.label_ce
        assert result["accuracy"] == own.accuracy


def test_a_prompt_is_evaluated_as_it_is(small, capsys, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Think well.\n")
    assert run(["evaluate", *small, "--prompt-file", str(file), "--split", "dev"]) == 0
    out = capsys.readouterr().out
    for part in (
        "bbh/boolean_expressions (synthetic), dev: 2 rows",
        "accuracy",
        "95 % interval",
        "strict",
        "label loss",
        "unreadable",
        "truncated",
    ):
        assert part in out
    assert run(["evaluate", *small, "--prompt", "Think well.", "--split", "dev", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    prefixed = ["--set", "layout.frozen_prefix=Use"]
    assert run(["evaluate", *small, "--prompt", "Think well.", "--split", "dev", "--json", *prefixed]) == 0
    assert json.loads(capsys.readouterr().out)["label_ce"] != plain["label_ce"]
    for placed in (["--placement", "system"], ["--placement", "{prompt}\n{question}"], ["--system", "Be brief."]):
        assert run(["evaluate", *small, "--prompt", "Think well.", "--split", "dev", "--json", *placed]) == 0
        assert json.loads(capsys.readouterr().out)["label_ce"] != plain["label_ce"]


def test_export(finished, capsys, tmp_path):
    folder, _ = finished
    record = record_in(folder)
    assert run(["export", str(folder)]) == 0
    assert capsys.readouterr().out == record.best.full_text + "\n"
    assert run(["export", str(folder), "--format", "messages"]) == 0
    (message,) = json.loads(capsys.readouterr().out)
    assert message == {"role": "user", "content": "{question} Use" + record.best.text}
    assert run(["export", str(folder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["extractor"]["variant"] == "plain"
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert run(["export", str(tmp_path)]) == 1
    assert "is not finished" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert run(["export", str(tmp_path)]) == 1
    assert "config.json', line 1: not readable JSON" in capsys.readouterr().err
    assert run(["export", str(folder), "--format", "xml"]) == 2


def test_doctor(small, capsys, tmp_path):
    assert run(["doctor", *small, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in result["checks"]}
    assert result["ok"]
    assert list(checks) == ["rows", "model", "prompt", "bos", "stop", "losses", "gradient", "extractor", "memory"]
    assert checks["gradient"]["figures"]["error"] < 1e-2
    assert checks["losses"]["figures"]["label"] < 1e-3
    assert {"plain", "dollar"} <= checks["extractor"]["figures"].keys()
    assert checks["memory"]["figures"]["parameters"] > 300_000
    assert run(["doctor", *small, "--model", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^ok +rows +bbh/boolean_expressions \(synthetic\): train 4", out, re.MULTILINE)
    assert re.search(r"^fail +model +--model: .* has no config.json", out, re.MULTILINE)


def test_doctor_reads_answers_as_a_run_does(small, capsys):
    assert run(["doctor", *small, "--reading", "likelihood", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert all(figures["readable"] == 1.0 for figures in checks["extractor"]["figures"].values())


# -- mistakes: one sentence, and the right exit code -------------------------------------------------------------------


def one_sentence(err: str) -> str:
    """Return the only error line; there is no traceback and no second complaint."""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith(("error:", "internal error:"))]
    return line


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "task": (["--task", "bbh/navigat"], 2, r"--task: 'bbh/navigat' is unknown.* Did you mean 'bbh/navigate'\?"),
    "group": (["--task", "bbh"], 2, r"--task: 'bbh' is a group of 27 tasks"),
    "model": (["--model", "smollm2-135"], 2, r"--model: 'smollm2-135' is unknown.* Did you mean 'smollm2-135m'\?"),
    "folder": (["--model", "./none"], 2, r"--model: there is no folder './none'"),
    "method": (["--method", "greatr"], 2, r"--method: 'greatr' is unknown.* Did you mean 'greater'\?"),
    "preset": (["--preset", "papr"], 2, r"--preset: 'papr' is unknown.* Did you mean 'paper'\?"),
    "option": (["--stepz", "3"], 2, r"--stepz: no such option. Did you mean '--steps'\?"),
    "integer": (["--steps", "many"], 2, r"--steps: .* integer, not 'many'\."),
    "negative": (["--steps", "-1"], 2, r"--steps: .* greater than or equal to 0, not -1"),
    "dtype": (["--dtype", "float31"], 2, r"--dtype: .*'float32'.*, not 'float31'"),
    "data": (["--data", "synthetc"], 2, r"--data: 'synthetc' .* Did you mean 'synthetic'\?"),
    "extractor": (["--extractor", "dolar"], 2, r"--extractor: 'dolar' is unknown.* Did you mean 'dollar'\?"),
    "placement": (["--placement", "front"], 2, r"--placement: .* after, before, system or a text .*, not 'front'\."),
    "two systems": (
        ["--placement", "system", "--system", "Be brief."],
        2,
        r"--system: goes with every --placement but 'system', .* is layout\.frozen_prefix, not 'Be brief\.'",
    ),
    "thinking": (["--no-thinking"], 2, r"--thinking: False is not possible: .*reads none of enable_thinking, thinking"),
    "set without value": (["--set", "steps"], 2, r"--set: 'steps' must have the form key=value"),
    "set unknown": (["--set", "budgt.steps=3"], 2, r"--set budgt: unknown option.* Did you mean 'budget'\?"),
    "set method": (["--set", "method.topk=3"], 2, r"--set method.topk: .* Did you mean 'top_k'\?"),
    "set long": (["--set", "method_config.topk=3"], 2, r"--set method_config.topk: .* Did you mean 'top_k'\?"),
    "set value": (["--set", "method.top_k=no"], 2, r"--set method.top_k: .* not False"),
    "split size": (["--test-size", "500"], 2, r"--test-size: the test split of .* has 100 rows, but 500"),
    "window": (["--max-reasoning-tokens", "4000"], 2, r"row '.*': .* context window has room for 0 tokens of prompt"),
    "no prompt": (["--set", "method.initial_prompt=' '"], 2, r"--set method.initial_prompt: ' ' has no tokens"),
    "device": (["--device", "cuda:77"], 2, r"--device: 'cuda:77' is not available; here: auto, cpu"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(mistake, small, tmp_path, capsys):
    args, code, pattern = MISTAKES[mistake]
    assert run(["optimize", *small, "--steps", "1", "--out", str(tmp_path / "run"), *args]) == code
    captured = capsys.readouterr()
    assert re.search(pattern, one_sentence(captured.err))
    # What only a method or a long row shows is told when the run has begun.
    assert (tmp_path / "run").exists() == (mistake in ("window", "no prompt"))


def test_missing_options_and_commands(capsys):
    assert run(["optimize"]) == 2
    assert "--model: missing" in one_sentence(capsys.readouterr().err)
    assert run(["optimise"]) == 2
    assert "Did you mean 'optimize'?" in one_sentence(capsys.readouterr().err)
    assert run(["list", "task"]) == 2
    assert "Did you mean 'tasks'?" in one_sentence(capsys.readouterr().err)
    assert run(["export", "nowhere"]) == 1
    assert "there is no folder 'nowhere'" in one_sentence(capsys.readouterr().err)
    assert run(["evaluate", "--model", "m", "--task", "gsm8k", "--prompt", " "]) == 2
    assert "--prompt: ' ' has no tokens" in one_sentence(capsys.readouterr().err)
    assert run(["evaluate", "--model", "m", "--task", "gsm8k", "--prompt", "a", "--split", "tst"]) == 2
    assert "Did you mean 'test'?" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (None, r"--config: '.*' cannot be read \(No such file"),
        ("seed: [1", r"--config: '.*', line \d: not valid YAML"),
        ("- 1", r"must hold a mapping of options, not list"),
        ("budget: {stps: 3}", r"run.yaml', line 1: budget.stps: unknown option.* Did you mean 'steps'\?"),
    ],
)
def test_a_broken_config_file(content, pattern, small, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    assert run(["optimize", *small, "--config", str(file)]) == 2
    assert re.search(pattern, one_sentence(capsys.readouterr().err))


GOOD_LINE = '{"question": "Is it?", "answer": "Yes"}\n'


@pytest.mark.parametrize(
    ("name", "content", "args", "pattern"),
    [
        ("none.jsonl", None, [], r"--rows: '.*none.jsonl' cannot be read"),
        ("empty.jsonl", "", [], r"--rows: '.*empty.jsonl' is empty"),
        ("empty.csv", "question,answer\n", [], r"--rows: '.*empty.csv' has a header but no rows"),
        ("broken.jsonl", GOOD_LINE + "{oops\n", [], r"line 2: not valid JSON"),
        ("broken.csv", "question,answer\na,Yes\nb\n", [], r"line 3: has 1 fields, but the header has 2"),
        ("column.jsonl", GOOD_LINE, ["--answer-column", "answr"], r"line 1: no column 'answr'.*mean 'answer'"),
        ("label.jsonl", GOOD_LINE * 9 + '{"question": "a", "answer": "maybe"}\n', ["--answer-type", "yes-no"],
         r"line 10: the answer 'maybe' is not a 'yes-no' \(Yes, No\)"),
        ("few.jsonl", GOOD_LINE * 3, ["--train-size", "9"], r"has 3 rows, but 9 were asked for \(--train-size 9\)"),
    ],
)  # fmt: skip
def test_unusable_rows(name, content, args, pattern, tiny_folder, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    rows = ["--rows", str(tmp_path / name), "--out", str(tmp_path / "run")]
    assert run(["optimize", "--model", str(tiny_folder), *rows, *args]) == 2
    assert re.search(pattern, one_sentence(capsys.readouterr().err))


def test_own_rows_need_no_task(tiny_folder, tmp_path, capsys):
    file = tmp_path / "mine.csv"
    file.write_text("q,a\n" + "".join(f"Is {i} even?,{'no' if i % 2 else 'yes'}\n" for i in range(12)))
    columns = ["--question-column", "q", "--answer-column", "a", "--train-size", "4", "--dev-size", "2"]
    args = ["--rows", str(file), *columns, "--steps", "1", "--max-reasoning-tokens", "4", "--out", str(tmp_path / "r")]
    assert run(["optimize", "--model", str(tiny_folder), *args]) == 0
    assert "greater on rows (mine.csv)" in capsys.readouterr().out


def test_a_model_folder_without_tokenizer(tiny_folder, small, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run(["optimize", *small, "--model", "model", "--steps", "1"]) == 2
    assert "--model: 'model' has no tokenizer" in one_sentence(capsys.readouterr().err)


def test_a_hub_out_of_reach_is_told_within_seconds(small, tmp_path):
    nobody = "http://127.0.0.1:9"
    hub = {"HF_ENDPOINT": nobody, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "HF_HOME": str(tmp_path / "hf")}
    for args, code, choices in (
        (["--model", "some/model"], 1, "a local model folder or a GGUF file need no hub"),
        (["--data", "hub"], 2, "set --data to synthetic or a folder, or give --rows"),
    ):
        start = time.monotonic()
        result = call(["optimize", *small, "--steps", "1", "--out", args[0].strip("-"), *args], tmp_path, **hub)
        assert time.monotonic() - start < 15
        assert result.returncode == code
        assert choices in one_sentence(result.stderr)


def test_a_folder_that_holds_something_else(finished, small, tmp_path, capsys):
    folder, _ = finished
    assert run(["optimize", *small, "--steps", "11", "--out", str(folder)]) == 1
    assert "holds a different run (differs in: budget.steps)" in one_sentence(capsys.readouterr().err)
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(["optimize", *small, "--steps", "1", "--out", str(tmp_path)]) == 1
    assert "is not empty and holds no run" in one_sentence(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert run(["optimize", *small, "--steps", "1", "--out", str(tmp_path / "thesis.txt")]) == 1
    assert one_sentence(capsys.readouterr().err).startswith("error: --out:")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Yield a folder on a file system of its own with 48 kB, and a function that makes it large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_written(small_disk, small, finished, capsys):
    disk, enlarge = small_disk
    args = ["optimize", *small, "--steps", "12", "--out", str(disk / "run")]
    assert run(args) == 1
    assert "no space left on the disk" in one_sentence(capsys.readouterr().err)
    saved = json.loads((disk / "run" / "state.json").read_text())
    assert saved["method_state"]["step"] >= 1
    assert not (disk / "run" / "record.json").exists()
    enlarge()
    assert run(args) == 0
    assert f"continuing after step {saved['method_state']['step']}" in capsys.readouterr().out
    assert record_in(disk / "run").without_times() == record_in(finished[0]).without_times()


def test_an_unexpected_error_is_one_line_unless_debug(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    method = tmp_path / "broken_method.py"
    method.write_text(
        "from greater_ray.methods.greater import Greater\n"
        "class Broken(Greater):\n"
        "    def step(self, problem, config, state):\n"
        "        return 1 // 0\n"
        "PLUGIN = Broken()\n"
    )
    args = ["optimize", *small, "--steps", "1", "--method", "broken_method:PLUGIN"]
    assert run(args) == 1
    error = one_sentence(capsys.readouterr().err)
    assert error.startswith("internal error: ZeroDivisionError: ")
    assert "run again with --debug" in error
    assert run([*args, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    result = subprocess.run(
        f"{sys.executable} -m greater_ray.cli.app list tasks | true", shell=True, cwd=tmp_path, env=ENV,
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.stderr == ""

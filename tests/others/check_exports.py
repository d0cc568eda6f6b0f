"""Makes a run, hands it on in every format, opens each in its real program and takes it back: ``make exports``.

``check_exports.py ENVIRONMENT [RUN]``: ENVIRONMENT is a virtual environment with what ``requirements.txt`` names, and
with promptfoo in ``node_modules``. RUN is a finished run to take instead of making one. Prints a line per format and
ends with 1 if one fails or cannot be tried.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.export import formats
from greater_ray.published import read_published
from greater_ray.records import TrialRecord
from greater_ray.store import read_record
from greater_ray.tasks import load_task

HERE = Path(__file__).parent
NAMES = {
    "text": "prompt.txt",
    "messages": "messages.json",
    "json": "prompt.json",
    "openai": "ask.py",
    "promptfoo": "promptfoo.yaml",
    "inspect": "2026-11-30T10-00-00+00-00_navigate_greater.json",
    "dataset": "answers.parquet",
}
MAKE = (
    "--model smollm2-135m --task bbh/navigate --data synthetic --train-size 4 --dev-size 2 --test-size 4 --steps 2 "
    "--max-reasoning-tokens 16"
)
SAID = "The answer is Yes."


class _Server(BaseHTTPRequestHandler):
    """Says the same to everybody, in the protocol of OpenAI."""

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "someone"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SAID}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self._send(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice], "usage": usage}
        )

    def _send(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def ours(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "greater_ray", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"greater-ray {' '.join(words[:4])} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )


def opened(form: str, path: Path, environment: Path, variables: dict[str, str]) -> str:
    """Open an export in its program and return what that told.

    Raises:
        RuntimeError: it does not open.
    """
    if form == "text":
        return "no program; a text"
    if form == "promptfoo":
        return promptfoo(path, environment, variables)
    command = [environment / "bin" / "python", HERE / "opens.py", form, path]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-800:])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return f"{found['program']}: {found['told']}"


def promptfoo(path: Path, environment: Path, variables: dict[str, str]) -> str:
    program = environment / "node_modules" / ".bin" / "promptfoo"
    if not program.exists():
        raise RuntimeError("promptfoo is not there (npm is needed)")
    report = path.with_name("results.json")
    more = {
        "PROMPTFOO_CONFIG_DIR": str(path.parent),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
    }
    command = [program, "eval", "-c", path, "--no-cache", "--no-progress-bar", "-o", report]
    done = subprocess.run(command, capture_output=True, text=True, env=variables | more, timeout=300)
    if not report.exists():
        raise RuntimeError((done.stderr or done.stdout).strip()[-800:])
    value = json.loads(report.read_text(encoding="utf-8"))
    told = value["results"]["stats"]
    if told["errors"]:
        raise RuntimeError(f"{told['errors']} of its tests ended with an error")
    return f"promptfoo {value['metadata']['promptfooVersion']}: {told['successes']} passed, {told['failures']} failed"


def taken_back(form: str, path: Path, record: TrialRecord) -> str:
    """Take an export back, as a prompt or as rows, and return how.

    Raises:
        RuntimeError: it is not what the run had.
    """
    if form == "openai":
        return "a program, not taken back"
    if form == "dataset":
        return "answers without questions, not taken back"
    if form in ("inspect", "lm-eval-results"):
        return rows_back(path if form == "inspect" else next(path.glob("samples_*.jsonl")), record)
    if form in ("lm-eval", "dspy"):
        (path,) = path.glob("*.yaml" if form == "lm-eval" else "*.json")
    ours("import", str(path), "--settings")
    found, frozen = read_published(path), record.best.full_text.strip()
    if found.prompt.strip() != frozen:
        raise RuntimeError(f"comes back as {found.prompt!r}, not {frozen!r}")
    return f"the same prompt, placed {found.placement!r}"


def rows_back(path: Path, record: TrialRecord) -> str:
    task = load_task(TaskConfig(name="rows", rows=str(path), train_size=1, dev_size=1, test_size=1))
    own = {row.question.strip(): row.label for row in load_task(record.config.task).test()}
    taken = [*task.train(), *task.dev(), *task.test()]
    wrong = [row.question for row in taken if own.get(row.question.strip(), "").lower() != row.label.lower()]
    if wrong:
        raise RuntimeError(f"a row comes back as {wrong[0]!r}")
    return f"rows with the questions of the run, read as {task.answer_type!r}"


def check(form: str, run: Path, folder: Path, environment: Path, variables: dict[str, str]) -> str:
    path = folder / form / NAMES.get(form, "x")
    ours("export", str(run), "--format", form, "--to", str(path))
    told = opened(form, path, environment, variables)
    return f"{told}; back: {taken_back(form, path, read_record(run / 'record.json'))}"


def main(environment: Path, run: Path | None) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder, serving() as url:
        if run is None:
            run = Path(folder) / "run"
            ours("optimize", *MAKE.split(), "--out", str(run))
        variables = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
        variables.pop("PYTHONPATH", None)
        for form in formats():
            try:
                line = f"ok      {form:16} {check(form, run, Path(folder), environment, variables)}"
            except Exception as error:  # noqa: BLE001 - whatever a program of others raises is told
                failed += 1
                line = f"FAILED  {form:16} {' '.join(str(error).split())}"
            print(line, flush=True)
    print(f"{failed} formats failed" if failed else "every format opens in its program")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None))

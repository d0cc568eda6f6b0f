"""Models on the hub, against a small server that speaks the hub's protocol on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# A process of its own: the hub libraries read their address and cache folder when they are imported.
USE = """
import json, sys
from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError
from greater_ray.models.sources import load, resolve
answers = []
for settings in json.loads(sys.argv[1]):
    config = ModelConfig(device="cpu", **settings)
    try:
        source = resolve(config)
        model, tokenizer = load(source, config)
        size = sum(weight.numel() for weight in model.parameters())
        answers.append([source.kind, source.path, source.revision, len(tokenizer), size])
    except GreaterRayError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


class Hub(BaseHTTPRequestHandler):
    """Serves one folder as ``org/tiny``; ``org/gated`` needs a grant, everything else does not exist."""

    folder: Path
    requests: list[str]

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        type(self).requests.append(self.path)
        model, _, rest = self.path.removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        file = self.folder / name
        if self.path.startswith("/api/models/org/tiny/tree/"):
            self.refuse(404, "EntryNotFound")
        elif model == "org/gated":
            self.refuse(403, "GatedRepo")
        elif model != "org/tiny":
            self.refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif not name or not file.is_file():
            self.refuse(404, "EntryNotFound")
        else:
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(tiny_folder):
    handler = type("TinyHub", (Hub,), {"folder": tiny_folder, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def use(hub, home: Path, *configs: dict[str, str]) -> list:
    """Use models one after the other in one process; return what each is, or why it is none."""
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", USE, json.dumps(configs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hub_model_is_pinned_and_then_loads_without_the_hub(hub, tmp_path):
    (first,) = use(hub, tmp_path, {"name": "org/tiny"})
    assert isinstance(first, list), first
    assert first[:3] == ["hub", "org/tiny", COMMIT]
    asked = len(hub.RequestHandlerClass.requests)
    assert asked > 0
    assert use(hub, tmp_path, {"name": "org/tiny"}, {"name": "org/tiny", "revision": COMMIT}) == [first, first]
    assert len(hub.RequestHandlerClass.requests) == asked, "a complete cached copy needs no request"


def test_hub_refusals_are_one_sentence(hub, tmp_path):
    refusals = {
        "no model 'org/absent'": {"name": "org/absent"},
        "must be granted": {"name": "org/gated"},
        "no revision 'v9'": {"name": "org/tiny", "revision": "v9"},
        "not a hub id": {"name": "org/-bad-"},
    }
    for expected, text in zip(refusals, use(hub, tmp_path, *refusals.values()), strict=True):
        assert isinstance(text, str)
        assert expected in text
        assert "\n" not in text

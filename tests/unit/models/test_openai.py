"""An endpoint as the writer, and what goes wrong with one, played by a real server on this machine."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from greater_ray.assembly import load_engine, resolve_config
from greater_ray.cli.app import run
from greater_ray.config import EndpointConfig, ModelConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.models._chat import Reply, read_reply
from greater_ray.models.endpoint import EndpointEngine, is_endpoint
from greater_ray.runs import run_config
from greater_ray.sharding import LocalExecutor, ShardedWriter
from greater_ray.types import Generation, Message
from greater_ray.work import Generate, Unit

KEY = "sk-this-key-must-stand-nowhere-0123456789"
NAME = "openai/some/writer"


def row(text: str) -> tuple[Message, ...]:
    return (Message("system", "Be brief."), Message("user", text))


def body(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "writer-2026-01-01",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def refusal(message: str, **values: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "param": None, "code": None, **values}}


class Endpoint(ThreadingHTTPServer):
    """Answers by ``play(request, attempt)``: a status and a body; notes every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.play: Callable[[dict[str, Any], int], tuple[int, Any]] = lambda request, attempt: (200, body("Fine."))
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.running = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            attempt = sum(r["messages"] == request["messages"] for r in server.requests)
            server.requests.append(request)
            server.keys.add(self.headers["Authorization"])
            server.running += 1
            server.most = max(server.most, server.running)
        status, value = server.play(request, attempt)
        with server.lock:
            server.running -= 1
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("retry-after-ms", "10")
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has given up
            pass

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def writer(**options: Any) -> EndpointEngine:
    endpoint = EndpointConfig(**{"timeout": 5.0, "retries": 1, "concurrency": 4, **options})
    return EndpointEngine(ModelConfig(name=NAME, endpoint=endpoint))


def write(text: str = "Write.", **options: Any) -> Generation:
    (generation,), _ = writer(**options).run(Unit(Generate([row(text)], [1], 16, 0.5)))
    return generation


# -- answers -----------------------------------------------------------------------------------------------------------


def test_rows_are_asked_together_and_answered_in_order(endpoint: Endpoint) -> None:
    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        text = request["messages"][-1]["content"]
        time.sleep(0.1 if text == "row 0" else 0.03)
        return 200, body(text, "length" if text == "row 2" else "stop")

    endpoint.play = play
    rows = [row(f"row {k}") for k in range(10)]
    ours = writer()
    generations, usage = ours.run(Unit(Generate(rows, range(10), 16, 0.5)))
    assert [g.text for g in generations] == [f"row {k}" for k in range(10)]
    assert [g.truncated for g in generations] == [k == 2 for k in range(10)]
    assert not any(g.error for g in generations)
    assert (usage.calls, usage.prefill_tokens, usage.generated_tokens, usage.tokens) == (10, 70, 30, 100)
    assert 1 < endpoint.most <= 4
    sent = next(r for r in endpoint.requests if r["messages"][-1]["content"] == "row 3")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("some/writer", 16, 0.5)
    assert endpoint.keys == {f"Bearer {KEY}"}
    assert ours.facts["served_models"] == ["writer-2026-01-01"]
    assert ours.facts["token_counts"] == "reported by the endpoint"


def test_a_reply_that_was_begun_is_written_anew(endpoint: Endpoint) -> None:
    (generation,), _ = writer().run(Unit(Generate([(*row("a"), Message("assistant", "<prompt>"))], [0], 16, 0.5)))
    assert [m["role"] for m in endpoint.requests[0]["messages"]] == ["system", "user"]
    assert not generation.text.startswith("<prompt>")


def test_seeds_are_passed_on_and_differ(endpoint: Endpoint) -> None:
    seeds = [5 * 2**20, 5 * 2**20 + 1, 6 * 2**20]
    for _ in range(2):
        writer().run(Unit(Generate([row(str(k)) for k in range(3)], seeds, 4, 1.0)))
    sent = [
        {r["messages"][-1]["content"]: r["seed"] for r in part}
        for part in (endpoint.requests[:3], endpoint.requests[3:])
    ]
    assert sent[0] == sent[1]
    assert len(set(sent[0].values())) == 3
    assert all(0 <= seed < 2**31 for seed in sent[0].values())


def test_without_token_counts_calls_are_counted_and_the_facts_say_so(endpoint: Endpoint) -> None:
    value = body("Fine.")
    del value["usage"]
    endpoint.play = lambda request, attempt: (200, value)
    ours = writer()
    _, usage = ours.run(Unit(Generate([row("a"), row("b")], [1, 2], 4, 0.0)))
    assert (usage.calls, usage.tokens) == (2, 0)
    assert ours.facts["token_counts"] == "not reported by the endpoint: only calls are counted"


def test_the_new_name_of_the_limit_is_used_where_the_old_one_is_refused(endpoint: Endpoint) -> None:
    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        if "max_tokens" in request:
            return 400, refusal("use max_completion_tokens", param="max_tokens", code="unsupported_parameter")
        return 200, body("Fine.")

    endpoint.play = play
    ours = writer()
    assert [g.text for g in ours.run(Unit(Generate([row("a")], [1], 9, 0.0)))[0]] == ["Fine."]
    assert endpoint.requests[-1]["max_completion_tokens"] == 9
    ours.run(Unit(Generate([row("b")], [1], 9, 0.0)))
    assert len(endpoint.requests) == 3, "asked the old way only once"


def test_a_model_that_allows_its_own_temperature_only_is_asked_without_one(endpoint: Endpoint) -> None:
    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        if request.get("temperature", 1) != 1:
            return 400, refusal("only the default (1) is supported", param="temperature", code="unsupported_value")
        return 200, body("Fine.")

    endpoint.play = play
    ours = writer()
    assert [g.text for g in ours.run(Unit(Generate([row("a")], [1], 9, 1.0)))[0]] == ["Fine."]
    assert endpoint.requests[-1]["temperature"] == 1, "sent as long as nothing refuses it"
    assert "temperature" not in ours.facts
    assert [g.text for g in ours.run(Unit(Generate([row("a"), row("b")], [1, 2], 9, 0.3)))[0]] == ["Fine."] * 2
    sent = len(endpoint.requests)
    assert [g.text for g in ours.run(Unit(Generate([row("c")], [1], 9, 0.0)))[0]] == ["Fine."]
    assert "temperature" not in endpoint.requests[-1]
    assert len(endpoint.requests) == sent + 1
    assert ours.facts["temperature"] == "left out: the endpoint allows its own only"


# -- rows that fail ----------------------------------------------------------------------------------------------------


def test_a_rate_limit_is_waited_out(endpoint: Endpoint) -> None:
    endpoint.play = lambda request, attempt: (200, body("Fine.")) if attempt else (429, refusal("slow down"))
    assert write() == Generation("Fine.")
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("status", "value", "error", "attempts"),
    [
        (429, refusal("slow down"), "the endpoint answered with status 429: slow down.", 2),
        (500, refusal(f"oops\nwith {KEY}."), "the endpoint answered with status 500: oops with ***.", 2),
        (400, refusal("too long"), "the endpoint answered with status 400: too long.", 1),
        (502, "<html>", "the endpoint answered with status 502: no reason given.", 2),
        (200, body(None, refusal="I cannot."), "the endpoint refused to answer.", 1),
        (200, body("Half", "content_filter"), "the endpoint refused to answer.", 1),
        (200, body(None), "the endpoint's answer holds no text.", 1),
        (200, '{"choices": [', "the endpoint's answer is malformed.", 1),
        (200, {"choices": []}, "the endpoint's answer is malformed.", 1),
        (200, [], "the endpoint's answer is malformed.", 1),
    ],
)
def test_a_row_that_fails_says_why_and_the_others_go_on(
    status: int, value: Any, error: str, attempts: int, endpoint: Endpoint
) -> None:
    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        return (status, value) if request["messages"][-1]["content"] == "bad" else (200, body("Fine."))

    endpoint.play = play
    generations, usage = writer().run(Unit(Generate([row("a"), row("bad"), row("b")], [1, 2, 3], 8, 0.0)))
    assert [g.text for g in generations] == ["Fine.", "", "Fine."]
    assert generations[1].error == error
    assert usage.calls == 3, "a failed row counts as a call"
    assert sum(r["messages"][-1]["content"] == "bad" for r in endpoint.requests) == attempts


def test_a_slow_endpoint_is_given_up(endpoint: Endpoint) -> None:
    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        time.sleep(0.6)
        return 200, body("Late.")

    endpoint.play = play
    assert write(timeout=0.2, retries=0) == Generation("", error="the endpoint did not answer within 0.2 s.")


def test_the_body_of_an_answer_is_read_with_care() -> None:
    for text in ("", "null", "3", '"text"', '{"choices": {"0": 1}}', '{"choices": [{"message": null}]}'):
        assert read_reply(text).error == "the endpoint's answer is malformed.", text
    odd = {"choices": [{"message": {"content": "ok"}}], "usage": {"prompt_tokens": "7"}, "model": 3}
    assert read_reply(json.dumps(odd)) == Reply("ok")


# -- what ends the run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (401, refusal(f"Incorrect API key provided: {KEY}"), "refuses the key in OPENAI_API_KEY (status 401)."),
        (403, refusal("no"), "refuses the key in OPENAI_API_KEY (status 403)."),
        (404, refusal("no such model"), "does not know this model (status 404)."),
        (400, refusal("no such model", code="model_not_found"), "does not know this model (status 400)."),
        (429, refusal("pay", code="insufficient_quota"), "the quota of the key in OPENAI_API_KEY is spent"),
        (400, refusal("temperature must be 1", code="unsupported_value"), "refuses a setting: temperature must be 1."),
    ],
)
def test_what_would_fail_every_row_ends_the_run(status: int, value: Any, message: str, endpoint: Endpoint) -> None:
    endpoint.play = lambda request, attempt: (status, value)
    with pytest.raises(ModelError) as error:
        writer(retries=0).run(Unit(Generate([row(str(k)) for k in range(20)], range(20), 8, 0.0)))
    assert str(error.value).startswith(f"model.name: '{NAME}'")
    assert message in str(error.value)
    assert KEY not in str(error.value)
    assert len(endpoint.requests) < 20, "the rest is not asked"


def test_an_endpoint_out_of_reach_ends_the_run(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match="cannot be reached; check OPENAI_BASE_URL"):
        write(retries=0)


def test_an_address_that_is_none_is_told(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[::1")
    with pytest.raises(ModelError, match=r"OPENAI_BASE_URL holds no address \(.+\)"):
        write(retries=0)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_an_endpoint_needs_a_key_the_package_and_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match=r"^model.dtype: does not apply to the endpoint 'openai/x'"):
        load_engine(ModelConfig(name="openai/x", dtype="float32"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ModelError, match="needs a key in the environment variable OPENAI_API_KEY"):
        load_engine(ModelConfig(name="openai/x"))
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'greater-ray\[openai\]'"):
        load_engine(ModelConfig(name="openai/x"))
    monkeypatch.chdir(tmp_path)
    assert is_endpoint("openai/x")
    (tmp_path / "openai" / "x").mkdir(parents=True)
    assert not is_endpoint("openai/x"), "a folder is a folder"


def test_the_facts_name_the_host_and_no_secret_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://someone:hidden@models.example:8443/v1/{KEY}?token=hidden")
    facts = writer().facts
    assert facts["host"] == "models.example:8443"
    assert "hidden" not in json.dumps(facts)
    assert KEY not in json.dumps(facts)


# -- a whole run -------------------------------------------------------------------------------------------------------


def settings(tiny_folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": str(tiny_folder),
        "optimizer_model": NAME,
        "task": {
            "name": "bbh/boolean_expressions",
            "data": "synthetic",
            "train_size": 3,
            "dev_size": 2,
            "test_size": 2,
        },
        "method": "tests.writing:PLUGIN",
        "decoding": {"max_reasoning_tokens": 4, "max_answer_tokens": 2},
        **more,
    }


def test_the_key_is_in_no_file_of_a_run(endpoint: Endpoint, tiny_folder: Path, tmp_path: Path) -> None:
    words = iter(["Look closely.", "Think twice.", "Check it.", "Be careful.", "Go slowly.", "Read again."])

    def play(request: dict[str, Any], attempt: int) -> tuple[int, Any]:
        with endpoint.lock:
            turn = len(endpoint.requests)
        return (500, refusal(f"the key {KEY}")) if turn == 2 else (200, body(next(words)))

    endpoint.play = play
    record = run_config(resolve_config(settings(tiny_folder)), tmp_path / "run")
    assert record.steps == 3
    assert record.optimizer is not None
    assert record.optimizer["name"] == NAME
    assert record.optimizer["served_models"] == ["writer-2026-01-01"]
    assert record.optimizer_usage.calls == 6
    assert record.optimizer_usage.tokens == 10 * 6, "the failed attempt was repeated by the client"
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert len(files) >= 6
    for file in files:
        text = file.read_text(errors="replace")
        assert KEY not in text, file
        assert endpoint.url not in text, file
    assert "Think twice." in (tmp_path / "run" / "steps.jsonl").read_text()


def test_a_refused_key_ends_a_run_with_one_sentence_and_it_can_be_continued(
    endpoint: Endpoint, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["optimize", "--model", str(tiny_folder), "--optimizer-model", NAME, "--task", "bbh/boolean_expressions",
            "--data", "synthetic", "--train-size", "2", "--dev-size", "2", "--test-size", "2", "--max-reasoning-tokens",
            "4", "--method", "tests.writing:PLUGIN", "--out", str(tmp_path / "run")]  # fmt: skip
    endpoint.play = lambda request, attempt: (401, refusal(KEY))
    assert run(args) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        f"error: --optimizer-model: '{NAME}': the endpoint refuses the key in OPENAI_API_KEY (status 401).\n"
    )
    endpoint.play = lambda request, attempt: (200, body(f"Think {request['seed']} times."))
    assert run(args) == 0
    captured = capsys.readouterr()
    assert "optimizer:  6 calls, 60 tokens (42 read, 18 written)" in captured.out
    assert NAME in captured.out
    assert KEY not in captured.out + captured.err


def test_through_the_ledger_every_row_counts(endpoint: Endpoint) -> None:
    model = ShardedWriter(LocalExecutor(writer()))
    texts = model.generate([row(str(k)) for k in range(11)], max_tokens=4, temperature=1.0, seed=3)
    assert len(texts) == 11
    assert (model.usage.calls, model.usage.tokens) == (11, 110)
    assert len({r["seed"] for r in endpoint.requests}) == 11

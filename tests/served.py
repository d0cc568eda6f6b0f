"""A server on this machine that speaks the OpenAI protocol and computes with a real model, by transformers alone.

It knows nothing of this project: conversations are rendered by the model's chat template and continued by
``generate``, likelihoods come from one plain forward pass. ``kind`` is what it plays: ``"vllm"`` goes on with a reply
that was begun and tells ``prompt_logprobs``; ``"plain"`` does what a vendor's does, which refuses unknown arguments and
answers every conversation in a turn of its own.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

_KNOWN = {"model", "messages", "seed", "max_tokens", "temperature"}


class Server(ThreadingHTTPServer):
    """Serves the model of a folder under ``name``; ``requests`` are all that was asked."""

    daemon_threads = True

    def __init__(self, folder: Path | str, name: str, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.kind = name, kind
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.requests: list[dict[str, Any]] = []
        # Asked before an answer is computed; what it gives is sent in its place.
        self.instead: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None] = lambda request: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def complete(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        unknown = request.keys() - _KNOWN
        if self.kind == "plain" and unknown:
            said = {"message": f"unknown argument {min(unknown)}", "param": min(unknown), "code": "unknown_parameter"}
            return 400, {"error": said}
        if request["model"] != self.name:
            return 404, {"error": {"message": "no such model"}}
        ids = self._ids(request)
        written, stopped = self._written(ids, request)
        value: dict[str, Any] = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": self.name,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop" if stopped else "length",
                    "message": {
                        "role": "assistant",
                        "content": self.tokenizer.decode(written, skip_special_tokens=True),
                    },
                }
            ],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": len(written)},
        }
        if request.get("prompt_logprobs") is not None:
            value["prompt_logprobs"] = self._logprobs(ids)
        return 200, value

    def _ids(self, request: dict[str, Any]) -> list[int]:
        going_on = bool(request.get("continue_final_message"))
        text = self.tokenizer.apply_chat_template(
            request["messages"],
            tokenize=False,
            continue_final_message=going_on,
            add_generation_prompt=not going_on,
            **request.get("chat_template_kwargs", {}),
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    @torch.no_grad()
    def _written(self, ids: list[int], request: dict[str, Any]) -> tuple[list[int], bool]:
        warm = request.get("temperature", 1.0)
        generator = torch.Generator().manual_seed(request.get("seed", 0))
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        step: Any = torch.tensor([ids])
        cache, written = None, []
        while len(written) < request["max_tokens"]:
            out = self.model(step, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[0, -1]
            if warm:
                token = int(torch.multinomial((logits / warm).softmax(-1), 1, generator=generator))
            else:
                token = int(logits.argmax())
            if token in ends:
                return written, True
            written.append(token)
            step = torch.tensor([[token]])
        return written, False

    @torch.no_grad()
    def _logprobs(self, ids: list[int]) -> list[dict[str, Any] | None]:
        logs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        told: list[dict[str, Any] | None] = [None]
        for row, token in zip(logs[:-1], ids[1:], strict=True):
            entry = {"logprob": float(row[token]), "rank": int((row > row[token]).sum()) + 1, "decoded_token": ""}
            told.append({str(token): entry})
        return told


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner = self.server.kind if self.server.kind != "plain" else "someone"
        self._send(200, {"object": "list", "data": [{"id": self.server.name, "object": "model", "owned_by": owner}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self._send(*(self.server.instead(request) or self.server.complete(request)))

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path | str, name: str = "tiny", kind: str = "vllm") -> Iterator[Server]:
    """Serve a model for the length of a block."""
    server = Server(folder, name, kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Endpoints that accept and do not answer, or a byte at a time: every request has an end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from greater_ray.config import EndpointConfig, ModelConfig
from greater_ray.errors import EndpointError
from greater_ray.models.endpoint import EndpointEngine
from greater_ray.types import Generation, Message
from greater_ray.work import Generate, Unit

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
TIMEOUT = 0.15  # seconds
# What a server sends at once; then a byte every so often, or nothing.
WAYS = {
    "never answers": (b"", 0.0),
    "trickles its headers": (HEADERS, 0.02),
    "trickles its text": (HEADERS + b"\r\n", 0.02),
}
NO_LIST = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def serving(first: bytes, every: float, listing: bytes = b"") -> Iterator[str]:
    """Accept every connection, read what is asked and answer so, unless there is something to say of its models."""
    ended = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if connection.recv(65536).startswith(b"GET") and listing:
                connection.sendall(listing)
                return
            connection.sendall(first)
            while not ended.wait(every or 0.05):
                if every:
                    connection.sendall(b"a")

    def accept() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    finally:
        ended.set()
        thread.join()
        server.close()


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    begin = time.monotonic()
    return lambda: time.monotonic() - begin


def engine(url: str) -> EndpointEngine:
    config = EndpointConfig(base_url=url, timeout=TIMEOUT, retries=0)
    return EndpointEngine(ModelConfig(name="openai/some", endpoint=config))


@pytest.mark.parametrize("way", WAYS)
def test_a_request_has_an_end_and_its_row_says_why(way: str, seconds: Callable[[], float]):
    with serving(*WAYS[way], listing=NO_LIST) as url:
        work = Generate(((Message("user", "Say it."),),), (1,), 4, 0.0)
        (generation,), _ = engine(url).run(Unit(work))
    assert generation == Generation("", error=f"the endpoint did not answer within {TIMEOUT} s.")
    assert seconds() < 3.0


def test_an_endpoint_that_does_not_say_what_it_is_is_out_of_reach(seconds: Callable[[], float]):
    with serving(*WAYS["trickles its text"]) as url, pytest.raises(EndpointError, match="cannot be reached"):
        engine(url).contact()
    assert seconds() < 3.0

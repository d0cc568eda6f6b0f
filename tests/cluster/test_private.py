"""Nobody else reaches a Ray of our own: its sockets are read, it is asked by a stranger, its token is searched for."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
import ray

from greater_ray.cluster.connect import connected
from greater_ray.cluster.private import openness

CANARY = "sk-Canary0123456789abcdef"
SERVICES = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "InternalKVGcsService/InternalKVKeys",
    "JobInfoGcsService/GetAllJobInfo",
)


class Own:
    """The Ray of these tests, with an actor: its processes and its token."""

    def __init__(self) -> None:
        self.token_file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        self.token = self.token_file.read_text()
        self.gcs = ray.get_runtime_context().gcs_address
        self.session = Path(ray._private.worker._global_node.get_session_dir_path())

    @property
    def processes(self) -> list[psutil.Process]:
        driver = psutil.Process()
        return [driver, *driver.children(recursive=True)]


@pytest.fixture(scope="module")
def told() -> Iterator[list[str]]:
    """What was told when a private Ray with its dashboard was started."""
    said: list[str] = []
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("CANARY_API_KEY", CANARY)  # workers inherit it as any key
        with connected(num_cpus=2, dashboard=True, tell=said.append):
            yield said


@pytest.fixture(scope="module")
def own(told: list[str]) -> Iterator[Own]:
    @ray.remote(num_cpus=0)
    class Actor:
        def seen(self) -> str:
            return str([sys.argv, dict(os.environ)])

    actor = Actor.remote()
    found = Own()
    assert found.token not in ray.get(actor.seen.remote())
    yield found
    ray.kill(actor)


def listening(processes: list[psutil.Process]) -> dict[str, set[str]]:
    """Return the addresses that processes listen on, by the name of the process; UDP listens as soon as it is bound."""
    found: dict[str, set[str]] = {}
    for process in processes:
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN or (socket.type.name == "SOCK_DGRAM" and not socket.raddr):
                found.setdefault(process.name(), set()).add(socket.laddr.ip)
    return found


def test_every_socket_is_on_loopback(own: Own) -> None:
    deadline = time.monotonic() + 20
    while len(found := listening(own.processes)) < 6 and time.monotonic() < deadline:
        time.sleep(0.2)
    # All kinds of processes that Ray has: none was overlooked.
    assert {"gcs_server", "raylet", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::Actor"} <= found.keys()
    assert sum(len(addresses) for addresses in found.values()) >= 7
    open_ones = {name: addresses - {"127.0.0.1", "::1", "::ffff:127.0.0.1"} for name, addresses in found.items()}
    assert {name: addresses for name, addresses in open_ones.items() if addresses} == {}


def test_no_process_of_ray_is_there_that_nobody_hears_from(own: Own) -> None:
    files = {Path(part).name for process in own.processes for part in process.cmdline()}
    assert "gcs_server" in files
    assert not files & {"log_monitor.py", "monitor.py"}


def test_a_stranger_on_this_machine_is_refused(own: Own, told: list[str]) -> None:
    assert openness() is None
    for name in SERVICES:
        with grpc.insecure_channel(own.gcs) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/ray.rpc.{name}")(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    (sentence,) = told
    url = re.search(r"http://127\.0\.0\.1:\d+", sentence)[0]
    asked = [sys.executable, "-c", f"import urllib.request as r; r.urlopen('{url}/api/version')"]
    assert b"HTTP Error 401" in subprocess.run(asked, capture_output=True, env={**os.environ, "NO_PROXY": "*"}).stderr


def test_the_token_is_in_one_file_of_this_user_and_nowhere_else(own: Own, told: list[str]) -> None:
    assert re.fullmatch("[0-9a-f]{64}", own.token)
    assert str(own.token_file) in told[0]
    assert own.token not in told[0]
    assert own.token_file.parent.stat().st_mode & 0o077 == 0
    in_home = Path.home() / ".ray" / "auth_token"
    assert not in_home.exists() or own.token not in in_home.read_text()
    for process in own.processes:
        assert own.token not in " ".join(process.cmdline())
        assert own.token not in str(process.environ())
        assert CANARY not in " ".join(process.cmdline())
    assert own.session.parent.parent == own.token_file.parent, "all of it goes with the token"
    for file in own.session.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert own.token.encode() not in content, file
            assert CANARY.encode() not in content, file

"""The token of a Ray of our own: what it leaves behind, and what it does not."""

import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import pytest
from ray._private import ray_constants

from greater_ray.cluster.private import private, remove_left_ones
from greater_ray.errors import DiskError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_was_set_for_clusters_does_not_hold_inside_and_is_there_again_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    tokens = set()
    for _ in range(2):
        with private() as (file, sessions):
            assert sessions.parent == file.parent
            tokens.add(file.read_text())
            assert os.environ["RAY_AUTH_MODE"] == "token"
            assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(file)
            assert "RAY_AUTH_TOKEN" not in os.environ
            assert {path.stat().st_mode & 0o077 for path in (file.parent,)} == {0}
        assert not file.parent.exists()
        assert os.environ["RAY_AUTH_TOKEN"] == "f" * 64
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
        assert "RAY_AUTH_TOKEN_PATH" not in os.environ
        assert clusters == ray_constants.ENABLE_RAY_CLUSTER
    assert len(tokens) == 2
    assert not (Path.home() / ".ray").exists()


def killed() -> None:
    """Let a process of its own be killed amid the block."""
    child = os.fork()
    if not child:
        with private() as own:
            (own.sessions / "session_1" / "sockets").mkdir(parents=True)
            (own.sessions / "session_1" / "raylet.out").write_text("x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_next_one_removes_what_a_process_that_was_killed_has_left_and_nothing_else(own_folder: Path):
    others = {own_folder / "ray" / "session_2", own_folder / "gr-mine" / "session_3"}
    for folder in others:
        folder.mkdir(parents=True)
    with private() as living:
        killed()
        (left,) = set(own_folder.glob("gr-*/greater-ray-token")) - {living.token}
        assert (left.parent / "r" / "session_1" / "raylet.out").exists()
        with private():
            assert not left.parent.exists()
            assert living.token.exists()
    assert sorted(path.name for path in own_folder.iterdir()) == ["gr-mine", "ray"]
    assert all(folder.exists() for folder in others)


def test_a_ray_that_outlives_its_driver_is_left_alone_until_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    short = tempfile.mkdtemp(dir="/tmp")  # the path of a socket has at most 107 characters
    request.addfinalizer(lambda: shutil.rmtree(short))
    monkeypatch.setenv("RAY_TMPDIR", short)
    killed()
    (left,) = Path(short).glob("gr-*/r/session_1/sockets")
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(left / "raylet"))
        raylet.listen()
        remove_left_ones()
        assert left.exists()
    remove_left_ones()
    assert not left.exists()


@pytest.mark.parametrize("whose", ["another user's", "a link"])
def test_what_is_not_ours_is_left_alone(whose: str, own_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "greater-ray-token").write_text("x")
    if whose == "a link":
        (own_folder / "gr-linked").symlink_to(folder)
    elif os.getuid() == 0:
        os.chown(folder / "greater-ray-token", 1234, 1234)
        folder = folder.rename(own_folder / "gr-theirs")
    else:
        pytest.skip("files of another user are made by root only")
    remove_left_ones()
    assert (folder / "greater-ray-token").exists()


def test_no_room_for_temporary_files_is_one_sentence(own_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_TMPDIR", str(own_folder / "gone"))
    with (
        pytest.raises(DiskError, match=r"gone' is gone, .*; Ray has its temporary files there, RAY_TMPDIR names"),
        private(),
    ):
        pass

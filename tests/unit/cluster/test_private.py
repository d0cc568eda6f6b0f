"""The token of a Ray of our own: what it leaves behind, and what it does not."""

import os
import tempfile
from pathlib import Path

import pytest
from ray._private import ray_constants

from greater_ray.cluster.private import private


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_was_set_for_clusters_does_not_hold_inside_and_is_there_again_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    tokens = set()
    for _ in range(2):
        with private() as file:
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


def test_the_next_one_removes_the_token_of_a_process_that_was_killed_and_no_other(own_folder: Path):
    with private() as living:
        child = os.fork()
        if not child:
            with private():
                os._exit(9)
        os.waitpid(child, 0)
        (left,) = set(own_folder.glob("greater-ray-token-*/token")) - {living}
        with private():
            assert not left.exists()
            assert living.exists()
    assert list(own_folder.glob("greater-ray-token-*")) == []

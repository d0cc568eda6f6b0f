"""What the driver takes for standing still, in simulated time."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from greater_ray.cluster import watch as module
from greater_ray.cluster.room import Room
from greater_ray.cluster.watch import Watch
from greater_ray.grid.store import GridStore
from tests.grids import Told

PATIENCE = 2.0


class Broker:
    """A pool whose broker answers ``answers`` times; ``passes`` lets the time pass that the driver waits for it."""

    model = "a model"
    demand = SimpleNamespace(model="a model", cpus=1.0, gpus=0.0)

    def __init__(self, answers: int, passes: Callable[[int], None]) -> None:
        self.asked, self.answers, self.passes, self.ended = 0, answers, passes, False

    def stats(self) -> dict[str, Any] | None:
        self.asked += 1
        if self.asked <= self.answers:
            return {"events": [], "error": None, "active": [], "ready": True, "starting_seconds": [], "slots": []}
        self.passes(self.asked - self.answers)
        return None

    def stop(self) -> None:
        self.ended = True


class Calling:
    """A wave whose cells call the model."""

    def needed(self):
        return {"a model"}

    def running(self):
        return {}

    def starting(self):
        return []


def told_while(
    seconds: list[float], answers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], bool]:
    """Let one look after the other take so long; return what is told, and whether the broker was ended."""
    now = [1000.0]
    monkeypatch.setattr(module, "_POLL", 0.001)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def passes(turn: int) -> None:
        if turn <= len(seconds):
            now[0] += seconds[turn - 1]

    pool, told = Broker(answers, passes), Told()
    watch: Any = Watch([pool], GridStore(tmp_path / "out"), told, Calling(), PATIENCE, Room(tmp_path))
    end = time.monotonic() + 20
    while pool.asked - answers <= len(seconds) and not pool.ended and time.monotonic() < end:
        time.sleep(0.001)
    watch._ended.set()
    watch._thread.join()
    return [text.partition(" for ")[0] for text in told.texts if "broker" in text], pool.ended


def test_no_broker_is_ended_for_a_time_that_the_driver_slept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts, ended = told_while([0.1, 600.0, 0.1], 1, tmp_path, monkeypatch)
    assert not ended, texts


def test_a_broker_that_does_not_answer_an_awake_driver_is_told_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    texts, ended = told_while([5.0] * 8, 1, tmp_path, monkeypatch)
    assert ended
    assert texts == ["a model: broker stands still: no answer", "a model: broker ended: no answer"]


def test_a_broker_that_never_comes_up_is_told_and_ended_though_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts, ended = told_while([5.0] * 11, 0, tmp_path, monkeypatch)
    assert (texts, ended) == ([], False)
    texts, ended = told_while([5.0] * 40, 0, tmp_path, monkeypatch)
    assert ended
    assert texts[0] == "broker of 'a model': does not come up: no answer"
    assert texts[1].startswith("broker of 'a model': ended: it has not come up within 18")
    assert len(texts) == 2

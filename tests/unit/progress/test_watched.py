"""Whether and where a call from Python shows its progress."""

import sys
from pathlib import Path

import pytest

from greater_ray import Observer
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.status import read_status
from greater_ray.progress.grid import FollowedGrid, LiveGrid, PlainGrid
from greater_ray.progress.trial import LiveDisplay, PlainDisplay
from greater_ray.progress.watched import watched_grid, watched_trial
from tests.grids import loaded


def kinds(progress: bool | None, folder: Path) -> tuple[type, type]:
    with watched_trial(progress, "a run") as trial, watched_grid(progress, folder) as grid:
        return type(trial), type(grid)


def test_off_a_terminal_only_those_who_ask_see_it(tmp_path: Path):
    assert kinds(None, tmp_path) == kinds(False, tmp_path) == (Observer, FollowedGrid)
    assert kinds(True, tmp_path) == (PlainDisplay, PlainGrid)


def test_a_terminal_gets_the_panel_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with watched_trial(None, "a run") as trial:
        assert isinstance(trial, LiveDisplay)
        trial.message("loading")
    with watched_grid(None, tmp_path) as grid:
        assert isinstance(grid, LiveGrid)
    assert kinds(False, tmp_path) == (Observer, FollowedGrid)
    out, err = capsys.readouterr()
    assert "a run" in err
    assert out == ""


def test_an_observer_of_ones_own_is_told():
    own = Observer()
    with watched_trial(own, "a run") as trial:
        assert trial is own


def test_a_grid_that_shows_nothing_can_be_asked_from_another_terminal(tmp_path: Path):
    cells = expand_grid(loaded("tiny"))
    with watched_grid(False, tmp_path) as grid:
        grid.planned("optimize", cells, cells)
        status = read_status(tmp_path)
        assert status is not None
        assert status["cells"]["total"] == len(cells)
    assert read_status(tmp_path) is None

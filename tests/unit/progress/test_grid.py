"""A running grid on the screen, told by made events."""

import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from greater_ray.grid.cells import Cell, expand_grid
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.status import STATUS_FILE, read_status
from greater_ray.progress import grid as grid_progress
from greater_ray.progress.grid import GridStop, LiveGrid, PlainGrid, grid_display
from tests.grids import loaded

CALM: dict[str, Any] = {"repeated": 0, "still": False}
UNUSUAL: dict[str, Any] = {"repeated": 3, "still": True}
STATS: dict[str, Any] = {
    "model": "tiny",
    "queue": 3,
    "slots": [
        {"state": "busy", "host": "a", "busy_seconds": 0.0, "tokens": 10, "deaths": 1, "calls": 2, **UNUSUAL},
        {"state": "starting", "host": "-", "busy_seconds": 0.0, "tokens": 0, "deaths": 0, "calls": 0, **CALM},
    ],
}


@pytest.fixture
def cells() -> list[Cell]:
    return expand_grid(loaded("tiny", seeds=[0, 1, 2]))


def tell(screen: GridObserver, cells: list[Cell]) -> None:
    screen.planned("optimize", cells, cells)
    for cell in cells:
        screen.started(cell)
    screen.progressed(cells[0], Progress(2, 4, "search", 2.5, 1.25, 100))
    screen.progressed(cells[1], Progress(4, 4, "test, after: 3 of 8", 2.5, None, 100))
    screen.pools([STATS])
    screen.ended(cells[2], "failed", "too [dark]")
    screen.message("waiting for\nlight")


def panel(live: LiveGrid) -> str:
    console = Console(file=io.StringIO(), width=140, no_color=True, force_terminal=False)
    console.print(live)
    return console.file.getvalue()


def test_a_plain_line_when_something_happens(cells: list[Cell], tmp_path: Path):
    stream = io.StringIO()
    with grid_display(stream, tmp_path, no_color=False) as screen:
        assert isinstance(screen, PlainGrid)
        tell(screen, cells)
        screen.ended(cells[0], "done", None)
        assert read_status(tmp_path) is not None
    assert stream.getvalue().splitlines() == [
        "optimize: 4 cells, 0 done before, 4 to run",
        *(f"started: {cell.title}" for cell in cells),
        f"failed: {cells[2].title}: too [dark]",
        "waiting for light",
        f"done: {cells[0].title}",
    ]
    assert not (tmp_path / STATUS_FILE).exists(), "nothing runs any more"


def test_a_plain_line_of_figures_now_and_then(cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid_progress, "_LINE_EVERY", 0.0)
    screen = PlainGrid(io.StringIO(), tmp_path)
    tell(screen, cells)
    line = screen.stream.getvalue().splitlines()[-3]
    assert line.startswith(
        "cells: 4 running, 0 of 4 done, 0 failed; tiny: 1 of 2 replicas, 1 died, 1 standing still, 3 calls run twice"
    )
    assert "0 % busy, queue 3" in line
    assert "time left 0:00:" in line


def test_the_panel_shows_cells_pools_failures_and_the_last_message(cells: list[Cell], tmp_path: Path):
    live = LiveGrid(tmp_path)
    assert "starting" in panel(live)
    tell(live, cells)
    screen = panel(live)
    for part in (
        "greater-ray grid, optimize",
        "cells: 3 running, 0 of 4 done, 1 failed",
        "tiny: 1 of 2 replicas, 1 died",
        "greater on bbh/boolean_expressions with tiny, seed 0: step 2 of 4, best loss 1.2500",
        "seed 1: test, after: 3 of 8",
        "zero-shot-cot on bbh/boolean_expressions with tiny: beginning",
        "failed: greater on bbh/boolean_expressions with tiny, seed 2: too [dark]",
        "waiting for",
        "light (0 s ago)",
    ):
        assert part in screen, part
    live.ended(cells[0], "stopped", "later")
    assert "1 failed, 1 stopped" in panel(live)


@pytest.mark.parametrize("no_color", [True, False])
def test_the_bar_has_a_line_of_its_own(no_color: bool, cells: list[Cell], tmp_path: Path):
    live = LiveGrid(tmp_path)
    live.planned("optimize", cells, cells)
    live.pools([STATS])
    for ended in range(5):
        stream = io.StringIO()
        Console(file=stream, width=140, no_color=no_color, force_terminal=True, color_system="standard").print(live)
        lines = [line for line in stream.getvalue().splitlines() if "replicas" in line]
        assert len(lines) == 1, f"{ended} of 4"
        assert "━" not in lines[0]
        if ended < 4:
            live.ended(cells[ended], "done", None)


def test_the_panel_stays_small_with_many_cells_and_failures(tmp_path: Path):
    cells = expand_grid(loaded("tiny", seeds=list(range(20))))
    live = LiveGrid(tmp_path)
    live.planned("optimize", cells, cells)
    for cell in cells:
        live.started(cell)
    assert f"... and {len(cells) - 12} more" in panel(live)
    for cell in cells:
        live.ended(cell, "failed", "no")
    assert panel(live).count("failed: ") == 12
    assert len(panel(live).splitlines()) < 30


def test_a_terminal_gets_the_panel(cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with grid_display(stream, tmp_path, no_color=True) as screen:
        assert isinstance(screen, LiveGrid)
        tell(screen, cells)
    assert "greater-ray grid" in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    with grid_display(Terminal(), tmp_path, no_color=True) as screen:
        assert isinstance(screen, PlainGrid)


def test_the_status_file_holds_what_the_screen_shows(cells: list[Cell], tmp_path: Path):
    live = LiveGrid(tmp_path)
    live.planned("optimize", cells, cells)
    value = json.loads((tmp_path / STATUS_FILE).read_text())
    own: dict[str, Any] = live.figures.snapshot()
    assert {key: value[key] for key in own if key != "time"} == {k: v for k, v in own.items() if k != "time"}


def test_the_first_signal_stops_politely_and_the_second_aborts(capfd: pytest.CaptureFixture):
    with GridStop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.should_stop()
        assert "once more aborts" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with GridStop() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert (stop.should_stop(), stop.exit_code) == (True, 143)

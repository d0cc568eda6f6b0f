"""Grids of many cells: what is listed and read, how often, and what stays in memory."""

import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_cells import make_cells, measure
from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.grid.cells import Cell
from greater_ray.grid.inputs import Inputs
from greater_ray.grid.status import GridStatus
from greater_ray.grid.store import GridStore
from greater_ray.grid.transfer import sources_in

CELLS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Cell]]:
    folder = tmp_path_factory.mktemp("large") / "grid"
    return folder, make_cells(folder, CELLS)


_seen: list[tuple[str, str]] = []
_watching = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event in ("open", "os.listdir", "os.scandir"):
        _seen.append((event, str(args[0])))


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """Count what this process opens by file name, and folders that it lists as ``listed``."""
    global _watching
    _seen.clear()
    counted: Counter[str] = Counter()
    _watching = True
    try:
        yield counted
    finally:
        _watching = False
        counted.update(Path(path).name if event == "open" else "listed" for event, path in _seen)


def test_states_of_all_cells_take_one_listing(made: tuple[Path, list[Cell]]):
    folder, cells = made
    (folder / "cells").touch()  # as while cells begin: the listing may change at any moment
    with watched() as counted:
        states = GridStore(folder).states({cell.trial_id: None for cell in cells})
    assert {state.state for state in states.values()} == {"done"}
    assert counted["listed"] == 1
    assert counted["config.json"] == 0, "without inputs to compare none is read"
    for trial_id, state in states.items():
        (own,) = folder.glob(f"cells/*-{trial_id}-*")
        assert state == ("done", own, None)


def test_states_with_inputs_are_those_of_one_cell_at_a_time(made: tuple[Path, list[Cell]]):
    folder, cells = made
    store = GridStore(folder)
    for inputs in ({}, {"rows": "others"}, {"weights": "others"}, {"rows": "another", "files": "f"}):
        states = store.states({cell.trial_id: inputs for cell in cells})
        assert states == {cell.trial_id: store.state(cell.trial_id, inputs) for cell in cells}
        assert {state.state for state in states.values()} == {"open" if inputs else "done"}


def test_loading_reads_no_record_and_lists_once(made: tuple[Path, list[Cell]]):
    (made[0] / "cells").touch()
    with watched() as counted:
        results = load(made[0])
    assert len(results.finished) == CELLS
    assert counted["listed"] == 1
    assert counted["record.json"] == counted["steps.jsonl"] == 0


def test_each_record_is_read_once_for_figures_and_again_for_answers(made: tuple[Path, list[Cell]]):
    results = load(made[0])
    with watched() as counted:
        for cell in results.cells:
            assert cell.problem is None
            assert cell.scores
            assert cell.costs
        results.cell_frame(), results.to_json()
    assert counted["record.json"] == CELLS
    with watched() as counted:
        results.answer_frame(), results.step_frame()
    assert counted["record.json"] == counted["steps.jsonl"] == CELLS


def test_no_record_stays_in_memory(made: tuple[Path, list[Cell]]):
    record = load(made[0]).cells[0].record
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held = [cell.record for cell in load(made[0]).cells]
        whole = tracemalloc.get_traced_memory()[0] - before
        del held
        before = tracemalloc.get_traced_memory()[0]
        results = load(made[0])
        assert [cell.scores[0].rows for cell in results.cells] == [6] * CELLS
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < whole / 8
    assert kept < 16 * 1024 * CELLS
    assert results.cells[0].record == record
    assert results.cells[0].record is not results.cells[0].record


def test_selection_splits_of_a_transfer_are_those_of_its_source(made: tuple[Path, list[Cell]]):
    first, second = load(made[0]).cells[:2]
    assert (second.source, second.source_cell) == (first.trial_id, first)
    assert second.selection_splits == first.record.chosen_by != ()
    assert first.selection_splits == ()


def test_a_running_grid_shows_how_far_it_is_and_reads_no_record(
    made: tuple[Path, list[Cell]], capsys: pytest.CaptureFixture[str]
):
    folder, cells = made
    figures = GridStatus(folder)
    try:
        figures.planned("optimize", cells, cells[:2])
        with watched() as counted:
            assert run(["status", str(folder)]) == 0
            out = capsys.readouterr().out
            assert run(["status", str(folder), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    finally:
        figures.close()
    assert out.splitlines() == [
        "made: running now",
        f"optimize: cells: 0 running, {CELLS - 2} of {CELLS} done, 0 failed; time left -",
        f"optimize: {CELLS // 2} cells: {CELLS // 2} done",
        f"transfer: {CELLS // 2} cells: {CELLS // 2} done",
    ]
    assert counted["record.json"] == 0
    assert [cell["state"] for cell in told["cells"]] == ["done"] * CELLS
    assert not any("scores" in cell for cell in told["cells"])
    assert told["running"]["cells"]["total"] == CELLS
    assert run(["status", str(folder)]) == 0
    assert capsys.readouterr().out.count("benchmarks.simulated:instant") == 3 * CELLS // 2, "a row per cell and split"


def test_a_grid_that_goes_on_lists_its_cells_once_for_each_question(made: tuple[Path, list[Cell]]):
    folder, cells = made
    first = [cell for cell in cells if cell.source is None]
    inputs = Inputs(first)
    store = GridStore(folder)
    (folder / "cells").touch()
    with watched() as counted:
        inputs.states(store, first)
        sources_in(store)
        store.write_grid("made", cells, whole=True)
    assert counted["listed"] == 3
    assert len(store.entries()) == CELLS


def test_the_benchmark_measures_every_way_of_reading(made: tuple[Path, list[Cell]], capsys: pytest.CaptureFixture[str]):
    measure(made[0])
    lines = capsys.readouterr().out.splitlines()
    names = [line[:24].strip() for line in lines]
    assert names == [
        *("status --json", "load", "scores and costs", "cell_frame", "to_json", "step_frame", "answer_frame"),
    ]
    assert all(float(line.split(" s ")[0].split()[-1]) < 60 for line in lines)

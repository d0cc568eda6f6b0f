"""The folder of a grid: what is found there again, and what is kept."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from greater_ray.config import fingerprint
from greater_ray.errors import StoreError
from greater_ray.grid.cells import Cell, expand_grid
from greater_ray.grid.config import load_grid
from greater_ray.grid.store import GridStore

GRID = {"methods": ["greater", "zero-shot-cot"], "tasks": ["bbh/navigate"], "models": ["m"], "seeds": [0, 1]}
INPUTS = {"rows": "r1", "weights": "w1"}


@pytest.fixture
def cells() -> list[Cell]:
    return expand_grid(load_grid(GRID))


@pytest.fixture
def store(tmp_path: Path) -> GridStore:
    return GridStore(tmp_path / "out")


def begin(store: GridStore, cell: Cell, inputs: dict[str, str] = INPUTS) -> Path:
    folder = store.cell_folder(cell, inputs)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"inputs": inputs}))
    return folder


def end(folder: Path) -> Path:
    (folder / "record.json").write_text("{}")
    return folder


def test_a_folder_is_named_by_what_is_computed_and_with_what(store: GridStore, cells: list[Cell]):
    folder = store.cell_folder(cells[0], INPUTS)
    assert folder.name == f"{cells[0].slug}-{cells[0].trial_id}-{fingerprint(INPUTS)[:8]}"
    names = {store.cell_folder(cell, inputs) for cell in cells for inputs in (INPUTS, INPUTS | {"rows": "r2"})}
    assert len(names) == 2 * len(cells)
    other = expand_grid(load_grid({**GRID, "settings": {"shard_size": 3}}))
    assert not names & {store.cell_folder(cell, INPUTS) for cell in other}


def test_a_cell_is_open_then_begun_then_done(store: GridStore, cells: list[Cell]):
    cell, other = cells[:2]
    assert store.state(cell.trial_id) == ("open", None, None)
    folder = begin(store, cell)
    assert store.state(cell.trial_id, INPUTS) == ("begun", folder, None)
    end(folder)
    assert store.state(cell.trial_id, INPUTS) == ("done", folder, None)
    assert store.state(other.trial_id).state == "open"


def test_results_for_other_rows_or_weights_do_not_count(store: GridStore, cells: list[Cell]):
    cell = cells[0]
    old = end(begin(store, cell))
    for changed in (INPUTS | {"rows": "r2"}, INPUTS | {"weights": "w2"}, {"rows": "r2"}):
        assert store.state(cell.trial_id, changed).state == "open"
    new = begin(store, cell, INPUTS | {"rows": "r2"})
    assert store.state(cell.trial_id, {"rows": "r2"}) == ("begun", new, None)
    end(new)
    assert store.state(cell.trial_id, {"rows": "r2"}).folder == new
    assert store.state(cell.trial_id, {"rows": "r1"}).folder == old


def test_files_are_compared_where_they_were_noted(store: GridStore, cells: list[Cell]):
    first, second = cells[:2]
    end(begin(store, first))
    assert store.state(first.trial_id, INPUTS | {"files": "f1"}).state == "done", "nothing is known of them"
    folder = begin(store, second, INPUTS | {"files": "f1"})
    for end_of_it, state in ((lambda folder: None, "begun"), (end, "done")):
        end_of_it(folder)
        assert store.state(second.trial_id, INPUTS | {"files": "f1"}) == (state, folder, None)
        assert store.state(second.trial_id, INPUTS | {"files": "f2"}).state == "open"
    assert store.cell_folder(second, INPUTS | {"files": "f2"}) != folder, "what is open does not meet the old folder"


@pytest.mark.parametrize("content", [None, "{half", '{"trial_id": "x"}'])
def test_a_folder_without_noted_inputs_is_begun_and_no_more(store: GridStore, cells: list[Cell], content: str | None):
    folder = store.cell_folder(cells[0], INPUTS)
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "config.json").write_text(content)
    for inputs in (INPUTS, INPUTS | {"files": "f2"}):
        assert store.state(cells[0].trial_id, inputs) == ("begun", folder, None)
    assert store.cell_folder(cells[0], INPUTS) == folder
    same = store.cell_folder(cells[0], INPUTS | {"files": "f2"}) == folder
    assert same == (content == "{half"), "its name stands for other inputs; what cannot be read is named by who goes on"


def test_a_cell_goes_on_in_its_folder_when_more_is_known_than_before(store: GridStore, cells: list[Cell]):
    folder = begin(store, cells[0])
    for more in ({"files": "f1"}, {"optimizer_weights": "o1"}):
        assert store.cell_folder(cells[0], INPUTS | more) == folder
    assert store.cell_folder(cells[1], INPUTS) != folder
    for changed in ({"rows": "r2"}, {"weights": "w2"}):
        assert store.cell_folder(cells[0], INPUTS | {"files": "f1"} | changed) != folder


def test_a_failure_has_a_reason_until_it_is_forgotten(store: GridStore, cells: list[Cell]):
    store.claim()
    cell = cells[0]
    folder = begin(store, cell)
    store.write_failure(cell, INPUTS, "too dark", "Traceback ...")
    assert store.state(cell.trial_id, INPUTS) == ("failed", folder, "too dark")
    value = json.loads((store.failures / f"{cell.trial_id}.json").read_text())
    assert (value["method"], value["seed"], value["trace"]) == (cell.method, cell.seed, "Traceback ...")
    assert value["config"] == cell.config.model_dump(mode="json")
    assert store.state(cell.trial_id, dict.fromkeys(INPUTS, "other")).state == "open", "it failed with other rows"
    store.forget_failure(cell.trial_id)
    store.forget_failure(cell.trial_id)
    assert store.state(cell.trial_id, INPUTS).state == "begun"
    store.write_failure(cell, {}, "again")
    end(folder)
    assert store.state(cell.trial_id, INPUTS).state == "done", "a record outweighs a failure"


def test_a_folder_that_is_no_grid_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="holds no grid"):
        GridStore(tmp_path).claim()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="cannot be written"):
        GridStore(tmp_path / "thesis.txt").claim()
    with pytest.raises(StoreError, match="holds no grid"):
        GridStore(tmp_path / "nowhere").read_grid()


HOLD = """
import sys, time, pathlib
from greater_ray.grid.store import GridStore
store = GridStore(pathlib.Path(sys.argv[1]))
store.claim()
print("held", flush=True)
time.sleep(60)
"""


def test_one_driver_at_a_time_and_none_after_a_kill(store: GridStore):
    driver = subprocess.Popen([sys.executable, "-c", HOLD, store.folder], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "held\n"
        (store.folder / "grid.json").write_text('{"name": "x", "cells": []}')
        with pytest.raises(StoreError, match="another process"):
            store.claim()
        assert store.read_grid()["cells"] == [], "reading needs no lock"
    finally:
        driver.kill()
        driver.wait()
    store.claim()
    with pytest.raises(StoreError, match="another process"):
        GridStore(store.folder).claim()
    store.close()
    GridStore(store.folder).claim()


def noted(store: GridStore) -> list[tuple[str, str | None]]:
    return [(entry["trial_id"], entry["source"]) for entry in store.read_grid()["cells"]]


def test_a_part_of_a_grid_is_noted_beside_what_is_noted_already(store: GridStore, cells: list[Cell]):
    store.claim()
    store.write_grid("first", cells[:2], whole=False)
    store.write_grid("second", cells[1:], whole=False)
    value = store.read_grid()
    assert value["name"] == "second"
    assert [entry["trial_id"] for entry in value["cells"]] == [cell.trial_id for cell in cells]
    assert value["cells"][0]["method"] == cells[0].method
    (store.folder / "grid.json").write_text("{half")
    with pytest.raises(StoreError, match=r"grid\.json', line 1: not readable JSON"):
        store.read_grid()


def test_a_whole_grid_takes_the_place_of_what_an_earlier_one_has_not_finished(store: GridStore, cells: list[Cell]):
    store.claim()
    end(begin(store, cells[0]))
    begin(store, cells[1])
    moved = [replace(cells[2], source="x"), replace(cells[2], source="y")]
    store.write_grid("first", cells[:2], whole=True)
    store.write_grid("first", moved[:1], whole=True)
    store.write_grid("second", cells[2:], whole=True)
    done, new = (cells[0].trial_id, None), (cells[2].trial_id, None)
    assert noted(store) == [done, (cells[2].trial_id, "x"), new], "the other phase is not touched"
    store.write_grid("second", moved[1:], whole=True)
    assert noted(store) == [done, new, (cells[2].trial_id, "y")]


def test_events_are_lines_with_a_time(store: GridStore):
    store.claim()
    store.note("replica died", model="m", attempt=1)
    store.note("phase", phase="optimize")
    first, second = store.events.read()
    assert (first["event"], first["model"], second["phase"]) == ("replica died", "m", "optimize")
    assert 0 < first["time"] <= second["time"] <= time.time()


def test_a_folder_that_was_claimed_and_no_more_is_claimed_again(store: GridStore, cells: list[Cell]):
    store.claim()
    store.close()
    again = GridStore(store.folder)
    again.claim()
    again.close()
    folder = begin(store, cells[0])
    GridStore(store.folder).claim()  # grid.json was moved away
    folder.rename(folder.with_name("holidays"))
    with pytest.raises(StoreError, match="not empty and holds no grid"):
        GridStore(store.folder).claim()


def test_an_event_after_half_a_one_begins_on_its_own_line(store: GridStore):
    store.claim()
    store.write_grid("x", [], whole=True)
    store.note("phase", phase="optimize")
    store.close()
    with store.events.path.open("ab") as file:
        file.write(b'{"time": 1.0, "even')
    again = GridStore(store.folder)
    again.claim()
    again.note("phase", phase="transfer")
    assert [event["phase"] for event in again.events.read()] == ["optimize", "transfer"]


def test_a_record_of_another_version_is_named(store: GridStore, cells: list[Cell]):
    folder = end(begin(store, cells[0]))
    with pytest.raises(StoreError, match="not a record of this version"):
        store.record(folder)


def test_one_cell_is_found_as_it_is_among_all(store: GridStore, cells: list[Cell]):
    first, second = cells[0].trial_id, cells[1].trial_id
    for name in (f"a--{second}-{first}-00000000", f"b-{first}-11111111", f"{first}", f"c-{second}", "other-x-y"):
        (store.cells / name).mkdir(parents=True)
    (store.cells / f"d-{second}-22222222").write_text("no folder")
    for settled in (False, True):
        if settled:
            os.utime(store.cells, (0, 0))
        alone = {trial: store.state(trial) for trial in (first, second)}
        assert alone == GridStore(store.folder).states(dict.fromkeys((first, second)))
        assert alone[first].folder == store.cells / f"b-{first}-11111111"
        assert alone[second].state == "open"
        store.states({})

"""A run folder: nothing half-written is believed, nothing of another run is touched."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greater_ray.config import TrialConfig, parse
from greater_ray.errors import DataError, StoreError
from greater_ray.files import Lines, write_atomic
from greater_ray.settings import merged
from greater_ray.store import RunStore


def config(**values: Any) -> TrialConfig:
    base = {"model": {"name": "m"}, "task": {"name": "bbh/navigate"}}
    return parse(TrialConfig, merged(base, values))


# -- lines -------------------------------------------------------------------------------------------------------------


def test_lines_are_appended_and_read_back(tmp_path: Path):
    lines = Lines(tmp_path / "x.jsonl")
    assert (lines.length, lines.read()) == (0, [])
    lines.append([{"a": 1}, {"b": "ü\n"}])
    lines.append([])
    lines.append([{"c": None}])
    assert lines.read() == [{"a": 1}, {"b": "ü\n"}, {"c": None}]
    assert lines.length == len((tmp_path / "x.jsonl").read_bytes())
    assert (tmp_path / "x.jsonl").read_text().count("\n") == 3


def test_lines_behind_a_length_are_cut_off(tmp_path: Path):
    lines = Lines(tmp_path / "x.jsonl")
    lines.append([{"a": 1}])
    length = lines.length
    lines.append([{"a": 2}])
    lines.cut(length)
    assert lines.read() == [{"a": 1}]
    lines.cut(length + 100)
    assert lines.length == length, "cutting never lengthens"
    Lines(tmp_path / "none.jsonl").cut(0)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("half", ['{"a"', '{"a": 2}', '{"a": "ü'])
def test_a_half_written_line_is_not_read_and_can_be_dropped(tmp_path: Path, half: str):
    path = tmp_path / "x.jsonl"
    lines = Lines(path)
    lines.append([{"a": 1}])
    with path.open("ab") as file:
        file.write(half.encode()[:-1] if half.endswith("ü") else half.encode())
    assert lines.read() == [{"a": 1}]
    lines.drop_half_line()
    lines.append([{"a": 3}])
    assert lines.read() == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Expecting property name enclosed in double quotes"),
        (b"", "Expecting value"),
        (b'{"a": "\xff"}', "no UTF-8 text"),
        (b"[1]", "no object"),
        (b"[" * 5000, "nested too deeply"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
    ],
)
def test_a_broken_line_is_named_and_not_skipped(tmp_path: Path, line: bytes, reason: str):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n' + line + b'\n{"c": 3}\n{"half')
    with pytest.raises(StoreError) as raised:
        Lines(path).read()
    assert str(raised.value) == f"'{path}', line 3: not readable JSON ({reason})."
    assert raised.value.place == (str(path), 3)


def test_a_line_that_does_not_say_what_is_needed_is_named(tmp_path: Path):
    lines = Lines(tmp_path / "x.jsonl")
    lines.append([{"a": 1}, {"b": 2}])
    assert lines.read_as(len) == [1, 1]
    with pytest.raises(StoreError, match=r"x\.jsonl', line 2: not a line of this version \('a' is missing\)\."):
        lines.read_as(lambda value: value["a"])


def test_only_a_newline_ends_a_line(tmp_path: Path):
    lines = Lines(tmp_path / "x.jsonl")
    values = [{"text": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj\nk"}, {"text": ""}]
    lines.append(values)
    assert lines.read() == values


def test_a_file_of_one_half_line_becomes_empty(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a"')
    Lines(path).drop_half_line()
    assert path.read_bytes() == b""


# -- whose folder ------------------------------------------------------------------------------------------------------


def test_a_folder_is_claimed_once_and_continued_by_the_same_settings(tmp_path: Path):
    folder = tmp_path / "new" / "run"
    RunStore(folder, config())
    held = json.loads((folder / "config.json").read_text())
    assert held["trial_id"] == config().trial_id()
    before = (folder / "config.json").stat().st_mtime_ns
    RunStore(folder, config())
    assert (folder / "config.json").stat().st_mtime_ns == before


def test_another_run_is_refused_with_what_differs(tmp_path: Path):
    RunStore(tmp_path, config(seed=1))
    with pytest.raises(StoreError, match=r"differs in: budget\.steps, seed, task\.train_size\)") as error:
        RunStore(tmp_path, config(seed=2, budget={"steps": 4}, task={"train_size": 5}))
    assert str(tmp_path) in str(error.value)
    held = json.loads((tmp_path / "config.json").read_text())
    assert held["trial_id"] == config(seed=1).trial_id()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="not empty and holds no run"):
        RunStore(tmp_path, config())
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["thesis.tex"]


def test_hidden_files_do_not_make_a_folder_foreign(tmp_path: Path):
    (tmp_path / ".DS_Store").write_text("x")
    RunStore(tmp_path, config())
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize("text", ["", "{", "not json"])
def test_an_unreadable_config_is_told(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(StoreError, match="not readable JSON"):
        RunStore(tmp_path, config())
    assert (tmp_path / "config.json").read_text() == text


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        RunStore(tmp_path / "run", config())


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 64 KiB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("a disk that can be filled is mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file(small_disk: Path):
    path = small_disk / "state.json"
    write_atomic(path, "old")
    with pytest.raises(StoreError, match="no space left on the disk") as error:
        write_atomic(path, "x" * 200_000)
    assert str(small_disk) in str(error.value)
    assert path.read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == ["state.json"], "the half-written file is gone"
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_lines_that_did_not_fit_are_dropped_on_the_next_load(small_disk: Path):
    store = RunStore(small_disk / "run", config())
    store.steps.append([{"step": 1}])
    store.save_state({"at": 1})
    with pytest.raises(StoreError, match="no space left"):
        store.steps.append([{"step": 2, "text": "x" * 200_000}])
    state = store.load_state()
    assert state is not None
    assert state["at"] == 1
    assert store.steps.read() == [{"step": 1}]
    store.steps.append([{"step": 2}])
    assert store.steps.read() == [{"step": 1}, {"step": 2}]


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_vouches_for_the_lines_before_it_and_for_no_others(tmp_path: Path):
    store = RunStore(tmp_path, config())
    store.steps.append([{"step": 1}])
    store.lines("rollouts").append([{"r": 1}, {"r": 2}])
    store.save_state({"at": 1})
    store.steps.append([{"step": 2}])
    store.lines("rollouts").append([{"r": 3}])
    with store.steps.path.open("a") as file:
        file.write('{"half')
    again = Lines(store.steps.path), Lines(store.lines("rollouts").path)
    state = store.load_state()
    assert state is not None
    assert state["at"] == 1
    assert [lines.read() for lines in again] == [[{"step": 1}], [{"r": 1}, {"r": 2}]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps_bytes": None}, "not a checkpoint of this version"),
        ({"steps_bytes": "12"}, "not a checkpoint of this version"),
        ({"rollouts_bytes": -1}, "not a checkpoint of this version"),
        ({"schema_version": 99}, "not a checkpoint of this version"),
        ({"steps_bytes": 1000}, r"steps\.jsonl': shorter than its checkpoint says \(24 of 1000 bytes\)"),
    ],
)
def test_a_checkpoint_that_vouches_for_nothing_known_cuts_nothing_off(tmp_path: Path, changes: dict, reason: str):
    store = RunStore(tmp_path, config())
    store.steps.append([{"step": 1}, {"step": 2}])
    store.save_state({"at": 2})
    state = json.loads((tmp_path / "state.json").read_text()) | changes | {"sha256": None}
    (tmp_path / "state.json").write_text(json.dumps({k: v for k, v in state.items() if v is not None}))
    with pytest.raises(StoreError, match=reason):
        store.load_state()
    assert store.steps.read() == [{"step": 1}, {"step": 2}]


def test_evaluations_are_kept_line_by_line(tmp_path: Path):
    store = RunStore(tmp_path, config())
    store.save_state({})
    store.evaluations.append([{"shard": 0}])
    with store.evaluations.path.open("a") as file:
        file.write('{"shard": 1')
    store.load_state()
    assert store.evaluations.path.read_text() == '{"shard": 0}\n'


def test_before_the_first_checkpoint_no_line_counts(tmp_path: Path):
    store = RunStore(tmp_path, config())
    for lines in (store.steps, store.lines("rollouts")):
        lines.append([{"a": 1}])
    assert store.load_state() is None
    assert store.load_record() is None
    assert [lines.read() for lines in (store.steps, store.lines("rollouts"), store.evaluations)] == [[], [], []]


@pytest.mark.parametrize(("steps", "evaluated"), [(2, 0), (1, 1), (0, 1)])
def test_a_lost_checkpoint_is_named_and_the_run_not_begun_anew(tmp_path: Path, steps: int, evaluated: int):
    store = RunStore(tmp_path, config())
    store.steps.append([{"step": k} for k in range(steps)])
    store.evaluations.append([{"shard": k} for k in range(evaluated)])
    told = rf"state\.json': gone, though {steps} steps and {evaluated} evaluated shards stand beside it; .* move its"
    with pytest.raises(StoreError, match=told):
        store.load_state()
    assert (len(store.steps.read()), len(store.evaluations.read())) == (steps, evaluated)


def test_a_run_that_is_killed_while_writing_a_checkpoint_keeps_the_one_before(tmp_path: Path):
    store = RunStore(tmp_path, config())
    store.save_state({"at": 1})
    (tmp_path / ".state.json.tmp").write_text('{"at": 2, "ste')
    state = store.load_state()
    assert state is not None
    assert state["at"] == 1
    store.save_state({"at": 3})
    assert not (tmp_path / ".state.json.tmp").exists()


def test_wrong_settings_leave_a_new_folder_free_and_a_begun_one_as_it_is(tmp_path: Path):
    with pytest.raises(DataError), RunStore(tmp_path, config()):
        raise DataError("a row does not fit")
    with RunStore(tmp_path, config(seed=1)) as store:
        store.save_state({})
    with pytest.raises(DataError), RunStore(tmp_path, config(seed=1)):
        raise DataError("a row does not fit")
    with pytest.raises(StoreError, match="different run"):
        RunStore(tmp_path, config())

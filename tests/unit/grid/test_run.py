"""Grids in this process, on real tiny models: what is done is kept, what fails is recorded, and the grid goes on."""

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greater_ray.errors import DataError, Interrupted, StoreError
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.inputs import Inputs
from greater_ray.grid.run import GridResult, LocalBackend, run_grid
from greater_ray.grid.store import GridStore
from greater_ray.models.engine import Engine
from greater_ray.records import TrialRecord
from greater_ray.settings import merged
from tests.families import tiny_model
from tests.grids import GREATER, Told, loaded

FAILING = {"name": "fixed", "label": "empty", "method_config": {"prompt": ""}}


def run(out: Path, folder: Path, told: Told | None = None, **changes: Any) -> GridResult:
    retry = changes.pop("retry_failed", False)
    only = changes.pop("only", None)
    return run_grid(loaded(folder, **changes), out, LocalBackend(), only=only, retry_failed=retry, observer=told)


def states(result: GridResult) -> list[tuple[str, str]]:
    return [(f"{cell.method} {cell.seed}", state.state) for cell, state in result.cells]


def files(out: Path) -> dict[str, int]:
    """Return when every file of every cell was last written."""
    return {str(p): p.stat().st_mtime_ns for p in (out / "cells").rglob("*.json*")}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the models that are loaded and the units of work they are given, around the real engine."""
    done: list[str] = []
    real = Engine.load.__func__  # type: ignore[attr-defined]

    def counting(name: str, call: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            return call(*args, **kwargs)

        return counted

    def load(cls: type, *args: Any, **kwargs: Any) -> Any:
        done.append("load")
        engine = real(cls, *args, **kwargs)
        for name in ("rollouts", "answers", "gradients"):
            setattr(engine, name, counting(name, getattr(engine, name)))
        return engine

    monkeypatch.setattr(Engine, "load", classmethod(load))
    return done


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished grid of three cells, for those who only look or copy."""
    out = tmp_path_factory.mktemp("grid") / "out"
    assert run(out, tiny_folder).complete
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns(".lock"))


@pytest.fixture
def own_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """Return a model that may be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_every_cell_gets_a_record_and_a_model_is_loaded_once(counted: list[str], tiny_folder: Path, tmp_path: Path):
    told = Told()
    result = run(tmp_path, tiny_folder, told)
    assert result.complete
    assert states(result) == [("greater 0", "done"), ("greater 1", "done"), ("zero-shot-cot -", "done")]
    assert counted.count("load") == 1
    assert {"rollouts", "gradients", "answers"} <= set(counted)
    for cell, state in result.cells:
        record = TrialRecord.model_validate_json((state.folder / "record.json").read_text())
        assert (record.trial_id, record.config) == (cell.trial_id, cell.config)
        assert {e.split for e in record.evaluations} == {"test"}
    assert told.phases == [("optimize", 3, 3)]
    assert told.begun == [cell.title for cell, _ in result.cells]
    assert told.ends == [(cell.title, "done", None) for cell, _ in result.cells]
    assert max(p.step for p in told.steps) == 1
    assert any(p.phase.startswith("test, after") for p in told.steps)
    assert [e["event"] for e in GridStore(tmp_path).events.read()] == ["phase"]


def test_progress_counts_up_to_the_budget_or_to_where_a_method_itself_ends(tiny_folder: Path, tmp_path: Path):
    told = Told()
    few_shot = {"name": "few-shot", "preset": "answer-only", "budget": {"steps": 7}}
    methods = [few_shot, merged(GREATER, {"budget": {"steps": 2}})]
    assert run(tmp_path, tiny_folder, told, methods=methods, seeds=[0]).complete
    assert {p.steps for p in told.steps if p.step == 0} == {p.steps for p in told.steps} == {1, 2}


def test_a_second_run_computes_nothing(counted: list[str], copied: Path, tiny_folder: Path):
    before, told = files(copied), Told()
    result = run(copied, tiny_folder, told)
    assert result.complete
    assert (counted, told.phases, told.begun) == ([], [("optimize", 3, 0)], [])
    assert files(copied) == before


def test_a_larger_grid_runs_only_its_new_cells(copied: Path, tiny_folder: Path):
    before, told = files(copied), Told()
    result = run(copied, tiny_folder, told, seeds=[0, 1, 2])
    assert result.complete
    assert told.phases == [("optimize", 4, 1)]
    assert [title.rpartition(", ")[2] for title in told.begun] == ["seed 2"]
    assert {name: files(copied)[name] for name in before} == before
    told = Told()
    run(copied, tiny_folder, told, seeds=[0])
    assert told.phases == [("optimize", 2, 0)]
    assert len(GridStore(copied).read_grid()["cells"]) == 4, "a smaller one forgets nothing"


def test_only_runs_what_it_names(copied: Path, tiny_folder: Path, tmp_path: Path):
    told = Told()
    result = run(tmp_path / "new", tiny_folder, told, only={"method": ["zero*"]})
    assert states(result) == [("zero-shot-cot -", "done")]
    assert result.complete


def test_changed_settings_never_meet_an_old_result_and_the_old_one_stays(copied: Path, tiny_folder: Path):
    before, told = files(copied), Told()
    assert run(copied, tiny_folder, told, settings={"decoding": {"max_reasoning_tokens": 3}}, seeds=[0]).complete
    assert told.phases == [("optimize", 2, 2)]
    assert {name: files(copied)[name] for name in before} == before
    assert len(list((copied / "cells").iterdir())) == 5


def test_changed_rows_never_meet_an_old_result_and_the_old_one_stays(tiny_folder: Path, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    out = tmp_path / "out"

    def once(answers: list[str]) -> tuple[GridResult, Told]:
        lines = [{"question": f"Is {k} even?", "answer": answer} for k, answer in enumerate(answers)]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        told = Told()
        task = {"name": "rows", "data": "hub", "rows": str(rows)}
        return run(out, tiny_folder, told, tasks=[task], methods=["zero-shot-cot"]), told

    first, told = once(["yes", "no"] * 4)
    assert (first.complete, len(told.begun)) == (True, 1)
    before = files(out)
    second, told = once(["no", "yes"] * 4)
    assert (second.complete, len(told.begun)) == (True, 1)
    (old,), (new,) = ([state.folder for _, state in r.cells] for r in (first, second))
    assert old != new
    assert {name: files(out)[name] for name in before} == before
    third, told = once(["yes", "no"] * 4)
    assert (told.begun, third.cells[0][1].folder) == ([], old), "and the old rows find the old one again"


def turn_weights(folder: Path) -> None:
    model, _ = tiny_model("llama")
    model.get_output_embeddings().weight.neg_()
    model.save_pretrained(folder)


def turn_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text("Now: " + file.read_text())


@pytest.mark.parametrize(
    ("name", "change"), [("model.safetensors", turn_weights), ("chat_template.jinja", turn_template)]
)
def test_a_changed_file_of_a_model_never_meets_an_old_result_and_the_old_one_stays(
    name: str, change: Callable[[Path], None], own_folder: Path, tmp_path: Path
):
    out, file = tmp_path / "out", own_folder / name
    first = run(out, own_folder, methods=["zero-shot-cot"])
    before, kept = files(out), file.read_bytes()
    change(own_folder)
    assert file.read_bytes() != kept
    told = Told()
    second = run(out, own_folder, told, methods=["zero-shot-cot"])
    assert (second.complete, len(told.begun)) == (True, 1)
    assert first.cells[0][1].folder != second.cells[0][1].folder
    assert {name: files(out)[name] for name in before} == before
    file.write_bytes(kept)
    told = Told()
    assert run(out, own_folder, told, methods=["zero-shot-cot"]).cells[0][1] == first.cells[0][1]
    assert told.begun == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_writer_never_meets_what_the_old_one_began(
    finished: bool, tiny_folder: Path, own_folder: Path, tmp_path: Path
):
    out = tmp_path / "out"
    writing = {"name": "tests.writing:PLUGIN", "budget": {"steps": 2}, "method_config": {"max_new_tokens": 5}}
    settings = {"task": {"dev_size": 2}, "optimizer_model": str(own_folder)}

    def once(stop_at: int | None = None) -> tuple[GridResult, Told]:
        told = Told()
        grid = loaded(tiny_folder, methods=[writing], seeds=[0], settings=settings)
        backend = LocalBackend(lambda: stop_at is not None and any(p.step >= stop_at for p in told.steps))
        return run_grid(grid, out, backend, observer=told), told

    if finished:
        assert once()[0].complete
    else:
        with pytest.raises(Interrupted):
            once(stop_at=1)
    before = files(out)
    (folder,) = (out / "cells").iterdir()
    weights = own_folder / "model.safetensors"
    kept = weights.read_bytes()
    model, _ = tiny_model("llama")
    model.get_output_embeddings().weight.neg_()
    model.save_pretrained(own_folder)
    second, told = once()
    assert (second.complete, len(told.begun)) == (True, 1), [end[2] for end in told.ends]
    new = second.cells[0][1].folder
    assert new != folder
    assert {name: files(out)[name] for name in before} == before
    assert once()[1].begun == [], "its own record counts"
    weights.write_bytes(kept)
    third, told = once()
    assert (third.complete, len(told.begun)) == (True, 0 if finished else 1)
    assert third.cells[0][1].folder == folder, "the old writer finds its own folder again"
    written = [GridStore(out).record(path).optimizer["weights"] for path in (folder, new)]
    assert written[0] != written[1]


def test_what_a_cell_is_computed_with_is_noted_from_its_first_step_on(own_folder: Path, tmp_path: Path):
    out, told = tmp_path / "out", Told()
    backend = LocalBackend(lambda: any(p.step >= 1 for p in told.steps))
    with pytest.raises(Interrupted):
        run_grid(loaded(own_folder, seeds=[0]), out, backend, observer=told)
    (folder,) = (out / "cells").iterdir()
    assert {"rows", "weights", "files"} <= json.loads((folder / "config.json").read_text())["inputs"].keys()
    (cell,) = expand_grid(loaded(own_folder, seeds=[0], methods=[GREATER]))
    inputs = Inputs([cell]).of(cell)
    assert GridStore(out).state(cell.trial_id, inputs) == ("begun", folder, None)
    assert GridStore(out).state(cell.trial_id, inputs | {"files": "other"}).state == "open"
    # As one that was begun before its model lay on this disk.
    noted = json.loads((folder / "config.json").read_text())
    del noted["inputs"]["files"]
    (folder / "config.json").write_text(json.dumps(noted))
    result = run(out, own_folder, seeds=[0], methods=[GREATER])
    assert result.complete
    assert result.cells[0][1].folder == folder, "it goes on where it was"
    assert json.loads((folder / "config.json").read_text())["inputs"]["files"] == inputs["files"]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failing_cell_fails_alone_is_recorded_and_runs_again_on_demand(copied: Path, tiny_folder: Path):
    told = Told()
    methods = [FAILING, "zero-shot-cot", {**FAILING, "label": "full", "method_config": {"prompt": "Think."}}]
    result = run(copied, tiny_folder, told, methods=methods)
    assert states(result) == [("empty -", "failed"), ("zero-shot-cot -", "done"), ("full -", "done")]
    assert not result.complete
    reason = result.cells[0][1].reason
    assert reason == "method_config.prompt: '' has no tokens; give at least one word."
    assert [end[1:] for end in told.ends] == [("failed", reason), ("done", None)]
    assert GridStore(copied).events.read()[-1]["event"] == "cell failed"
    for retry, phases in ((False, [("optimize", 3, 0)]), (True, [("optimize", 3, 1)])):
        told = Told()
        again = run(copied, tiny_folder, told, methods=methods, retry_failed=retry)
        assert (told.phases, states(again)) == (phases, states(result))


def test_a_defect_in_a_cell_is_a_failure_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, tmp_path: Path
):
    # One's own task that breaks when it scores, loaded by name as a user's would be.
    (tmp_path / "breaking_task.py").write_text(
        "from pathlib import Path\n"
        "from greater_ray.tasks import load_task as load\n"
        "class Breaking:\n"
        "    def __init__(self, inner): self.inner = inner\n"
        "    def __getattr__(self, name): return getattr(self.inner, name)\n"
        "    def score(self, *args):\n"
        "        if not (Path(__file__).parent / 'repaired').exists(): raise KeyError('gold')\n"
        "        return self.inner.score(*args)\n"
        "def make(config): return Breaking(load(config.model_copy(update={'name': 'bbh/navigate'})))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tasks = ["breaking_task:make", "bbh/navigate"]
    result = run(tmp_path / "out", tiny_folder, tasks=tasks, methods=["zero-shot-cot"])
    assert [state.state for _, state in result.cells] == ["failed", "done"]
    assert result.cells[0][1].reason == "internal error: KeyError: 'gold'"
    (failure,) = (tmp_path / "out" / "failures").iterdir()
    assert "in score" in json.loads(failure.read_text())["trace"]
    # Once it is repaired, it is tried again where that is asked for.
    (tmp_path / "repaired").touch()
    assert not run(tmp_path / "out", tiny_folder, tasks=tasks, methods=["zero-shot-cot"]).complete
    assert run(tmp_path / "out", tiny_folder, tasks=tasks, methods=["zero-shot-cot"], retry_failed=True).complete
    assert list((tmp_path / "out" / "failures").iterdir()) == []


def test_a_model_that_does_not_load_leaves_its_cells_open(tiny_folder: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    told = Told()
    result = run(tmp_path / "out", model, told, methods=["zero-shot-cot"])
    assert [state.state for _, state in result.cells] == ["open"]
    ((_, state, reason),) = told.ends
    assert state == "stopped"
    assert f"'{model}' cannot be served" in (reason or "")
    shutil.copytree(tiny_folder, model, dirs_exist_ok=True)
    assert run(tmp_path / "out", model, methods=["zero-shot-cot"]).complete


def test_broken_rows_are_told_before_anything_is_written(tiny_folder: Path, tmp_path: Path):
    task = {"name": "rows", "data": "hub", "rows": str(tmp_path / "missing.jsonl")}
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        run(tmp_path / "out", tiny_folder, tasks=["bbh/navigate", task])
    assert not (tmp_path / "out").exists()


def test_a_damaged_folder_stops_its_cell_and_no_other(copied: Path, tiny_folder: Path):
    for folder in (copied / "cells").iterdir():
        (folder / "record.json").unlink()
    damaged = next(p for p in (copied / "cells").iterdir() if p.name.startswith("greater") and "--s0-" in p.name)
    (damaged / "state.json").write_text("{half")
    told = Told()
    result = run(copied, tiny_folder, told)
    assert states(result) == [("greater 0", "begun"), ("greater 1", "done"), ("zero-shot-cot -", "done")]
    assert told.ends[0][1] == "stopped"
    assert "not readable JSON" in (told.ends[0][2] or "")


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_a_stopped_grid_goes_on_to_the_same_results(finished: Path, tiny_folder: Path, tmp_path: Path):
    out, turns, asked = tmp_path / "out", 0, 0

    def every_third() -> bool:
        nonlocal asked
        asked += 1
        return asked % 3 == 0

    while True:
        turns += 1
        try:
            result = run_grid(loaded(tiny_folder), out, LocalBackend(every_third))
            break
        except Interrupted:
            assert turns < 20
    assert turns > 2
    for cell, state in result.cells:
        expected = GridStore(finished).state(cell.trial_id).folder
        records = [GridStore(out).record(folder).without_times() for folder in (state.folder, expected)]
        assert records[0] == records[1]


def test_a_grid_in_use_is_refused(copied: Path, tiny_folder: Path):
    store = GridStore(copied)
    store.claim()
    with pytest.raises(StoreError, match="another process"):
        run(copied, tiny_folder)
    store.close()
    assert run(copied, tiny_folder).complete


def test_a_clock_that_jumps_changes_no_budget_and_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    budget = {"steps": 50, "tokens": 6000, "seconds": 3600.0}
    grid = loaded("benchmarks.simulated:instant", methods=[{"name": "greater", "budget": budget}], seeds=[0])
    assert run_grid(grid, tmp_path / "calm", LocalBackend()).complete
    real, jumps = time.time, itertools.cycle((0.0, 3 * 86400.0, -400 * 86400.0, 7200.0))
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    assert run_grid(grid, tmp_path / "jumping", LocalBackend()).complete
    (calm,), (jumping,) = (
        [TrialRecord.model_validate_json(file.read_bytes()) for file in (tmp_path / name).glob("cells/*/record.json")]
        for name in ("calm", "jumping")
    )
    assert jumping.without_times() == calm.without_times()
    assert calm.stop_reason == "tokens"
    assert 0 <= jumping.optimization_usage.seconds < 3600

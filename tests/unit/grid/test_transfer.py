"""Phase two: what was found is measured on models of other families, beside what it started from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from greater_ray.errors import ConfigError, StoreError
from greater_ray.grid.config import TransferConfig, load_grid
from greater_ray.grid.run import GridResult, LocalBackend, run_grid, run_transfer
from greater_ray.grid.store import GridStore
from greater_ray.records import TrialRecord
from tests.families import tiny_model
from tests.grids import Told, loaded


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return folders of models with other tokenizers and chat templates than the source's."""
    folders = []
    for family in ("qwen2", "gemma2"):
        model, tokenizer = tiny_model(family)
        folders.append(tmp_path_factory.mktemp("targets") / family)
        model.save_pretrained(folders[-1])
        tokenizer.save_pretrained(folders[-1])
    return [str(folder) for folder in folders]


@pytest.fixture(scope="module")
def measured(tiny_folder: Path, targets: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a grid with both phases; the source's own model is among the targets."""
    out = tmp_path_factory.mktemp("transfer") / "out"
    grid = loaded(tiny_folder, transfer={"models": [str(tiny_folder), *targets]})
    return out, run_grid(grid, out, LocalBackend())


def records(out: Path, pairs: list) -> list[TrialRecord]:
    return [GridStore(out).record(state.folder) for _, state in pairs]


def found(result: GridResult) -> set[tuple[str, str]]:
    return {(cell.trial_id, str(cell.source)) for cell, _ in result.transfers}


def test_every_prompt_is_measured_on_every_other_model(measured: tuple[Path, GridResult], targets: list[str]):
    out, result = measured
    assert result.complete
    sources = dict(zip([cell.trial_id for cell, _ in result.cells], records(out, result.cells), strict=True))
    assert [(c.source, c.model) for c, _ in result.transfers] == [(s, t) for s in sources for t in targets]
    for (cell, _), record in zip(result.transfers, records(out, result.transfers), strict=True):
        source = sources[str(cell.source)]
        assert record.config.model.name == cell.model
        assert record.config.model.threads == 1
        assert record.best.full_text == source.best.full_text, "the text travels"
        assert record.initial.full_text == source.initial.full_text
        assert record.config.task == source.config.task
        assert record.task["rows_sha256"] == source.task["rows_sha256"]
        assert record.config.decoding == source.config.decoding
        assert record.steps == 0
        assert record.model["weights"] != source.model["weights"]
        assert cell.labels == next(c.labels for c, _ in result.cells if c.trial_id == cell.source) | {
            "model": cell.model
        }


def test_a_changed_prompt_comes_with_a_paired_comparison(measured: tuple[Path, GridResult]):
    out, result = measured
    changed = 0
    for record in records(out, result.transfers):
        if record.best.ids == record.initial.ids:
            assert record.comparisons == ()
            continue
        changed += 1
        (comparison,) = record.comparisons
        before, after = (record.evaluation("test", prompt) for prompt in (record.initial, record.best))
        assert [row.id for row in before.examples] == [row.id for row in after.examples]
        assert comparison.difference == pytest.approx(after.accuracy - before.accuracy)
    assert changed, "the case needs a prompt that changed"


def test_transfer_of_an_existing_folder_is_the_grids_own_phase_two(
    measured: tuple[Path, GridResult], tiny_folder: Path, targets: list[str], tmp_path: Path
):
    out, result = measured
    transfer = TransferConfig(models=[str(tiny_folder), *targets])
    told = Told()
    again = run_transfer(out, transfer, LocalBackend(), retry_failed=False, observer=told)
    assert told.begun == []
    assert found(again) == found(result)
    copy = shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("fixed--*", ".lock"))
    for folder in (copy / "cells").iterdir():
        if json.loads((folder / "config.json").read_text())["config"]["method"] == "fixed":
            shutil.rmtree(folder)
    later = run_transfer(copy, transfer, LocalBackend(), retry_failed=False)
    assert found(later) == found(result)
    assert later.cells == []
    expected = [record.without_times() for record in records(out, result.transfers)]
    assert [record.without_times() for record in records(copy, later.transfers)] == expected
    split = TransferConfig(models=targets[:1], splits=("train",))
    wider = run_transfer(copy, split, LocalBackend(), retry_failed=False)
    assert wider.complete
    assert not found(wider) & found(result)
    assert {e.split for record in records(copy, wider.transfers) for e in record.evaluations} == {"train"}


def test_two_sources_with_one_prompt_share_one_trial(tiny_folder: Path, targets: list[str], tmp_path: Path):
    methods = [{"name": "fixed", "label": label, "method_config": {"prompt": "Think."}} for label in ("a", "b")]
    # Another trial with the same result.
    methods[1]["budget"] = {"steps": 0, "patience": 9}
    told = Told()
    result = run_grid(
        loaded(tiny_folder, methods=methods, transfer={"models": targets[:1]}), tmp_path, LocalBackend(), observer=told
    )
    assert result.complete
    assert len({cell.source for cell, _ in result.transfers}) == len(result.transfers) == 2
    assert len({cell.trial_id for cell, _ in result.transfers}) == 1
    assert told.phases[1] == ("transfer", 2, 1)
    entries = [e for e in GridStore(tmp_path).read_grid()["cells"] if e["source"]]
    assert [entry["method"] for entry in entries] == ["a", "b"], "both are listed"


def test_a_failed_source_is_listed_as_missing_and_the_others_go_on(
    tiny_folder: Path, targets: list[str], tmp_path: Path
):
    methods = ["zero-shot-cot", {"name": "fixed", "label": "empty", "method_config": {"prompt": ""}}]
    grid = loaded(tiny_folder, methods=methods, transfer={"models": targets[:1]})
    result = run_grid(grid, tmp_path, LocalBackend())
    assert not result.complete
    assert [state.state for _, state in result.transfers] == ["done"]
    (missing,) = result.missing
    assert missing.source == f"empty on bbh/boolean_expressions with {tiny_folder}"
    assert "has no tokens" in missing.reason
    later = run_transfer(tmp_path, grid.transfer, LocalBackend(), retry_failed=False)
    assert [m.reason for m in later.missing] == [missing.reason]
    assert not later.complete


def test_without_targets_nothing_is_missing(tiny_folder: Path, tmp_path: Path):
    result = run_grid(loaded(tiny_folder, methods=["zero-shot-cot"]), tmp_path, LocalBackend())
    assert (result.transfers, result.missing, result.complete) == ([], [], True)


def test_a_failed_transfer_is_recorded_like_any_cell(tiny_folder: Path, tmp_path: Path):
    target = tmp_path / "short"
    shutil.copytree(tiny_folder, target)
    settings = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 8}))
    grid = loaded(tiny_folder, methods=["zero-shot-cot"], transfer={"models": [str(target)]})
    result = run_grid(grid, tmp_path / "out", LocalBackend())
    assert [state.state for _, state in result.cells] == ["done"]
    ((cell, state),) = result.transfers
    assert (state.state, result.complete) == ("failed", False)
    failure = json.loads((tmp_path / "out" / "failures" / f"{cell.trial_id}.json").read_text())
    assert failure["source"] == cell.source
    assert "context window" in failure["reason"]


def test_prompts_come_from_the_rows_of_now(tiny_folder: Path, targets: list[str], tmp_path: Path):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    task = {"name": "rows", "data": "hub", "rows": str(rows)}
    grid = loaded(tiny_folder, tasks=[task], methods=["zero-shot-cot"], transfer={"models": targets[:1]})

    def write(first: str, second: str) -> None:
        pairs = enumerate([first, second] * 4)
        rows.write_text("".join(json.dumps({"question": f"Is {k} even?", "answer": a}) + "\n" for k, a in pairs))

    results, hashes = [], []
    for answers in (("yes", "no"), ("no", "yes")):
        write(*answers)
        results.append(run_grid(grid, out, LocalBackend()))
        assert results[-1].complete
        (record,) = records(out, results[-1].transfers)
        (source,) = records(out, results[-1].cells)
        assert record.task["rows_sha256"] == source.task["rows_sha256"]
        hashes.append(record.task["rows_sha256"])
    assert len(set(hashes)) == 2
    write("yes", "yes")
    late = run_transfer(out, grid.transfer, LocalBackend(), retry_failed=False)
    assert (late.transfers, [m.reason for m in late.missing]) == ([], ["not finished"])


def test_a_target_that_reads_answers_its_own_way_looks_at_its_rows_too(tiny_folder: Path, targets, tmp_path: Path):
    # The source's extractor is its own; the target's comes from its profile, so their task settings differ.
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    task = {"name": "rows", "data": "hub", "rows": str(rows), "extractor": "dollar"}
    grid = loaded(tiny_folder, tasks=[task], methods=["zero-shot-cot"], transfer={"models": targets[:1]})
    for answers in (["yes", "no"] * 4, ["no", "yes"] * 4):
        lines = [{"question": f"Is {k} even?", "answer": a} for k, a in enumerate(answers)]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        told = Told()
        result = run_grid(grid, out, LocalBackend(), observer=told)
        assert result.complete
        assert [phase[2] for phase in told.phases] == [1, 1]
        (record,) = records(out, result.transfers)
        assert record.config.task.extractor == "plain"


def test_a_folder_without_a_grid_is_refused(tmp_path: Path, targets: list[str]):
    with pytest.raises(StoreError, match="holds no grid"):
        run_transfer(tmp_path / "no", TransferConfig(models=targets), LocalBackend(), retry_failed=False)
    assert not (tmp_path / "no").exists()


def test_targets_may_be_mappings_with_a_label(tiny_folder: Path, targets: list[str], tmp_path: Path):
    target = {"name": targets[0], "label": "small", "dtype": "float64", "threads": 2}
    grid = load_grid(loaded(tiny_folder, methods=["zero-shot-cot"], transfer={"models": [target]}).model_dump())
    result = run_grid(grid, tmp_path, LocalBackend())
    ((cell, _),) = result.transfers
    assert (cell.model, cell.config.model.dtype, cell.config.model.threads) == ("small", "float64", 2)


def test_a_target_that_differs_from_the_source_in_a_setting_is_another_model(tiny_folder: Path, tmp_path: Path):
    targets = [str(tiny_folder), {"name": str(tiny_folder), "label": "twice", "dtype": "float64"}]
    result = run_grid(
        loaded(tiny_folder, methods=["zero-shot-cot"], transfer={"models": targets}), tmp_path, LocalBackend()
    )
    assert result.complete
    assert [(cell.model, cell.config.model.dtype) for cell, _ in result.transfers] == [("twice", "float64")]


def test_settings_of_the_grid_hold_for_targets_below_their_own(tiny_folder: Path, targets: list[str], tmp_path: Path):
    settings = {"model": {"device": "cpu", "threads": 2}}
    models = [targets[0], {"name": targets[1], "threads": 1}]
    grid = loaded(tiny_folder, methods=["zero-shot-cot"], settings=settings, transfer={"models": models})
    result = run_grid(grid, tmp_path, LocalBackend())
    assert [(m.device, m.threads) for m in (cell.config.model for cell, _ in result.transfers)] == [
        ("cpu", 2),
        ("cpu", 1),
    ]


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ({"name": "m", "dtype": "bf16"}, ("transfer.models: m: model.dtype", "not 'bf16'")),
        (
            {"name": "openai/x", "dtype": "float32"},
            ("transfer.models: openai/x: model.dtype", "does not apply to the endpoint"),
        ),
    ],
)
def test_a_wrong_target_is_told_before_phase_one(target: Any, parts: tuple[str, ...], tiny_folder, tmp_path: Path):
    with pytest.raises(ConfigError) as raised:
        run_grid(loaded(tiny_folder, transfer={"models": [target]}), tmp_path / "out", LocalBackend())
    assert all(part in str(raised.value) for part in parts), raised.value
    assert list(tmp_path.iterdir()) == []

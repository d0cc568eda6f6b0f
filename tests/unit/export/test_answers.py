"""Formats that hold answers: Inspect's log and a data set; and what every format has in common."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset

from greater_ray.cli.app import run
from greater_ray.errors import ConfigError, DataError
from greater_ray.evaluation import summarize
from greater_ray.export import Files, as_text, export, export_results, form_of, formats, save
from greater_ray.records import ExampleRecord, TrialRecord
from greater_ray.results import load
from greater_ray.tasks import load_task
from tests.unit.export.records import PLACED, SHOWN, record, turns_of

RUN = Path(__file__).parents[2] / "recorded" / "0.1.0" / "opro-finished"
GRID = RUN.parent / "grid-finished"


def measured(trial: TrialRecord) -> TrialRecord:
    """Return the record with answers of its best prompt to the test rows: the first right, the others wrong."""
    found = [
        ExampleRecord(
            id=row.id, target=row.target, prediction=row.label if k == 0 else None, score=float(k == 0),
            strict_prediction=None, strict_score=0.0, truncated=k > 0, reasoning_tokens=3, label_ce=0.5,
            prompt_nll=None, answer_text=f" {row.label}", reasoning_text=f"I see <b>{k}</b>.",
        )
        for k, row in enumerate(load_task(trial.config.task).test())
    ]  # fmt: skip
    evaluation = summarize("test", trial.best.ids, found)
    shown = {"demonstrations": tuple(d.id for d in trial.best.demonstrations), "nearest": trial.best.nearest}
    return trial.model_copy(update={"evaluations": (evaluation.model_copy(update=shown),)})


# -- Inspect -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [(), SHOWN], ids=["alone", "demonstrations"])
@pytest.mark.parametrize("layout", PLACED.values(), ids=PLACED)
def test_a_log_of_inspect_has_every_conversation_and_score(layout: dict[str, Any], shown: Any) -> None:
    trial = measured(record(layout, shown))
    log = json.loads(as_text(export(trial, "inspect")) or "")
    assert list(log) == ["version", "status", "eval", "plan", "results", "stats", "samples"], "read as a stream"
    rows = load_task(trial.config.task).test()
    assert [sample["id"] for sample in log["samples"]] == [row.id for row in rows]
    for k, (sample, row) in enumerate(zip(log["samples"], rows, strict=True)):
        asked = turns_of(trial, row.question)
        assert sample["input"] == asked
        (said,) = sample["messages"][len(asked) :]
        assert said["content"] == f"I see <b>{k}</b>. Therefore, the final answer is {row.label}"
        assert sample["scores"]["answer"]["value"] == ("C" if k == 0 else "I")
    assert [score["metrics"]["accuracy"]["value"] for score in log["results"]["scores"]] == [0.5, 0.0]


def test_an_answer_in_a_turn_of_its_own_is_shown_as_one() -> None:
    way = {"answers": "asked for in a turn of their own"}
    for trial in (record({"extractor_turn": True}), record(model=way)):
        sample = export(measured(trial), "inspect")["samples"][0]
        assert [m["role"] for m in sample["messages"]] == ["user", "assistant", "user", "assistant"]
        assert "the final answer is" in sample["messages"][2]["content"]


def test_every_question_of_a_log_has_the_demonstrations_nearest_to_it() -> None:
    trial = measured(record(shown=SHOWN, nearest=1))
    for sample in export(trial, "inspect")["samples"]:
        assert [m["role"] for m in sample["input"]] == ["user", "assistant", "user"]


def test_a_log_needs_answers_and_the_rows_that_were_measured() -> None:
    with pytest.raises(ConfigError, match=r"^format: the prompt was measured on no rows\.$"):
        export(record(), "inspect")
    trial = measured(record())
    other = trial.evaluations[0].model_copy(
        update={"examples": tuple(e.model_copy(update={"target": "Maybe"}) for e in trial.evaluations[0].examples)}
    )
    with pytest.raises(DataError, match="are others than those that were measured"):
        export(trial.model_copy(update={"evaluations": (other,)}), "inspect")


# -- lm-eval's results -------------------------------------------------------------------------------------------------


def test_results_of_lm_eval_have_every_answer() -> None:
    trial = measured(record({"placement": "system"}, SHOWN))
    results, samples = export(trial, "lm-eval-results").items()
    name = "greater_ray_bbh_boolean_expressions"
    assert results[0].startswith("results_")
    assert samples[0].startswith(f"samples_{name}_")
    value = json.loads(results[1])
    assert value["results"][name]["exact_match,greater-ray"] == 0.5
    assert value["results"][name]["exact_match_stderr,greater-ray"] == pytest.approx(0.5)
    assert value["n-shot"][name] == 2
    rows = load_task(trial.config.task).test()
    for sample, row in zip(map(json.loads, samples[1].splitlines()), rows, strict=True):
        assert json.loads(sample["arguments"]["gen_args_0"]["arg_0"]) == turns_of(trial, row.question)
        assert (sample["doc"]["id"], sample["target"]) == (row.id, row.label)
        assert sample["resps"][0][0].endswith(f"the final answer is {row.label}")
    assert [json.loads(line)["exact_match"] for line in samples[1].splitlines()] == [1.0, 0.0]


# -- a data set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [RUN, GRID], ids=["run", "grid"])
def test_a_data_set_is_the_frame_of_answers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "answers.parquet"
    assert run(["export", str(folder), "--format", "dataset", "--to", str(target)]) == 0
    assert capsys.readouterr().err == f"wrote {target}\n"
    frame = load(folder).answer_frame()
    pd.testing.assert_frame_equal(pd.read_parquet(target), frame, check_dtype=False)
    rows = Dataset.from_parquet(str(target), cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == list(frame.columns)
    assert rows["row"][:] == frame["row"].tolist()


def test_a_data_set_of_some_cells(tmp_path: Path) -> None:
    target, cell = tmp_path / "answers.parquet", load(GRID).finished[0]
    chosen = ",".join(f"{axis}={cell.labels[axis]}" for axis in ("method", "task", "seed"))
    assert run(["export", str(GRID), "--format", "dataset", "--cell", chosen, "--to", str(target)]) == 0
    assert set(pd.read_parquet(target)["method"]) == {cell.labels["method"]}


# -- all ---------------------------------------------------------------------------------------------------------------


def test_every_format_has_a_name_and_one_sentence() -> None:
    found = formats()
    assert list(found) == ["dataset", "dspy", "inspect", "json", "lm-eval", "lm-eval-results", "messages", "openai",
                           "promptfoo", "text"]  # fmt: skip
    assert all(form.description for form in found.values())
    assert form_of("greater_ray.export.text:PLUGIN") is found["text"]
    with pytest.raises(ConfigError, match=r"^format: 'pathlib:Path' is no greater_ray\.export\.Format\.$"):
        form_of("pathlib:Path")
    with pytest.raises(ConfigError, match="about the results of a folder"):
        export(record(), "dataset")
    with pytest.raises(ConfigError, match="about one record"):
        export_results(load(RUN), "text")


@pytest.mark.parametrize("form", ["messages", "openai", "promptfoo", "lm-eval", "dspy"])
def test_demonstrations_of_every_questions_own_are_refused(form: str) -> None:
    with pytest.raises(ConfigError, match=r"^format: every question has 1 demonstrations of its own; json gives"):
        export(record(shown=SHOWN, nearest=1), form)


def test_files_are_written_where_none_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "task"
    assert run(["export", str(RUN), "--format", "lm-eval"]) == 2
    assert capsys.readouterr().err == "error: --format: 'lm-eval' is no text to print; name a file or folder by --to.\n"
    assert run(["export", str(RUN), "--format", "lm-eval", "--to", str(folder)]) == 0
    assert {path.suffix for path in folder.iterdir()} == {".yaml", ".jsonl"}
    assert run(["export", str(RUN), "--format", "lm-eval", "--to", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["export", str(RUN), "--to", str(tmp_path)]) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^to: '.*' cannot be written"):
        save(Files(a="text"), tmp_path / "file")
    assert run(["export", str(RUN), "--to", str(tmp_path / "prompt.txt")]) == 0
    assert (tmp_path / "prompt.txt").read_text() == export(load(RUN).cells[0].record, "text") + "\n"

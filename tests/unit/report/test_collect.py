"""What a report shows is what the records hold; what is broken costs its own cell only."""

import base64
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.errors import ConfigError, StoreError
from greater_ray.files import Lines
from greater_ray.records import StepRecord
from greater_ray.report import Report, collect, write_report
from greater_ray.report.life import MOST_CANDIDATES, rows_won_and_lost, timeline
from greater_ray.report.write import _SCRIPTS, page_of
from greater_ray.results.remembered import on_training_rows
from tests.made_reports import HOSTILE, RECORDED, altered, hostile_run

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "greater_ray" / "report" / "page"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    return shutil.copytree(RECORDED / "grid-finished", tmp_path / "grid")


def block(text: str, name: str) -> Any:
    """Open a block of a report as a browser does."""
    found = re.search(rf'<script type="application/octet-stream" id="{name}">([^<]*)</script>', text)
    assert found is not None, name
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def test_every_cell_is_there_with_its_scores_costs_and_source(grid: Path):
    results = load(grid)
    overview = collect(results).overview
    assert overview["states"] == {"done": 6, "failed": 1}
    for cell, shown in zip(results.cells, overview["cells"], strict=True):
        assert shown["title"] == cell.title
        assert shown["transfer"] == (cell.source is not None)
        if not cell.done:
            assert shown["reason"] == cell.reason
            continue
        assert shown["prompt"] == cell.outcome.prompt
        assert shown["tokens"] == [usage.tokens for usage in cell.costs.values()]
        assert [s["after"] for s in shown["splits"]] == [s.after for s in cell.scores]
        assert [s["selection"] for s in shown["splits"]] == [s.selection for s in cell.scores]
        if cell.source is not None:
            assert results.cells[shown["source"]].trial_id == cell.source
        assert (grid / shown["path"] / "record.json").exists()


def test_the_best_of_a_task_and_model_are_marked_and_p_values_adjusted_together(grid: Path):
    cells = [c for c in collect(load(grid)).overview["cells"] if c.get("splits") and not c["transfer"]]
    for cell in cells:
        rivals = [c["splits"][0]["after"] for c in cells if c["model"] == cell["model"]]
        assert cell["splits"][0]["best"] == (len(rivals) > 1 and cell["splits"][0]["after"] == max(rivals))
    tested = [c["splits"][0] for c in cells if c["splits"][0]["p_value"] is not None]
    least = min(tested, key=lambda s: s["p_value"])
    assert least["holm"] == min(1.0, len(tested) * least["p_value"])


def test_broken_records_and_steps_cost_their_own_cell_only(grid: Path):
    first, second = (cell.folder for cell in load(grid).cells[:2])
    assert first is not None
    assert second is not None
    (first / "record.json").write_text("{")
    (second / "steps.jsonl").write_text("{}\n")
    report = collect(load(grid))
    cells = report.overview["cells"]
    assert cells[0]["state"] == "failed"
    assert "record.json" in cells[0]["reason"]
    assert [c["state"] for c in cells[1:]] == ["done", "done", "failed", "done", "done", "done"]
    life = json.loads(zlib.decompress(report.details[1].life))  # type: ignore[union-attr]
    assert life["steps"] == []
    assert "steps.jsonl', line 1" in life["notes"][0]


def test_what_has_begun_is_shown_as_far_as_it_is():
    report = collect(load(RECORDED / "grid-interrupted"))
    assert [c["state"] for c in report.overview["cells"]] == ["done", "begun", "open", "open"]
    life = json.loads(zlib.decompress(report.details[1].life))  # type: ignore[union-attr]
    assert len(life["steps"]) > 0
    assert report.details[2] is None


def test_losses_of_training_rows_are_those_of_the_remembered_rollouts():
    folder = RECORDED / "greater-finished"
    steps = Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate)
    record = load(folder).cells[0].record
    measured = on_training_rows(folder, [s.prompt_ids for s in steps])
    lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    for step in steps:
        rollouts = [r for line in lines if tuple(line["key"][0]) == step.prompt_ids for r in line["rollouts"]]
        found = measured[step.prompt_ids]
        assert found.rows == len(rollouts) == record.config.task.train_size
        assert found.loss == pytest.approx(sum(r["label_ce"] for r in rollouts) / len(rollouts))
        assert found.hits == sum(r["label_hit"] for r in rollouts) / len(rollouts)
    assert on_training_rows(RECORDED / "opro-finished", []) == {}


def test_lines_of_other_prompts_are_passed_over_unread(tmp_path: Path):
    folder = shutil.copytree(RECORDED / "greater-finished", tmp_path / "run")
    prompts = [s.prompt_ids for s in Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate)]
    before = on_training_rows(folder, prompts)
    with (folder / "rollouts.jsonl").open("a") as file:
        file.write('{"key": [[1, 2, 3], "another", 1.0, null], "rollouts": "no list"}\n')
    assert on_training_rows(folder, prompts) == before
    with pytest.raises(StoreError, match=r"rollouts\.jsonl', line \d+"):
        on_training_rows(folder, [*prompts, (1, 2, 3)])


def test_a_prompt_on_fewer_rows_than_others_is_no_point_of_the_curve(tmp_path: Path):
    folder = shutil.copytree(RECORDED / "greater-finished", tmp_path / "run")
    prompts = {s.prompt_ids for s in Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate)}
    lines = (folder / "rollouts.jsonl").read_text().splitlines()
    gone = next(tuple(json.loads(line)["key"][0]) for line in lines if tuple(json.loads(line)["key"][0]) in prompts)
    at = next(k for k, line in enumerate(lines) if tuple(json.loads(line)["key"][0]) == gone)
    (folder / "rollouts.jsonl").write_text("\n".join(lines[:at] + lines[at + 1 :]) + "\n")
    assert gone not in on_training_rows(folder, prompts)


def test_the_timeline_has_every_step_with_its_candidates_and_marks():
    folder = RECORDED / "greater-finished"
    steps = Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate)
    record = load(folder).cells[0].record
    shown = timeline(steps, record, {})
    before = record.initial.full_text
    for step, item in zip(steps, shown, strict=True):
        assert "".join(t for kind, t in item["text"] if kind != "-") == step.prompt_text.strip()
        assert "".join(t for kind, t in item["text"] if kind != "+") == before
        assert [c[3] for c in item["candidates"]] == [c["loss"] for c in step.candidates]
        assert item["accepted"] == step.accepted
        before = step.prompt_text.strip()
    reached = [step.prompt_ids for step in steps].index(record.best.ids)
    assert [item["kept"] for item in shown] == [k == reached for k in range(len(shown))]
    assert all(item["found"] is None for item in shown)
    many = steps[0].model_copy(update={"candidates": steps[0].candidates * 100})
    (item,) = timeline([many], record, {})
    assert len(item["candidates"]) + item["more"] == 100 * len(steps[0].candidates)
    assert len(item["candidates"]) == MOST_CANDIDATES


def test_a_found_prompt_that_no_step_took_is_marked_among_the_candidates():
    folder = RECORDED / "greater-finished"
    steps = Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate)
    record = load(folder).cells[0].record
    second = steps[1]
    (other,) = (k for k in range(len(second.candidates)) if k != second.accepted)
    assert second.position is not None
    ids = list(second.prompt_ids)
    ids[second.position] = second.candidates[other]["token"]
    best = record.best.model_copy(update={"ids": tuple(ids)})
    shown = timeline(steps, record.model_copy(update={"best": best}), {})
    assert [item["found"] for item in shown] == [None, other, *[None] * (len(steps) - 2)]
    assert not any(item["kept"] for item in shown)


@pytest.mark.parametrize("name", ["greater-finished", "opro-finished"])
def test_rows_won_and_lost_are_those_that_the_comparison_counted(name: str):
    record = load(RECORDED / name).cells[0].record
    found = rows_won_and_lost(record)
    assert set(found) == {c.split for c in record.comparisons}
    for comparison in record.comparisons:
        rows = found[comparison.split]
        assert (len(rows["wins"]), len(rows["losses"])) == (comparison.wins, comparison.losses)
        for row in rows["wins"]:
            assert row["after"]["score"] > row["before"]["score"]
            after = record.evaluation(comparison.split, record.best)
            assert after is not None
            assert row["after"]["answer"] == next(e for e in after.examples if e.id == row["id"]).answer_text


def test_losses_that_a_model_does_not_tell_are_missing(tmp_path: Path):
    def unknown(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        record["initial"]["loss"] = None
        for evaluation in record["evaluations"]:
            evaluation |= {"label_ce": None, "label_ce_interval": None}
            for example in evaluation["examples"]:
                example |= {"label_ce": None, "prompt_nll": None}
        for comparison in record["comparisons"]:
            comparison |= {"label_ce_difference": None, "label_ce_interval": None}
        for step in steps:
            step |= {"loss": None, "best_loss": None}
        steps[0]["candidates"][0]["loss"] = float("inf")

    text = page_of(collect(load(altered(tmp_path / "run", unknown))))
    overview, life = block(text, "overview"), block(text, "life-0")
    assert overview["cells"][0]["splits"][0]["loss_after"] is None
    assert overview["method"][0]["fluency"] is None
    assert life["steps"][0]["loss"] is None
    assert life["steps"][0]["candidates"][0][3] is None, "JSON knows no infinity"


def test_beyond_the_limit_rows_go_first_and_the_page_knows(grid: Path):
    report = collect(load(grid))
    whole = page_of(report)
    assert block(whole, "overview")["kept"] == [3, 3, 3, 0, 3, 3, 3]
    lives = len(re.findall(r'id="life-\d+"', whole))
    sizes = [len(m) for m in re.findall(r'<script type="application/octet-stream" id="life-\d+">[^<]*</script>', whole)]
    only_lives = page_of(report, limit=sum(sizes))
    assert block(only_lives, "overview")["kept"] == [1, 1, 1, 0, 1, 1, 1]
    assert len(re.findall(r'id="life-\d+"', only_lives)) == lives
    assert 'id="rows-' not in only_lives
    assert block(page_of(report, limit=sizes[0]), "overview")["kept"][:3] == [1, 0, 0]
    assert block(page_of(report, limit=0), "overview")["kept"] == [0] * 7


def test_a_pool_of_demonstrations_tells_how_many_a_question_is_shown(tmp_path: Path):
    def pool(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        rows = [{"id": str(k), "question": f"{k} + 1?", "label": str(k + 1)} for k in range(70)]
        record["best"] |= {"demonstrations": rows, "nearest": 5}
        for evaluation in record["evaluations"]:
            if evaluation["prompt_ids"] == record["best"]["ids"]:
                evaluation |= {"demonstrations": [row["id"] for row in rows], "nearest": 5}

    text = page_of(collect(load(altered(tmp_path / "run", pool))))
    found = block(text, "life-0")["demonstrations"]
    assert (found["count"], found["nearest"], len(found["shown"])) == (70, 5, 50)
    assert found["shown"][1] == ["1 + 1?", None, "2"]
    assert block(text, "rows-0")["test"]["counts"][2] > 0, "what was measured with them is found"


def test_every_cell_has_a_few_rows_before_one_has_all(tmp_path: Path):
    def many_rows(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        best = record["best"]["ids"]
        for evaluation in record["evaluations"]:
            (pattern, *_) = evaluation["examples"]
            right = float(evaluation["prompt_ids"] == best)
            evaluation["examples"] = [pattern | {"id": f"row {k}", "score": right} for k in range(100)]

    (detail,) = collect(load(altered(tmp_path / "run", many_rows))).details
    report = Report({"name": "two"}, [detail, detail])
    whole = page_of(report)
    size = {name: whole.index("</script>", whole.index(f'id="{name}"')) - whole.index(f'id="{name}"') for name in
            ("life-0", "rows-0")}  # fmt: skip
    shown = block(whole, "rows-1")["test"]
    assert (len(shown["wins"]), shown["counts"], shown["left"]) == (60, [100, 0, 100], 40)
    less = page_of(report, limit=2 * size["life-0"] + 2 * size["rows-0"] - 100)
    assert [len(block(less, f"rows-{k}")["test"]["wins"]) for k in (0, 1)] == [60, 3]
    assert block(less, "rows-1")["test"]["left"] == 97


def test_no_text_of_a_record_stands_bare_in_the_file(tmp_path: Path):
    folder = hostile_run(tmp_path / "a <b> & 'c'")
    text = page_of(collect(load(folder)))
    assert "a &lt;b&gt; &amp; &#x27;c&#x27;" in text
    for hostile in HOSTILE:
        assert hostile not in text
    life = block(text, "life-0")
    assert life["steps"][0]["candidates"][0][1] == " ".join(HOSTILE), "shown in full"


def test_every_script_of_the_page_is_taken_into_it_and_small():
    files = sorted(path.name for path in PAGE.iterdir())
    assert files == sorted([*_SCRIPTS, "page.css", "page.html"])
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 400
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http:", "fetch("):
            assert word not in text.replace('"http://www.w3.org/2000/svg"', ""), f"{word} in {path.name}"


def test_a_report_is_written_anew_but_nothing_else_is_overwritten(grid: Path, tmp_path: Path):
    target = tmp_path / "new" / "page.html"
    write_report(load(grid), target)
    write_report(load(grid), target)
    assert block(target.read_text(encoding="utf-8"), "overview")["name"] == "recorded"
    (tmp_path / "mine.html").write_text("mine")
    for path in (tmp_path / "mine.html", tmp_path, tmp_path / "mine.html" / "below"):
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            write_report(load(grid), path)
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_the_command_names_the_file_and_a_wrong_target_is_a_wrong_option(grid: Path, capsys: pytest.CaptureFixture):
    assert run(["report", str(grid)]) == 0
    assert capsys.readouterr().out.startswith(f"report: {grid / 'report.html'} (")
    assert run(["report", str(grid), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == {"done": 6, "failed": 1}
    assert run(["report", str(grid), "--to", str(grid)]) == 2
    assert capsys.readouterr().err == f"error: --to: '{grid}' is a folder; give the name of a file.\n"
    assert run(["report", str(grid / "nothing")]) == 1
    assert load(grid).name == "recorded", "the folder still is a grid"

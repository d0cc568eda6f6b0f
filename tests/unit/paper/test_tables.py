"""Records become tables: every figure is that of the records, every gap says why, and nothing is mixed in silence."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greater_ray.drawing import has_matplotlib
from greater_ray.errors import ConfigError, DataError
from greater_ray.paper.figures import FORMS, draw
from greater_ray.paper.latex import END, PREAMBLE, escaped
from greater_ray.paper.layout import FORMATS, document, records, shown
from greater_ray.paper.measure import Filled, fill, outcomes
from greater_ray.paper.plan import TablePlan, View, plan_table
from greater_ray.paper.power import resolutions
from greater_ray.paper.run import write_files
from greater_ray.paper.store import PAPER_FILE, Fingerprint, PaperStore
from greater_ray.statistics.comparison import compare_over_tasks
from greater_ray.statistics.tables import holm
from tests.made_tables import made_tables, write_cell

VIEW = View(models=("my-model",), seeds=(0, 1, 2), settings={"decoding": {"max_answer_tokens": 9}})


def plan(name: str, view: View = VIEW) -> TablePlan:
    return plan_table(name, view)


def rate(cell) -> float:
    return 0.8 if cell.method == "greater" else 0.4


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> tuple[Filled, PaperStore]:
    store = made_tables(tmp_path_factory.mktemp("six") / "out", [plan("table6")], rate)
    return fill(plan("table6"), store), store


# -- numbers -----------------------------------------------------------------------------------------------------------


def scores_of(store: PaperStore, value) -> list[list[float]]:
    found = []
    for cell in value.number.all_cells:
        (folder,) = store.grid.cells.glob(f"*-{cell.trial_id}-*")
        record = json.loads((folder / "record.json").read_text())
        (evaluation,) = [e for e in record["evaluations"] if e["prompt_ids"] == record["best"]["ids"]]
        found.append([example["score"] for example in evaluation["examples"]])
    return found


def test_numbers_are_those_of_the_records(six: tuple[Filled, PaperStore]):
    filled, store = six
    assert filled.complete
    assert len(filled.values) == 6
    for value in filled.values:
        scores = scores_of(store, value)
        assert value.score is not None
        assert value.score.estimate == pytest.approx(np.mean(scores))
        assert value.score.low < value.score.estimate < value.score.high
        assert (value.rows, value.seeds) == (20, 3)
        assert len(value.folders) == 3


def test_differences_are_paired_and_adjusted_within_the_table(six: tuple[Filled, PaperStore]):
    filled, store = six
    others = [v for v in filled.values if v.number.row.label != "GReaTer"]
    found = []
    for value in others:
        (reference,) = [
            v for v in filled.values if v.number.row.label == "GReaTer" and v.number.column is value.number.column
        ]
        found.append(compare_over_tasks([scores_of(store, reference)], [scores_of(store, value)]))
    for value, twin, p_value in zip(others, found, holm([c.p_value for c in found]), strict=True):
        assert value.compared is not None
        assert value.compared.difference == twin.difference
        assert value.compared.p_value == p_value
        assert value.compared.reference == "GReaTer"
        assert value.compared.difference.estimate < 0
    assert all(v.compared is None for v in filled.values if v.number.row.label == "GReaTer")


def test_the_same_prompts_are_compared_once(tmp_path: Path):
    twelve = plan("table12", View(models=("m",)))
    values = fill(twelve, made_tables(tmp_path / "out", [twelve])).values
    compared = [v.compared for v in values if v.compared is not None]
    same = {v.folders for v in values if v.number.row.label in ("APE", "APO", "PE2")}
    assert len(compared) == 4
    assert len(same) == 1
    plain = [compare_over_tasks(values[-1].scores, values[k].scores).p_value for k in (0, 1)]
    assert [c.p_value for c in compared] == [holm(plain)[k] for k in (0, 1, 1, 1)]


def test_a_mean_over_tasks_weighs_every_task_the_same(tmp_path: Path):
    view = View(models=("m",), only={"task": ["bbh/navigate", "bbh/snarks"]}, settings=VIEW.settings)
    one = plan("table1", view)
    store = made_tables(tmp_path / "out", [one])
    value = next(
        v for v in fill(one, store).values if v.number.row.label == "GReaTer" and "BBH" in v.number.column.label
    )
    assert value.score is not None
    assert value.score.estimate == pytest.approx(np.mean([np.mean(s) for s in scores_of(store, value)]))
    assert value.rows == 40
    # Two of 21 tasks are no mean that was published.
    assert value.number.published[0].value == 76.6
    assert not value.comparable


def test_a_transfer_shows_the_prompt_on_the_other_model_and_both_records(tmp_path: Path):
    three = plan("table3", View(scale="smoke"))
    store = made_tables(tmp_path / "out", [three], lambda cell: 0.9 if cell.source else 0.1)
    values = [v for v in fill(three, store).values if v.number.transfer is not None]
    assert all(v.score is not None and v.score.estimate > 0.6 for v in values)
    assert {len(v.folders) for v in values} == {2, 10}


# -- gaps --------------------------------------------------------------------------------------------------------------


def test_a_gap_says_why(tmp_path: Path):
    six = plan("table6")
    store = made_tables(tmp_path / "out", [six], skip=("pez", "autoprompt"))
    failed = next(c for n in six.numbers if n.row.label == "PEZ" for c in n.all_cells)
    store.grid.write_failure(failed, {}, "the rope is too short")
    filled = fill(six, store)
    assert not filled.complete
    said = {v.number.row.label: v.reason for v in filled.values if v.number.column is filled.plan.columns[0]}
    assert said == {"AutoPrompt": "not run", "PEZ": "failed: the rope is too short", "GReaTer": None}
    matrix = {row[0]: row[1] for row in document(filled).matrix}
    assert matrix["AutoPrompt"] == "not run (51; 50)"
    assert matrix["PEZ"].startswith("failed: the rope is too short")
    for form in FORMATS:
        assert "the rope is too short" in shown(filled, form)


def test_a_number_of_which_seeds_are_missing_is_none_yet(tmp_path: Path):
    store = made_tables(tmp_path / "out", [plan("table7", VIEW.model_copy(update={"seeds": (0, 1)}))])
    value = fill(plan("table7"), store).values[0]
    assert (value.state, value.score, value.reason) == ("partly", None, "2 of 3 cells are done")


def test_an_empty_folder_is_a_table_of_gaps(tmp_path: Path):
    filled = fill(plan("table13"), PaperStore(tmp_path))
    assert [v.state for v in filled.values] == ["not run", "not run", "none", "not run", "not run"]
    assert "an empty prompt cannot be measured" in shown(filled, "text")


# -- what never shares a column ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "weights", "others"),
        ("task", "rows_sha256", "others"),
        ("environment", "versions", {"greater-ray": "9"}),
    ],
)
def test_a_number_of_other_weights_rows_or_version_is_marked_and_not_compared(
    tmp_path: Path, section: str, key: str, value: object
):
    seven = plan("table7", View(models=("m",), settings=VIEW.settings))
    store = made_tables(tmp_path / "out", [seven])
    (cell,) = seven.numbers[1].all_cells
    path = next(store.grid.cells.glob(f"*-{cell.trial_id}-*")) / "record.json"
    record = json.loads(path.read_text())
    record[section][key] = value
    path.write_text(json.dumps(record))
    # As if it had been run like this.
    noted = json.loads((tmp_path / "out" / PAPER_FILE).read_text())
    del noted["seals"][cell.trial_id]
    (tmp_path / "out" / PAPER_FILE).write_text(json.dumps(noted))
    first, second = fill(seven, PaperStore(tmp_path / "out")).values
    assert first.strange == ()
    assert len(second.strange) == 1
    assert second.compared is None
    found = document(fill(seven, PaperStore(tmp_path / "out")))
    assert any(line.startswith("* Misleading, m movie_rec.: ") for line in found.caption)
    assert "*" in found.matrix[1][1]


def edit_score(record: dict) -> None:
    record["evaluations"][1]["examples"][0]["score"] = 1 - record["evaluations"][1]["examples"][0]["score"]


def edit_prompt(record: dict) -> None:
    record["best"]["full_text"] = "Another one."


def edit_config(record: dict) -> None:
    record["config"]["seed"] = 99


@pytest.mark.parametrize(
    ("edit", "sealed"), [(edit_score, True), (edit_prompt, True), (edit_score, False), (edit_config, False)]
)
def test_an_edited_record_is_refused(tmp_path: Path, edit, sealed: bool):
    seven = plan("table7")
    store = made_tables(tmp_path / "out", [seven])
    path = next(store.grid.cells.iterdir()) / "record.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record, indent=1) + "\n")
    if not sealed:
        noted = json.loads((tmp_path / "out" / PAPER_FILE).read_text())
        (tmp_path / "out" / PAPER_FILE).write_text(json.dumps(noted | {"seals": {}}))
    with pytest.raises(DataError, match="is not what was written") as raised:
        fill(seven, PaperStore(tmp_path / "out"))
    assert raised.value.place is not None
    assert raised.value.place.file == str(path)


def test_a_folder_of_another_scale_or_version_is_refused(tmp_path: Path):
    folder = tmp_path / "out"
    made_tables(folder, [plan("table7", View(scale="smoke"))])
    assert PaperStore(folder).check() == "smoke"
    with pytest.raises(ConfigError, match="scale 'smoke', not 'full'"):
        PaperStore(folder).check("full")
    noted = json.loads((folder / PAPER_FILE).read_text())
    (folder / PAPER_FILE).write_text(json.dumps(noted | {"version": "0.0.9"}))
    with pytest.raises(ConfigError, match=r"holds numbers of version 0\.0\.9"):
        PaperStore(folder).check("smoke")


# -- forms -------------------------------------------------------------------------------------------------------------


def test_the_caption_says_what_is_not_as_in_the_paper(six: tuple[Filled, PaperStore]):
    found = "\n".join(document(six[0]).caption)
    for part in (
        "GReaTer (arXiv 2412.09722v2), Table 6",
        "Model: my-model.",
        "Seeds: 0, 1, 2.",
        "decoding.max_answer_tokens = 9",
    ):
        assert part in found
    smoke = "\n".join(document(fill(plan("table6", View(scale="smoke")), PaperStore(Path("nowhere")))).caption)
    assert "synthetic" in smoke
    assert "bbh/navigate for bbh/movie_recommendation" in smoke


def test_made_rows_are_never_set_against_published_numbers(tmp_path: Path):
    seven = plan("table7", View(scale="smoke"))
    filled = fill(seven, made_tables(tmp_path / "out", [seven]))
    assert [row["to_published_points"] for row in records(filled)] == [None, None]
    assert [row["published_percent"] for row in records(filled)] == [56, 55]


def test_csv_and_json_say_the_same(six: tuple[Filled, PaperStore]):
    filled, _ = six
    rows = list(csv.DictReader(io.StringIO(shown(filled, "csv"))))
    value = json.loads(shown(filled, "json"))
    assert len(rows) == len(value["numbers"]) == 12
    for row, number in zip(rows, value["numbers"], strict=True):
        assert float(row["ours_percent"]) == number["ours_percent"]
        assert row["records"].split(";") == number["records"]
        assert number["to_published_points"] == pytest.approx(number["ours_percent"] - number["published_percent"])
        assert all(Path(folder, "record.json").exists() for folder in number["records"])


@pytest.mark.parametrize("label", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_computes_nothing_that_a_label_says(label: str, tmp_path: Path):
    seven = plan("table7", View(scale="smoke"))
    filled = fill(seven, made_tables(tmp_path / "out", [seven]))
    value = filled.values[0]
    named = replace(value, number=replace(value.number, row=value.number.row.model_copy(update={"label": label})))
    rows = list(csv.DictReader(io.StringIO(shown(replace(filled, values=(named,)), "csv"))))
    assert {row["row"] for row in rows} == {f"'{label}"}
    assert all(not re.match(r"[=+@\t]|-\D", cell) for row in rows for cell in row.values())


def test_markdown_is_a_table(six: tuple[Filled, PaperStore]):
    lines = [line for line in shown(six[0], "markdown").splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:5]} == {4}
    assert {line.count("|") for line in lines[5:]} == {13}


def test_latex_is_well_formed(six: tuple[Filled, PaperStore]):
    found = shown(six[0], "latex")
    for rule in ("toprule", "midrule", "bottomrule"):
        assert found.count(f"\\{rule}") == 2
    plain = re.sub(r"\\[{}%&#_$]", "", "\n".join(line for line in found.splitlines() if not line.startswith("%")))
    assert plain.count("{") == plain.count("}")
    assert sorted(re.findall(r"\\begin\{(\w+)\}", plain)) == sorted(re.findall(r"\\end\{(\w+)\}", plain))
    for environment in re.findall(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}(.*?)\\end", plain, re.DOTALL):
        columns, body = environment
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert {line.count("&") for line in rows} == {len(columns) - 1}


def test_latex_escapes_what_it_would_read():
    assert escaped(r"50 % of a_b & {c} $d #1 ~^\ <>") == (
        r"50 \% of a\_b \& \{c\} \$d \#1 \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textgreater{}"
    )
    assert escaped("x\u4e00\n") == "x??"


@pytest.mark.skipif(not (shutil.which("pdflatex") or shutil.which("tectonic")), reason="no TeX engine is installed")
def test_latex_compiles(six: tuple[Filled, PaperStore], tmp_path: Path):
    (tmp_path / "t.tex").write_text(PREAMBLE + shown(six[0], "latex") + END, encoding="utf-8")
    command = (
        ["tectonic", "t.tex"] if not shutil.which("pdflatex") else ["pdflatex", "-interaction=nonstopmode", "t.tex"]
    )
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_wins_draws_and_losses_tell_noise_apart(tmp_path: Path):
    five = plan("figure5", View(models=("m",), only={"task": ["bbh/navigate", "bbh/snarks", "bbh/hyperbaton"]}))
    sure = {"greater": 0.95, "apo": 0.1, "textgrad": 0.9}
    store = made_tables(tmp_path / "out", [five], lambda cell: sure.get(cell.method, 0.95), rows=100)
    told = dict(outcomes(fill(five, store)))
    assert set(told) == {"APO", "TextGrad", "APE", "PE2"}
    assert all(sum(counts.values()) == 3 for counts in told.values())
    assert told["APO"]["wins"] == 3
    assert told["APE"]["wins"] == told["APE"]["losses"] == 0


def test_what_rows_can_show_is_said_before_anything_runs(tmp_path: Path):
    empty = fill(plan("table6"), PaperStore(tmp_path))
    (before,) = resolutions(empty)
    assert "differ on 25 % of the rows (supposed), 100 rows show differences from 14.4 points." in before
    assert "Of 8 published differences (5.0 to 35.0 points) 6 are smaller than that" in before
    assert "the median, 13.0 points, needs 125 rows" in before
    (main,) = resolutions(fill(plan("table1", View(models=("m",))), PaperStore(tmp_path)))
    assert all(f"{rows} rows show" in main for rows in ("203", "1,319", "2,100"))
    few = plan("table6", View(models=("m",), settings={"task": {"test_size": 4}}))
    assert "4 rows are too few to show any difference" in resolutions(fill(few, PaperStore(tmp_path)))[0]
    assert resolutions(fill(plan("table11"), PaperStore(tmp_path))) == []


def test_a_table_is_written_in_every_form(six: tuple[Filled, PaperStore], tmp_path: Path):
    written = write_files(six[0], tmp_path)
    assert sorted(path.suffix for path in written) == [".csv", ".json", ".md", ".tex", ".txt"]
    with pytest.raises(ConfigError, match="'html' is unknown"):
        shown(six[0], "html")


@pytest.mark.skipif(not has_matplotlib(), reason="matplotlib is not installed")
@pytest.mark.parametrize("name", ["figure3", "figure5"])
def test_pictures_are_made_from_records_alone(name: str, tmp_path: Path):
    figure = plan(name, View(scale="smoke"))
    store = made_tables(tmp_path / "out", [figure], rate, skip=("apo",))
    first = draw(fill(figure, store), tmp_path)
    assert [path.suffix[1:] for path in first] == list(FORMS)
    again = tmp_path / "again"
    again.mkdir()
    for path, twin in zip(first, draw(fill(figure, store), again), strict=True):
        assert path.read_bytes() == twin.read_bytes()
    assert "synthetic" in first[1].read_text()


def test_without_matplotlib_a_picture_says_what_it_needs(
    six: tuple[Filled, PaperStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"greater-ray\[plots\]"):
        draw(six[0], tmp_path)


def test_a_cell_that_was_removed_is_run_and_sealed_again(tmp_path: Path):
    seven = plan("table7", View(models=("m",), settings=VIEW.settings))
    store = made_tables(tmp_path / "out", [seven])
    (cell,) = seven.numbers[0].all_cells
    shutil.rmtree(next(store.grid.cells.glob(f"*-{cell.trial_id}-*")))
    assert [v.state for v in fill(seven, PaperStore(tmp_path / "out")).values] == ["not run", "done"]
    again = PaperStore(tmp_path / "out")
    again.begin({"table7": seven.view})
    write_cell(again, cell, 0.9, 20)
    again.seal([(cell.trial_id, again.grid.state(cell.trial_id))])
    assert fill(seven, PaperStore(tmp_path / "out")).complete


def test_a_cell_of_other_rows_takes_the_place_of_the_old_one(tmp_path: Path):
    seven = plan("table7", View(models=("m",), settings=VIEW.settings))
    store = made_tables(tmp_path / "out", [seven])
    (cell,) = seven.numbers[0].all_cells
    old = next(store.grid.cells.glob(f"*-{cell.trial_id}-*"))
    new = old.with_name(old.name.replace("-00000000", "-ffffffff"))
    old.rename(new)
    write_cell(store, cell, 0.9, 20)
    store = PaperStore(tmp_path / "out")
    store.seal([(cell.trial_id, store.grid.state(cell.trial_id)._replace(folder=new))])
    assert fill(seven, PaperStore(tmp_path / "out")).values[0].folders == (new,)


def test_models_behind_endpoints_are_told_apart_by_what_the_server_calls_them(tmp_path: Path):
    store = made_tables(tmp_path, [plan("table7", VIEW)])
    record = store.grid.record(next(store.grid.cells.iterdir()))
    prints = [
        Fingerprint.of(record.model_copy(update={"model": {"name": name, "served_models": [served]}}))
        for name, served in (("openai/a", "a-2024"), ("openai/a", "a-2025"), ("openai/b", "a-2025"))
    ]
    assert prints[0].differences(prints[1]) == ["weights openai/a as a-2025 in place of openai/a as a-2024"]
    assert prints[1].differences(prints[2])
    assert not prints[1].differences(prints[1])

"""Splits of the benchmarks: on the official rows where they are at hand, on made files of their form everywhere."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from greater_ray.config import TaskConfig
from greater_ray.errors import DataError
from greater_ray.protocols import Task
from greater_ray.tasks import expand, load_task
from greater_ray.tasks._sources import hub_is_reachable
from greater_ray.types import Example

COUNTS = {
    "bbh/causal_judgement": (50, 68, 69),
    "bbh/snarks": (50, 64, 64),
    "bbh/penguins_in_a_table": (50, 48, 48),
    "bbh/movie_recommendation": (50, 100, 99),
    "bbh/ruin_names": (50, 98, 100),
    "gsm8k": (100, 100, 1319),
    "folio": (50, 100, 204),
}
DROPPED = {
    "bbh/movie_recommendation": ["bbh/movie_recommendation#163"],
    "bbh/ruin_names": ["bbh/ruin_names#99", "bbh/ruin_names#144"],
}


def index(example: Example) -> int:
    return int(example.id.rpartition("#")[2])


def splits(task: Task) -> list[list[Example]]:
    return [task.train(), task.dev(), task.test()]


@pytest.mark.parametrize("name", [*expand("bbh"), "gsm8k", "folio"])
def test_official_rows_have_the_sizes_of_the_paper_and_fit_the_answer_type(name: str, data_folder: str) -> None:
    task = load_task(TaskConfig(name=name, data=data_folder))
    parts = splits(task)
    assert tuple(map(len, parts)) == COUNTS.get(name, (50, 100, 100))
    ids = [row.id for part in parts for row in part]
    assert len(ids) == len(set(ids))
    assert [row["id"] for row in task.provenance["dropped"]] == DROPPED.get(name, [])
    for row in (row for part in parts for row in part):
        assert task.form.label(row.target) == row.label
        assert task.score(row, "", row.label).correct
        assert not task.form.choices or row.label in task.form.choices


@pytest.mark.parametrize("name", expand("bbh"))
def test_bbh_splits_go_by_the_position_in_the_official_file(name: str, data_folder: str) -> None:
    train, dev, test = splits(load_task(TaskConfig(name=name, data=data_folder)))
    assert [index(row) for row in train] == list(range(50))
    assert index(dev[0]) == 50
    assert index(dev[-1]) + 1 == index(test[0])
    rows = json.loads((Path(data_folder) / f"{name}.json").read_text(encoding="utf-8"))["examples"]
    for row in [*train, *dev, *test]:
        assert (row.question, row.target) == (rows[index(row)]["input"], rows[index(row)]["target"])


@pytest.mark.parametrize("name", [name for name in expand("bbh-paper") if name not in COUNTS])
def test_every_letter_and_word_of_a_task_is_in_use(name: str, data_folder: str) -> None:
    task = load_task(TaskConfig(name=name, data=data_folder))
    used = {row.label for part in splits(task) for row in part}
    unused = set(task.form.choices) - used
    # No shape with the letters A and H is ever the answer.
    assert unused == ({"A", "H"} if name == "bbh/geometric_shapes" else set())


def test_duplicates_are_named(data_folder: str) -> None:
    task = load_task(TaskConfig(name="sports_understanding", data=data_folder))
    pairs = [[int(row_id.rpartition("#")[2]) for row_id in pair] for pair in task.provenance["duplicates"]]
    assert pairs == [[27, 155], [80, 227]]


def test_gsm8k_trains_on_the_rows_of_the_paper_and_scores_without_commas(data_folder: str) -> None:
    train, dev, test = splits(load_task(TaskConfig(name="gsm8k", data=data_folder)))
    assert (train[0].id, dev[0].id, test[0].id) == ("gsm8k/train#1297", "gsm8k/train#6871", "gsm8k/test#0")
    assert any("," in row.target for row in test)
    assert all(row.label == row.target.replace(",", "") for row in [*train, *dev, *test])


@pytest.mark.parametrize("seed", range(5))
def test_folio_shares_no_premises_between_splits(seed: int, data_folder: str) -> None:
    task = load_task(TaskConfig(name="folio", data=data_folder, seed=seed))
    premises = [{row.question.split("\n\nQuestion:")[0] for row in part} for part in splits(task)]
    assert sum(map(len, premises)) == len(set().union(*premises))
    assert task.provenance["version"].startswith("v0.0")
    assert {row.label for row in task.train()} == {"A", "B", "C"}


def folio_rows(count: int, as_text: bool) -> str:
    rows = []
    for i in range(count):
        premises = [f"All {i // 3} are red.", "No red thing is blue."]
        label = ("True", "False", "Unknown")[i % 3]
        rows.append({"premises": "\n".join(premises) if as_text else premises, "conclusion": f"{i}.", "label": label})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("as_text", [False, True])
def test_both_forms_of_folio_give_the_same_rows(tmp_path: Path, as_text: bool) -> None:
    (tmp_path / "folio-train.jsonl").write_text(folio_rows(200, as_text))
    (tmp_path / "folio-validation.jsonl").write_text(folio_rows(30, as_text))
    task = load_task(TaskConfig(name="folio", data=str(tmp_path)))
    assert tuple(map(len, splits(task))) == (50, 100, 30)
    assert task.provenance["version"].startswith("v2" if as_text else "v0.0")
    row = task.test()[1]
    assert row.question.startswith("Premise:\nAll 0 are red.\nNo red thing is blue.\n\nQuestion:\n")
    assert row.question.endswith("Statement: 1.\nOptions:\n(A) True\n(B) False\n(C) Uncertain")
    assert (row.target, row.label) == ("(B)", "B")
    in_test = {row.question.split("\n\n")[0] for row in task.test()}
    assert not in_test & {row.question.split("\n\n")[0] for row in task.train() + task.dev()}


def write_bbh(folder: Path, count: int, broken: int | None = None) -> None:
    rows = [{"input": f"q{i}", "target": "(A)"} for i in range(count)]
    if broken is not None:
        rows[broken]["target"] = "a broken option"
    (folder / "snarks.json").write_text(json.dumps({"examples": rows}))


def test_a_broken_row_is_left_out_and_moves_no_other(tmp_path: Path) -> None:
    write_bbh(tmp_path, 250, broken=60)
    task = load_task(TaskConfig(name="snarks", data=str(tmp_path)))
    assert [index(row) for row in task.dev()] == [i for i in range(50, 150) if i != 60]
    assert [index(row) for row in task.test()] == list(range(150, 250))
    reason = "broken options: the label 'a broken option' is not a letter"
    assert task.provenance["dropped"] == [{"id": "bbh/snarks#60", "reason": reason}]


def test_the_first_rows_of_each_split_are_kept(tmp_path: Path) -> None:
    write_bbh(tmp_path, 250)
    config = TaskConfig(name="snarks", data=str(tmp_path), train_size=5, dev_size=0, test_size=3)
    parts = splits(load_task(config))
    assert [[index(row) for row in part] for part in parts] == [[0, 1, 2, 3, 4], [], [150, 151, 152]]


def test_more_rows_than_a_split_has_are_refused_with_both_counts(tmp_path: Path) -> None:
    write_bbh(tmp_path, 250)
    with pytest.raises(DataError) as error:
        load_task(TaskConfig(name="snarks", data=str(tmp_path), train_size=51)).train()
    assert str(error.value) == "task.train_size: the train split of 'bbh/snarks' has 50 rows, but 51 were asked for."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not a BIG-Bench-Hard file"),
        ('{"examples": [{"input": "q"}]}', "is not a BIG-Bench-Hard file"),
        ("goal,target\n", "is not a BIG-Bench-Hard file"),
        ("", "is empty"),
        ('{"examples": []}', "has 0 rows"),
    ],
)
def test_a_file_of_another_form_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "snarks.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task(TaskConfig(name="snarks", data=str(tmp_path))).train()


@pytest.mark.parametrize(("name", "file"), [("snarks", "bbh/snarks.json"), ("gsm8k", "gsm8k/train.jsonl")])
def test_a_folder_without_the_file_says_which_is_wanted(tmp_path: Path, name: str, file: str) -> None:
    with pytest.raises(DataError, match=f"task.data: folder '.*' holds neither '{file}' nor '{Path(file).name}'"):
        load_task(TaskConfig(name=name, data=str(tmp_path))).train()


def test_a_part_of_gsm8k_is_told_from_the_whole(tmp_path: Path) -> None:
    line = json.dumps({"question": "q", "answer": "#### 1"}) + "\n"
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(line * 3)
    with pytest.raises(DataError, match=r"has 3 rows; the official train split \(7473\) is needed"):
        load_task(TaskConfig(name="gsm8k", data=str(tmp_path))).train()


def assert_hub_error(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        load_task(TaskConfig(name=name)).train()
    assert time.monotonic() - start < 5
    assert "\n" not in str(error.value)
    assert "set task.data to synthetic or a folder, or give task.rows" in str(error.value)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return monkeypatch


@pytest.mark.parametrize("name", ["bbh/navigate", "gsm8k", "folio"])
def test_a_hub_that_does_not_exist_is_told_within_seconds(name: str, no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert_hub_error(name)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://127.0.0.1:99999", "nonsense"])
def test_a_hub_that_refuses_is_told_within_seconds(endpoint: str, no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HF_ENDPOINT", endpoint)
    assert_hub_error("bbh/navigate")


def test_a_hub_that_listens_is_reachable(no_proxy: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        no_proxy.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub_is_reachable()


OFFLINE_SCRIPT = """
import sys
from greater_ray.errors import DataError
from greater_ray.tasks._sources import read_hub
source = read_hub(sys.argv[1], "train")
print([(row.index, dict(row.values)) for row in source.rows], source.origin["rows"])
try:
    read_hub("nobody/nothing", "test", "navigate")
except DataError as error:
    print(error)
"""


def test_offline_what_is_at_hand_is_read_and_what_is_not_is_told(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"input": "q0"}\n{"input": "q1"}\n')
    # A process of its own, because the libraries read these variables when they are imported.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", OFFLINE_SCRIPT, str(tmp_path / "set")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows, error = result.stdout.strip().split("\n")
    assert rows == "[(0, {'input': 'q0'}), (1, {'input': 'q1'})] 2"
    assert error.startswith("task.data: 'nobody/nothing' of the hub cannot be loaded (")
    assert error.endswith("set task.data to synthetic or a folder, or give task.rows.")

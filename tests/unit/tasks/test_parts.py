"""Own rows in three files or in a data set of the hub; what a run knows them by; and what reading many costs."""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from greater_ray import optimize
from greater_ray.config import TaskConfig
from greater_ray.errors import GreaterRayError, StoreError
from greater_ray.protocols import Task
from greater_ray.tasks import load_task
from greater_ray.tasks._task import digest
from greater_ray.types import Example


def write(path: Path, numbers: range, **more: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"What is {k} + 1?", "answer": k + 1, **more} for k in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def three(folder: Path, sizes: tuple[int, int, int] = (6, 3, 4)) -> dict[str, str]:
    places, start = {}, 0
    for field, name, size in zip(("rows", "dev_rows", "test_rows"), ("train", "dev", "test"), sizes, strict=True):
        places[field] = write(folder / f"{name}.jsonl", range(start, start + size))
        start += size
    return places


def load(**settings: object) -> Task:
    return load_task(TaskConfig(name="rows", **settings))


def asked(rows: list[Example]) -> list[int]:
    return [int(row.question.split()[2]) for row in rows]


def test_three_files_are_three_splits_as_they_are(tmp_path: Path) -> None:
    task = load(**three(tmp_path))
    assert (asked(task.train()), asked(task.dev()), asked(task.test())) == ([*range(6)], [6, 7, 8], [*range(9, 13)])
    assert task.answer_type == "number"
    assert task.train()[0].id == "rows/train/train.jsonl#0"
    assert task.provenance["split_rule"] == "the splits as they are given"
    assert {split: file["rows"] for split, file in task.provenance["files"].items()} == {
        "train": 6,
        "dev": 3,
        "test": 4,
    }
    small = load(**three(tmp_path), train_size=2, dev_size=1)
    assert (asked(small.train()), asked(small.dev()), asked(small.test())) == ([0, 1], [6], [*range(9, 13)])


def test_files_of_one_name_have_rows_of_different_ids(tmp_path: Path) -> None:
    task = load(
        rows=write(tmp_path / "a" / "x.jsonl", range(4)), test_rows=write(tmp_path / "b" / "x.jsonl", range(9, 12))
    )
    assert len({row.id for row in task.train() + task.test()}) == 7
    assert task.dev() == []


def test_labels_are_found_in_all_files_together(tmp_path: Path) -> None:
    for name, labels in (("train", "red blue"), ("test", "red green")):
        lines = "".join(f"q{name}{k},{labels.split()[k % 2]}\n" for k in range(20))
        (tmp_path / f"{name}.csv").write_text(f"question,answer\n{lines}")
    task = load(rows=str(tmp_path / "train.csv"), test_rows=str(tmp_path / "test.csv"))
    assert task.choices == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dev_rows": "{dev}"}, "task.dev_rows: goes with task.rows, which has the rows for train."),
        (
            {"rows": "{train}", "dev_rows": "{dev}", "split_column": "split"},
            "task.split_column: 'split' contradicts task.dev_rows",
        ),
        ({"rows": "{train}", "test_rows": "{train}"}, "is the file of task.rows too; splits share no rows."),
        (
            {"rows": "{train}", "test_rows": "hub:a/b"},
            "task.test_rows: 'hub:a/b' must be a file beside a file of task.rows",
        ),
        ({"rows": "{train}", "rows_split": "train"}, "task.rows_split: goes with a data set of the hub ("),
        ({"rows": "{train}", "rows_revision": "v1"}, "task.rows_revision: goes with a data set of the hub"),
        (
            {"rows": "{train}", "test_rows": "{dev}", "dev_size": 1},
            "the dev split of '{train}' has 0 rows, but 1 were asked for.",
        ),
        (
            {"rows": "{train}", "test_rows": "{dev}", "test_size": 4},
            "the test split of '{train}' has 3 rows, but 4 were asked for.",
        ),
        (
            {"rows": "{train}", "test_rows": "{none}"},
            "task.test_rows: '{none}' cannot be read (No such file or directory).",
        ),
        (
            {"rows": "{train}", "test_rows": "x.xls"},
            "task.test_rows: 'x.xls' must end in .jsonl, .csv, .tsv, .parquet, .eval, .json.",
        ),
        ({"rows": "{train}", "split": "gpo"}, "task.split: 'gpo' is no split rule of 'rows'"),
        ({"rows": "hub:"}, "task.rows: 'hub:' names no data set; write hub:ORG/NAME."),
        ({"rows": "{train}", "test_rows": "{broken}"}, "task.test_rows: '{broken}', line 2: not valid JSON."),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    places = three(tmp_path)
    names = {"train": places["rows"], "dev": places["dev_rows"], "none": str(tmp_path / "none.jsonl")}
    names["broken"] = str(tmp_path / "broken.jsonl")
    Path(names["broken"]).write_text('{"question": "q", "answer": 1}\n{"question": \n')
    filled = {key: value.format(**names) if isinstance(value, str) else value for key, value in settings.items()}
    with pytest.raises(GreaterRayError) as error:
        load(**filled).train()
    assert message.format(**names) in str(error.value)


def test_a_row_that_moves_to_another_file_makes_other_rows(tmp_path: Path) -> None:
    hashes = set()
    for k, sizes in enumerate([(6, 3, 4), (6, 4, 3), (5, 4, 4)]):
        hashes.add(load(**three(tmp_path / str(k), sizes)).provenance["rows_sha256"])
    assert len(hashes) == 3


def test_the_hash_in_pieces_is_that_of_all_rows_at_once() -> None:
    rows = [Example(f"r{k}", f'q"{k}\n ü\ud800', str(k), str(k), ("x",) * (k % 3)) for k in range(2345)]
    text = json.dumps([[e.question, e.target, *e.references] for e in rows], ensure_ascii=False, separators=(",", ":"))
    assert digest(rows) == hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    assert digest([]) == hashlib.sha256(b"[]").hexdigest()


@pytest.mark.parametrize("changed", ["rows", "dev_rows", "test_rows"])
def test_a_run_does_not_go_on_with_a_file_of_other_rows(tmp_path: Path, tiny_folder: Path, changed: str) -> None:
    places = three(tmp_path)
    small = {"decoding": {"max_reasoning_tokens": 2}, "evaluation": {"splits": []}, "steps": 0}
    settings = {"task": {"name": "rows", **places}, "out": tmp_path / "run", **small}
    first = optimize(str(tiny_folder), **settings)
    assert optimize(str(tiny_folder), **settings) == first
    write(Path(places[changed]), range(50, 56))
    os.utime(places[changed], ns=(1, 1))
    with pytest.raises(StoreError, match="was begun with other rows, which have changed since"):
        optimize(str(tiny_folder), **settings)


def test_what_a_metric_of_ones_own_may_read_belongs_to_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text("def half(text, row):\n    return 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    hashes = []
    for note in ("a", "b"):
        path = write(tmp_path / note / "x.jsonl", range(12), note=note)
        hashes.append(
            [load(rows=path, **more).provenance["rows_sha256"] for more in ({}, {"metric": "own_metric:half"})]
        )
    assert hashes[0][0] == hashes[1][0]
    assert hashes[0][1] != hashes[1][1]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` loads as it does a data set of the hub."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "set"


def test_a_data_set_is_used_with_its_own_splits(hub: Path) -> None:
    for name, rows in (("train", range(6)), ("validation", range(6, 9)), ("test", range(9, 13))):
        write(hub / f"{name}.jsonl", rows)
    task = load(rows=f"hub:{hub}")
    assert (asked(task.train()), asked(task.dev()), asked(task.test())) == ([*range(6)], [6, 7, 8], [*range(9, 13)])
    files = task.provenance["files"]
    assert {split: (file["split"], file["rows"]) for split, file in files.items()} == {
        "train": ("train", 6), "dev": ("validation", 3), "test": ("test", 4)
    }  # fmt: skip
    alone = load(rows=f"hub:{hub}", rows_split="test", train_size=2, dev_size=1)
    assert sorted(asked(alone.train() + alone.dev() + alone.test())) == [*range(9, 13)]
    part = load(rows=f"hub:{hub}", rows_split="train[:3]+test[:3]", train_size=2)
    assert sorted(asked(part.train() + part.dev() + part.test())) == [0, 1, 2, 9, 10, 11]


def test_a_data_set_of_one_split_is_drawn_from_as_a_file_is(hub: Path, tmp_path: Path) -> None:
    write(hub / "train.jsonl", range(40))
    task, file = load(rows=f"hub:{hub}"), load(rows=write(tmp_path / "x.jsonl", range(40)))
    assert asked(task.train()) == asked(file.train())
    assert task.provenance["rows_sha256"] == file.provenance["rows_sha256"]
    assert task.provenance["split_rule"].startswith("order drawn from seed 0")


def test_configurations_columns_and_named_labels_of_a_data_set_are_read(hub: Path) -> None:
    import datasets

    kinds = datasets.Features({"text": datasets.Value("string"), "mood": datasets.ClassLabel(names=["bad", "good"])})
    for config in ("long", "short"):
        (hub / config).mkdir(parents=True)
        rows = {"text": [f"{config} {k}" for k in range(30)], "mood": [k % 2 for k in range(30)]}
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(hub / config / "train.parquet")
    configs = "".join(f"- config_name: {c}\n  data_files: {c}/train.parquet\n" for c in ("long", "short"))
    (hub / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    task = load(rows=f"hub:{hub}:short", question_column="text", answer_column="mood")
    assert task.choices == ("bad", "good")
    assert all(row.question.startswith("short ") for row in task.train())
    assert all(row.label == ("bad", "good")[int(row.question.split()[1]) % 2] for row in task.train())
    with pytest.raises(
        GreaterRayError, match=r"task.rows: '.*' of the hub cannot be loaded \(.*; without a network give"
    ):
        load(rows=f"hub:{hub}:middle", question_column="text", answer_column="mood")


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (("part1", "part2"), {}, None),
        (
            ("train", "validation"),
            {"split_column": "s"},
            "task.split_column: goes with one split of a data set; name it by task.rows_split.",
        ),
        (("train", "test"), {"rows_split": "tets"}, 'of the hub cannot be loaded (Unknown split "tets"'),
        (
            ("train", "test"),
            {"question_column": "q"},
            "set (train)', line 1: no column 'q' (task.question_column); columns: question, answer.",
        ),
        (
            ("validation", "test"),
            {},
            "has the splits validation, test, of which train, dev and test cannot be told; name one",
        ),
    ],
)
def test_what_is_wrong_with_a_data_set_is_one_sentence(
    hub: Path, names: tuple[str, ...], settings: dict[str, str], message: str | None
) -> None:
    for k, name in enumerate(names):
        write(hub / f"{name}.jsonl", range(10 * k, 10 * k + 10))
    if message is None:  # files that name no split are one
        assert len(load(rows=f"hub:{hub}", **settings).provenance["rows_sha256"]) == 64
        return
    with pytest.raises(GreaterRayError) as error:
        load(rows=f"hub:{hub}", **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_told_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(GreaterRayError) as error:
        load(rows="hub:org/name:config")
    assert str(error.value).startswith("task.rows: 'org/name' of the hub cannot be loaded because 127.0.0.1 cannot be")
    assert "without a network give task.rows a file" in str(error.value)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_columns_that_are_not_used_are_not_held(tmp_path: Path, ending: str) -> None:
    import pandas as pd

    rows = [{"question": f"q{k}", "answer": k, "more": f"{k} " * 5000} for k in range(400)]
    path, frame = tmp_path / f"x.{ending}", pd.DataFrame(rows)
    if ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif ending == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, row_group_size=100)
    tracemalloc.start()
    try:
        load(rows=str(path)).train()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(row["more"]) for row in rows) > 7 * 2**20
    assert peak < 5 * 2**20, f"{peak / 2**20:.1f} MiB"


def test_rows_are_read_once_until_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", range(20))
    first = load(rows=path, seed=1)
    assert load(rows=path, train_size=3).train()[0] in {*first.train(), *first.dev(), *first.test()}
    same = {id(row) for task in (first, load(rows=path, extractor="dollar")) for row in task.train()}
    assert len(same) < len(first.train()) * 2, "the very same rows"
    write(tmp_path / "x.jsonl", range(100, 140))
    assert min(asked(load(rows=path).train())) >= 100

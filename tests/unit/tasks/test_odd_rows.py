"""Rows as files really hold them: what is meant is read, and what can never be right is refused with its line."""

import json
from pathlib import Path

import pytest

from greater_ray.config import TaskConfig
from greater_ray.errors import DataError
from greater_ray.protocols import Task
from greater_ray.tasks import keep_rows, load_task


def load(path: Path, **settings: object) -> Task:
    return load_task(TaskConfig(name="rows", rows=str(path), **settings))


def answered(folder: Path, answers: list[object], **settings: object) -> Task:
    path = folder / "x.jsonl"
    rows = [{"question": f"q{k}", "answer": answers[k % len(answers)]} for k in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(path, **settings)


@pytest.mark.parametrize(
    ("answers", "answer_type", "labels"),
    [
        (["\u200bParis", "Rome\ufeff"], "choice", {"Paris", "Rome"}),
        (["\ufeff5", "\u200e6 "], "number", {"5", "6"}),
        (["\u2060yes", "no\u200b"], "yes-no", {"yes", "no"}),
        (["10:30", "11:30"], "choice", {"10:30", "11:30"}),
        (["1.1.1", "1.2.3"], "choice", {"1.1.1", "1.2.3"}),
        (["St. Louis", "U.S. Army", "vice-versa"], "choice", {"St. Louis", "U.S. Army", "vice-versa"}),
    ],
)
def test_answers_are_read_as_they_are_meant(tmp_path: Path, answers: list, answer_type: str, labels: set) -> None:
    task = answered(tmp_path, answers)
    rows = task.train() + task.dev() + task.test()
    assert (task.answer_type, {row.label for row in rows}) == (answer_type, labels)
    for row in rows:
        other = next(label for label in sorted(labels) if label != row.label)
        assert task.score(row, "", f"It is {row.label}.").score == 1.0
        assert task.score(row, "", other).score == 0.0


def test_what_stands_between_the_words_of_a_label_is_its_own(tmp_path: Path) -> None:
    task = answered(tmp_path, ["10:30", "St. Louis"])
    read = task.form.read
    assert (read("at 10:30"), read("in St Louis"), read("St. LOUIS!")) == ("10:30", "St. Louis", "St. Louis")
    assert (read("of 10. 30 came"), read("St.\nLouis")) == (None, None)


def test_a_letter_with_an_accent_is_the_same_in_one_character_and_in_two(tmp_path: Path) -> None:
    rows = [f"caf\u0065\u0301 number {k}" for k in range(30)]
    task = answered(tmp_path, list(rows))
    row = task.test()[0]
    assert "\u0301" in row.label
    assert task.score(row, "", row.label.replace("e\u0301", "\u00e9")).score == 1.0


@pytest.mark.parametrize(
    ("answers", "settings", "message"),
    [
        (["\u200b", "a"], {}, "line 1: 'answer' is empty (task.answer_column)."),
        (
            ["b", "("],
            {"metric": "regex"},
            "line 2: the answer '(' can never be right under task.metric regex: it is no ",
        ),
        (
            ["{}", "{bad"],
            {"metric": "json"},
            "line 2: the answer '{bad' can never be right under task.metric json: it ",
        ),
        (
            ["b", "日本"],
            {"metric": "rouge-l"},
            "line 2: the answer '日本' can never be right under task.metric rouge-l: ",
        ),
        (
            ["b", "..."],
            {"metric": "contains"},
            "line 2: the answer '...' can never be right under task.metric contains",
        ),
    ],
)
def test_what_can_never_be_right_is_refused(tmp_path: Path, answers: list, settings: dict, message: str) -> None:
    with pytest.raises(DataError) as error:
        answered(tmp_path, answers, **settings)
    assert message in str(error.value)


def test_half_of_a_character_is_told_in_every_column_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    half = "\ud83d"
    row = {"question": "q", "answer": 0, "choices": ["a", "b"], "id": "1", "split": "train", "title": "t"}
    uses = {"choices_column": "choices", "id_column": "id", "split_column": "split", "question_template": "{title}"}
    for column, value in (("choices", ["a", half]), ("id", half), ("split", half), ("title", half)):
        path.write_text(json.dumps({**row, column: value}) + "\n")
        with pytest.raises(DataError, match=r"line 1: '.*' holds the character '\\ud83d', which is no text"):
            load(path, **uses)


def test_numbers_of_any_length_and_of_single_precision_are_those_that_were_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import pandas as pd

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "x.jsonl"
    digits = "1" * 5000
    path.write_text("".join(f'{{"question": "q{k}", "answer": {digits}}}\n' for k in range(9)))
    assert {row.label for row in load(path).train()} == {digits}

    values = [0.1, 3.8, 1e-5, 1e16, 2.5, 7.0] * 2
    expected = {"0.1", "3.8", "0.00001", "10000000000000000", "2.5", "7"}
    frame = pd.DataFrame({"question": [f"q{k}" for k in range(12)], "answer": np.array(values, dtype="float32")})
    frame.to_parquet(tmp_path / "x.parquet")
    scalars = [{"question": f"q{k}", "answer": np.float32(value)} for k, value in enumerate(values)]
    for source in (tmp_path / "x.parquet", Path(keep_rows(frame)), Path(keep_rows(scalars))):
        task = load(source, train_size=10, dev_size=0, test_size=2)
        assert {row.label for row in task.train() + task.test()} == expected


def test_a_missing_number_of_a_table_is_empty_and_no_text(tmp_path: Path) -> None:
    import pandas as pd

    for name, column in (("double", [1.0, None]), ("single", pd.array([1.0, None], dtype="float32"))):
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame({"question": ["q", "r"], "answer": column}).to_parquet(path)
        with pytest.raises(DataError, match=r"line 2: 'answer' is empty"):
            load(path)


def test_a_column_that_stands_twice_in_a_table_is_told(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    columns = [pyarrow.array(["q"]), pyarrow.array(["1"]), pyarrow.array(["2"])]
    write_table(pyarrow.Table.from_arrays(columns, names=["question", "answer", "answer"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'answer' stands twice in the file"):
        load(tmp_path / "x.parquet")


def test_a_field_longer_than_pythons_limit_and_every_end_of_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("question,answer\n" + "".join(f'"{"x" * 200_000}{k}",{k}\n' for k in range(5)))
    assert {row.label for row in load(path).train() + load(path).test()} <= {"0", "1", "2", "3", "4"}
    path.write_bytes(b"question,answer\r" + b"".join(b"q%d,%d\r" % (k, k) for k in range(6)))
    assert load(path).answer_type == "number"


def test_bytes_that_are_no_text_are_told_late_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"question,answer\n" + b"q,1\n" * 5000 + b"caf\xe9,2\n")
    with pytest.raises(DataError, match=r"line 5002: not UTF-8 text"):
        load(path)

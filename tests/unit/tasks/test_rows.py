"""A user's own file: what is inferred, how it is split, and every way in which it can be wrong."""

import json
from pathlib import Path

import pytest

from greater_ray import optimize
from greater_ray.assembly import resolve_config
from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError, GreaterRayError
from greater_ray.observer import Observer
from greater_ray.protocols import Task
from greater_ray.runs import run_config
from greater_ray.tasks import keep_rows, load_task


def write_jsonl(path: Path, rows: list[object]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def numbered(count: int) -> list[object]:
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(count)]


def load(path: str, **settings: object) -> Task:
    return load_task(TaskConfig(name="rows", rows=path, **settings))


def sizes(task: Task) -> tuple[int, int, int]:
    return len(task.train()), len(task.dev()), len(task.test())


@pytest.mark.parametrize(
    ("count", "settings", "expected"),
    [
        (1300, {}, (50, 100, 1000)),
        (300, {}, (50, 100, 150)),
        (250, {}, (50, 100, 100)),
        (249, {}, (50, 49, 150)),
        (100, {}, (40, 20, 40)),
        (10, {}, (4, 2, 4)),
        (10, {"train_size": 6, "dev_size": 0, "test_size": 4}, (6, 0, 4)),
        (10, {"train_size": 2}, (2, 2, 6)),
        (10, {"train_size": 2, "dev_size": 2, "test_size": 2}, (2, 2, 2)),
        (400, {"train_size": 200}, (200, 100, 100)),
        (260, {"train_size": 200}, (200, 20, 40)),
    ],
)
def test_rows_are_split_by_size(tmp_path: Path, count: int, settings: dict, expected: tuple[int, int, int]) -> None:
    task = load(write_jsonl(tmp_path / "mine.jsonl", numbered(count)), **settings)
    assert sizes(task) == expected
    assert task.provenance["counts"] == dict(zip(("train", "dev", "test"), expected, strict=True))
    ids = [row.id for row in task.train() + task.dev() + task.test()]
    assert len(ids) == len(set(ids))


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "mine.jsonl", numbered(60))
    assert load(path, seed=1).train() == load(path, seed=1).train()
    assert load(path, seed=1).train() != load(path, seed=2).train()


def test_equal_questions_lie_in_one_split(tmp_path: Path) -> None:
    rows = [{"question": f"q{i % 20}", "answer": i} for i in range(60)]
    for seed in range(10):
        task = load(write_jsonl(tmp_path / "mine.jsonl", rows), seed=seed)
        places = [{row.question for row in split} for split in (task.train(), task.dev(), task.test())]
        assert sum(map(len, places)) == len(set().union(*places))
        assert len(task.provenance["duplicates"]) == 20


def test_rows_that_are_all_one_question_cannot_be_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "mine.jsonl", [{"question": "same", "answer": 1}] * 10)
    with pytest.raises(DataError, match="10 rows but only 1 different questions"):
        load(path).train()


@pytest.mark.parametrize(
    ("answers", "answer_type", "labels"),
    [
        (["(A)", "B", "c"], "letter", {"A", "B", "C"}),
        (["yes", "no", "No"], "yes-no", {"yes", "no"}),
        ([True, False, True], "boolean", {"True", "False"}),
        (["VALID", "INVALID", "valid"], "valid-invalid", {"VALID", "INVALID"}),
        ([3, "1,000", "-2.50"], "number", {"3", "1000", "-2.5"}),
        (["Paris", "Rome", "Oslo"], "text", {"Paris", "Rome", "Oslo"}),
    ],
)
def test_the_answer_type_is_inferred_and_said(tmp_path: Path, answers: list, answer_type: str, labels: set) -> None:
    rows = [{"question": f"q{i}", "answer": answer} for i, answer in enumerate(answers * 3)]
    task = load(write_jsonl(tmp_path / "mine.jsonl", rows), train_size=8, dev_size=0, test_size=1)
    assert task.answer_type == answer_type
    assert {row.label for row in task.train() + task.test()} == labels
    assert task.provenance["answer_type_from"].startswith("inferred")


def test_letters_reach_to_the_options_that_are_asked_about(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}?\nOptions:\n(A) x\n(B) y\n(C) z", "answer": "(A)"} for i in range(9)]
    task = load(write_jsonl(tmp_path / "mine.jsonl", rows))
    assert task.form.choices == ("A", "B", "C")


def test_a_csv_file_with_other_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffid,q,a\n" + "".join(f'{i},"line one,\nline {i}",{i}\n' for i in range(10)), encoding="utf-8")
    task = load(str(path), question_column="q", answer_column="a")
    rows = task.train() + task.dev() + task.test()
    assert {row.question for row in rows} == {f"line one,\nline {i}" for i in range(10)}
    assert {row.id for row in rows} == {f"rows/mine.csv#{i}" for i in range(10)}
    assert len(task.provenance["sha256"]) == 64


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"question": "q\u2028{i}", "answer": {i}}}\n' for i in range(10)), encoding="utf-8")
    assert sizes(load(str(path))) == (4, 2, 4)


GOOD = '{"question": "q", "answer": "1"}\n'
BROKEN = [
    ("mine.jsonl", b"", {}, DataError, "is empty."),
    ("mine.jsonl", b" \n\n", {}, DataError, "is empty."),
    ("mine.jsonl", (GOOD + '{"question": \n').encode(), {}, DataError, ", line 2: not valid JSON."),
    ("mine.jsonl", (GOOD + "[" * 100_000).encode(), {}, DataError, ", line 2: not valid JSON."),
    ("mine.jsonl", (GOOD + "\n[1]\n").encode(), {}, DataError, ", line 3: must hold a JSON object, not a list."),
    (
        "mine.jsonl",
        b'{"questions": "q", "answer": "1"}',
        {},
        DataError,
        ", line 1: no column 'question' (task.question_column); columns: questions, answer. Did you mean 'questions'?",
    ),
    (
        "mine.jsonl",
        (GOOD + '{"question": "q"}').encode(),
        {},
        DataError,
        ", line 2: no column 'answer' (task.answer_column",
    ),
    ("mine.jsonl", b"{}", {}, DataError, "columns: none."),
    ("mine.jsonl", (GOOD + '{"question": " ", "answer": 1}').encode(), {}, DataError, ", line 2: 'question' is empty"),
    ("mine.jsonl", (GOOD + '{"question": "q", "answer": null}').encode(), {}, DataError, ", line 2: 'answer' is empty"),
    ("mine.jsonl", b'{"question": ["q"], "answer": 1}', {}, DataError, "must be text or a number, not a list."),
    (
        "mine.jsonl",
        GOOD.encode() + b'{"question": "caf\xe9"}',
        {},
        DataError,
        ", line 2: not UTF-8 text; save the file",
    ),
    (
        "mine.jsonl",
        (GOOD + '{"question": "r", "answer": "maybe"}').encode(),
        {"answer_type": "yes-no"},
        DataError,
        ", line 1: the answer '1' is not a 'yes-no' (Yes, No); correct it or set task.answer_type.",
    ),
    (
        "mine.jsonl",
        (GOOD + '{"question": "r", "answer": "ten"}').encode(),
        {},
        ConfigError,
        "the answer on line 1 is a 'number', the one on line 2 ('ten') is not; set task.answer_type.",
    ),
    ("mine.csv", b"question,answer\nq,1\nr,2,3\n", {}, DataError, ", line 3: has 3 fields, but the header has 2."),
    ("mine.csv", b'question,answer\n"q\nq",1\nr\n', {}, DataError, ", line 4: has 1 fields, but the header has 2."),
    (
        "mine.csv",
        b"question,answer,answer\nq,1,2\n",
        {},
        DataError,
        "line 1: column 'answer' stands twice in the header.",
    ),
    ("mine.csv", b'question,answer\nq,"1" 2\n', {}, DataError, ", line 2: not valid CSV ("),
    ("mine.csv", b"question,answer\n", {}, DataError, "has a header but no rows."),
    (
        "mine.csv",
        b"q,answer\nx,1\n",
        {},
        DataError,
        ", line 2: no column 'question' (task.question_column); columns: q, an",
    ),
    ("mine.xlsx", b"", {}, ConfigError, "must end in .jsonl, .csv, .tsv, .parquet, .eval, .json."),
]


@pytest.mark.parametrize(("name", "content", "settings", "kind", "message"), BROKEN)
def test_a_broken_file_is_told_in_one_sentence_with_its_place(
    tmp_path: Path, name: str, content: bytes, settings: dict, kind: type[GreaterRayError], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        load(str(path), **settings)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "mine.jsonl",
            '{"question": "q", "question": "r", "answer": "1"}',
            "line 2: the key 'question' stands twice in one",
        ),
        (
            "mine.jsonl",
            '{"question": "half \\ud83d of it", "answer": "1"}',
            "line 2: 'question' holds the character '\\ud83d'",
        ),
        (
            "mine.jsonl",
            '{"question": "q", "answer": "a\\u0000b"}',
            "line 2: 'answer' holds the character '\\x00', which is",
        ),
        ("mine.jsonl", '{"question": "q", "answer": NaN}', "line 2: not valid JSON."),
        ("mine.csv", ",", "line 2: all fields are empty."),
        ("mine.csv", "q\x00,1", "line 2: 'question' holds the character '\\x00', which is no text"),
        ("mine.tsv", "q\t1\t2", "line 2: has 3 fields, but the header has 2."),
    ],
)
def test_a_row_that_is_no_row_is_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    first = {"mine.jsonl": '{"question": "p", "answer": "1"}', "mine.csv": "question,answer"}.get(
        name, "question\tanswer"
    )
    path = tmp_path / name
    path.write_text(f"{first}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        load(str(path))
    assert message in str(error.value)


def test_numbers_of_json_keep_their_digits(tmp_path: Path) -> None:
    numbers = ["0.00001", "1e-05", "1e+16", "3.0", "12345678901234567890.5", "-0.5"]
    lines = [f'{{"question": "q{k}", "answer": {number}}}' for k, number in enumerate(numbers * 2)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    task = load(str(path))
    rows = [*task.train(), *task.dev(), *task.test()]
    assert task.answer_type == "number"
    assert {row.target for row in rows} == {"0.00001", "10000000000000000", "3.0", "12345678901234567890.5", "-0.5"}
    assert all(task.score(row, row.target, row.target).score == 1.0 for row in rows)


def test_questions_that_differ_in_blanks_alone_lie_in_one_split(tmp_path: Path) -> None:
    pairs = [{"question": f"{question} {k}", "answer": str(k)} for k in range(20) for question in ("same", "same ")]
    task = load(str(write_jsonl(tmp_path / "mine.jsonl", pairs)))
    places = [{" ".join(row.question.split()) for row in rows} for rows in (task.train(), task.dev(), task.test())]
    assert not places[0] & places[1]
    assert not places[0] & places[2]
    assert not places[1] & places[2]


def test_tables_of_other_kinds_hold_the_same_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    questions = [f"Say {k},\nplease" for k in range(20)]
    answers = [str(k) for k in range(20)]
    pyarrow.parquet.write_table(pyarrow.table({"question": questions, "answer": answers}), tmp_path / "a.parquet")
    quoted = "".join(f'"{q}"\t{a}\r\n' for q, a in zip(questions, answers, strict=True))
    (tmp_path / "b.tsv").write_bytes(f"\ufeffquestion\tanswer\r\n{quoted}".encode())
    tables = [load(str(tmp_path / name)) for name in ("a.parquet", "b.tsv")]
    rows = [[(row.question, row.label) for row in table.train()] for table in tables]
    assert rows[0] == rows[1]
    assert tables[0].provenance["rows_sha256"] == tables[1].provenance["rows_sha256"]
    (tmp_path / "c.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"c.parquet' cannot be read \("):
        load(str(tmp_path / "c.parquet"))


PARTS = [
    {"title": f"Ticket {k}", "body": f"Body {{{k}}}", "n": 1e-05, "answer": str(k), "id": f"t{k}"} for k in range(12)
]


@pytest.mark.parametrize(
    ("template", "question"),
    [
        ("{title}\\n{body}", "Ticket 3\nBody {3}"),
        ("{title}: {n}", "Ticket 3: 0.00001"),
        ("{{ title | upper }}{% if n %} ({{ n }}){% endif %}", "TICKET 3 (0.00001)"),
    ],
)
def test_a_question_is_put_together_from_columns(tmp_path: Path, template: str, question: str) -> None:
    task = load(str(write_jsonl(tmp_path / "mine.jsonl", PARTS)), question_template=template, id_column="id")
    rows = {row.id: row.question for row in (*task.train(), *task.dev(), *task.test())}
    assert rows["rows/mine.jsonl#t3"] == question


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"question_template": "{titel}"},
            "no column 'titel'; columns: title, body, n, answer, id. Did you mean 'title'?",
        ),
        ({"question_template": "{{ titel }}"}, "'titel' is undefined; columns: title, body, n, answer, id."),
        ({"question_template": "{{ title"}, "is no jinja2 template"),
        ({"question_template": "no field"}, "names no column"),
        ({"question_template": "{{ title.__class__.__mro__ }}"}, "the template fails on this row (access to attribute"),
        (
            {"question_template": "{% for i in range(10 ** 9) %}x{% endfor %}"},
            "the template fails on this row (Range too",
        ),
        ({"question_template": "{title}", "id_column": "n"}, "line 2: the id '0.00001' stands on line 1 already."),
        (
            {"question_template": "{title}", "split_column": "body"},
            "line 1: 'Body {0}' is no split; allowed: train, tr",
        ),
    ],
)
def test_a_template_or_a_column_that_does_not_fit_is_told(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(GreaterRayError) as error:
        load(str(write_jsonl(tmp_path / "mine.jsonl", PARTS)), **settings)
    assert message in str(error.value)


def test_splits_may_be_given(tmp_path: Path) -> None:
    words = ["train", "Training", "validation", "TEST"]
    rows = [{"question": f"q{k}", "answer": str(k), "split": words[k % 4]} for k in range(20)]
    path = str(write_jsonl(tmp_path / "mine.jsonl", rows))
    task = load(path, split_column="split")
    assert [row.question for row in task.dev()] == ["q2", "q6", "q10", "q14", "q18"]
    assert sizes(task) == (10, 5, 5)
    assert sizes(load(path, split_column="split", test_size=2)) == (10, 5, 2)
    assert task.provenance["split_rule"] == "column 'split'"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task.rows: '.*none.jsonl' cannot be read \(No such file or directory\)"):
        load(str(tmp_path / "none.jsonl"))


def test_a_file_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"task.rows: missing"):
        load_task(TaskConfig(name="rows"))


def test_own_rows_are_never_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.data: 'synthetic' does not go with 'rows'"):
        load(write_jsonl(tmp_path / "mine.jsonl", numbered(9)), data="synthetic")


@pytest.mark.parametrize(
    ("count", "settings", "message"),
    [
        (
            5,
            {"train_size": 4, "test_size": 2},
            "has 5 rows, but 6 were asked for (task.train_size 4, task.test_size 2).",
        ),
        (5, {"train_size": 5}, "has 5 rows, which leaves none for dev; give more or set task.dev_size."),
        (2, {}, "has 2 rows, which leaves none for train; give more or set task.train_size."),
    ],
)
def test_too_few_rows_are_counted_before_anything_runs(
    tmp_path: Path, count: int, settings: dict, message: str
) -> None:
    task = load(write_jsonl(tmp_path / "mine.jsonl", numbered(count)), **settings)
    with pytest.raises(DataError) as error:
        task.train()
    assert message in str(error.value)


# -- options in columns of their own -----------------------------------------------------------------------------------


def mmlu(count: int, answer: object = None) -> list[dict[str, object]]:
    """Return rows in MMLU's form: a list of options and the index of the right one."""
    return [
        {"question": f"What is {k}?", "choices": ["zero", f"number {k}", "ten", "eleven"],
         "answer": k % 4 if answer is None else answer}
        for k in range(count)
    ]  # fmt: skip


def test_options_of_a_list_are_shown_and_their_index_becomes_a_letter(tmp_path: Path) -> None:
    task = load(write_jsonl(tmp_path / "mine.jsonl", mmlu(12)), choices_column="choices")
    assert task.answer_type == "letter"
    rows = {row.id: row for row in (*task.train(), *task.dev(), *task.test())}
    row = rows["rows/mine.jsonl#5"]
    assert row.question == "What is 5?\nOptions:\n(A) zero\n(B) number 5\n(C) ten\n(D) eleven"
    assert (row.target, row.label) == ("B", "B")
    assert task.provenance["choices_column"] == "choices"


@pytest.mark.parametrize(("answer", "label"), [("C", "C"), ("(C)", "C"), ("ten", "C"), ("2", "C"), (0, "A")])
def test_the_gold_option_is_a_letter_its_text_or_its_index(tmp_path: Path, answer: object, label: str) -> None:
    task = load(write_jsonl(tmp_path / "mine.jsonl", mmlu(12, answer)), choices_column="choices")
    assert {row.label for row in task.train()} == {label}


def test_options_of_several_columns_are_shown(tmp_path: Path) -> None:
    lines = ["question,A,B,C,answer", *(f"What is {k}?,one {k},two,three,two" for k in range(12))]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines))
    row = load(str(path), choices_column="A,B,C").train()[0]
    assert row.question.endswith("Options:\n" + f"(A) one {row.question[8:].split('?')[0]}\n(B) two\n(C) three")
    assert row.label == "B"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": 4}, "the answer '4' is none of the 4 options"),
        ({"answer": "twelve"}, "the answer 'twelve' is none of the 4 options"),
        ({"choices": ["2", "1", "x"], "answer": "2"}, "is the text of one option and the index of another"),
        ({"choices": ["one"]}, "must hold a list of 2 to 26 options"),
        ({"choices": ["one", ""]}, "must hold a list of 2 to 26 options"),
    ],
)
def test_a_wrong_option_is_told_with_its_line(tmp_path: Path, changes: dict, message: str) -> None:
    rows = mmlu(12)
    rows[3] |= changes
    with pytest.raises(DataError, match=r"mine\.jsonl', line 4: ") as error:
        load(write_jsonl(tmp_path / "mine.jsonl", rows), choices_column="choices")
    assert message in str(error.value)


def test_options_that_the_model_would_not_see_are_never_left_out_in_silence(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "mine.jsonl", mmlu(12))
    with pytest.raises(ConfigError, match=r"has options in 'choices', which the model would not be shown"):
        load(path)
    assert load(path, answer_type="number").answer_type == "number", "unless that is what is wanted"
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["question,A,B,answer", *(f"q{k},x,y,A" for k in range(12))]))
    with pytest.raises(ConfigError, match=r"has options in 'A,B'"):
        load(str(table))


def test_what_was_inferred_is_said_before_the_search(tmp_path: Path, tiny_folder: Path) -> None:
    path = write_jsonl(tmp_path / "mine.jsonl", numbered(9))
    told: list[str] = []

    class Listening(Observer):
        def message(self, text: str) -> None:
            told.append(text)

    settings = {"model": str(tiny_folder), "task": {"name": "rows", "rows": str(path)}, "budget": {"steps": 0},
                "decoding": {"max_reasoning_tokens": 2}, "evaluation": {"splits": []}}  # fmt: skip
    run_config(resolve_config(settings), observer=Listening())
    assert told == ["rows: answers are read as 'number' (inferred: all 9 answers are 'number')"]


def test_rows_at_hand_are_known_by_their_content(tmp_path: Path, tiny_folder: Path, monkeypatch) -> None:
    import pandas as pd

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [{"question": f"What is {k} + 1?", "answer": k + 1, "note": None} for k in range(12)]
    frame = pd.DataFrame(rows)
    assert keep_rows(frame) == keep_rows(iter(rows)) != keep_rows(rows[:11])
    small = {"decoding": {"max_reasoning_tokens": 2}, "evaluation": {"splits": ["test"]}, "steps": 0}
    first = optimize(str(tiny_folder), rows=frame, out=tmp_path / "run", **small)
    again = optimize(str(tiny_folder), rows=frame.copy(), out=tmp_path / "run", **small)
    assert first == again
    assert first.task["rows_sha256"] == load(keep_rows(rows)).provenance["rows_sha256"]
    for bad, message in (
        ([], "rows: there are no rows."),
        (["text"], "rows: row 0 is a str; give a DataFrame, or mappings from column to value."),
        ([{"question": object()}], "rows: row 0: 'question' is a object; give text, a number, a truth value or a list"),
    ):
        with pytest.raises(DataError) as error:
            optimize(str(tiny_folder), rows=bad)
        assert str(error.value).startswith(message)

"""Records of other programs as rows: logs of Inspect and samples of lm-eval, made by the real ones (tests/others)."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from greater_ray.config import TaskConfig
from greater_ray.errors import GreaterRayError
from greater_ray.problem import inferred
from greater_ray.protocols import Task
from greater_ray.tasks import load_task

LOGS = Path(__file__).parents[2] / "others" / "logs"


def load(file: Path | str, **settings: object) -> Task:
    return load_task(TaskConfig(name="rows", rows=str(file), train_size=2, dev_size=2, test_size=2, **settings))


def rows(task: Task) -> list[tuple[str, str]]:
    """All questions and labels, in the order of the file."""
    every = [*task.train(), *task.dev(), *task.test()]
    return [(row.question, row.label) for row in sorted(every, key=lambda row: int(row.id.split("#")[1]))]


@pytest.mark.parametrize(
    ("file", "form", "first"),
    [
        ("choices.eval", "letter", ("What is 1 + 4?\nOptions:\n(A) 4\n(B) 5\n(C) 6", "B")),
        (
            "chat.json",
            "number",
            ("The red box holds 1 marbles, and the blue box holds 3 more than the red one does. "
             "How many marbles are there in all?", "5"),
        ),
        ("several.eval", "text", ("Name the colour that begins with re.", "red")),
        ("samples_letters.jsonl", "letter", ("What is 1 + 4?\nA. 4\nB. 5\nC. 6", "B")),
        ("samples_options.jsonl", "letter", ("What is 1 + 4?\nOptions:\n(A) 4\n(B) 5\n(C) 6", "B")),
        ("samples_marbles.jsonl", "number", ("Ann has 1 marbles and finds 3 more. How many has she?", "4")),
        (
            "samples_passages.jsonl",
            "yes-no",
            ("The box number 1 holds a key and nothing else.\nQuestion: is there a key in the box number 1?", "yes"),
        ),
    ],
)  # fmt: skip
def test_a_record_is_six_rows_with_the_question_alone(file: str, form: str, first: tuple[str, str]) -> None:
    """Epochs and filters repeat samples; descriptions, worked examples and earlier turns are no part of a question."""
    task = load(LOGS / file)
    assert task.answer_type == form
    found = rows(task)
    assert len({question for question, _ in found}) == len(found) == 6
    assert found[0] == first
    told = "samples of lm-eval" if file.startswith("samples") else "a log of Inspect"
    assert told in (inferred(task) or "")
    assert told in task.provenance["read_as"]


def test_several_targets_are_several_right_answers() -> None:
    assert all(row.references == (row.label.title(),) for row in load(LOGS / "several.eval").train())


def test_fields_of_a_doc_are_columns() -> None:
    task = load(LOGS / "samples_options.jsonl", question_column="doc.question", choices_column="doc.choices",
                answer_column="doc.answer")  # fmt: skip
    assert rows(task) == rows(load(LOGS / "samples_options.jsonl"))
    task = load(LOGS / "samples_passages.jsonl", question_template="{{ doc.question }} ({{ doc.passage }})")
    assert rows(task)[0][0] == "is there a key in the box number 1 (The box number 1 holds a key and nothing else.)"


def test_an_older_log_without_zstandard_and_one_that_did_not_end_are_read(tmp_path: Path) -> None:
    sample = {"id": 1, "epoch": 1, "input": "attachment://x", "target": "4", "attachments": {"x": "2 + 2?"}}
    ids = {"eval": {"dataset": {"sample_ids": [3, 2, 1, 4, 5, 6]}}}
    path = tmp_path / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps(ids))
        for k in range(1, 7):
            content = {**sample, "id": k, "attachments": {"x": f"{k} + 2?"}, "target": str(k + 2)}
            archive.writestr(f"samples/{k}_epoch_1.json", json.dumps(content))
    assert [question for question, _ in rows(load(path))][:3] == ["3 + 2?", "2 + 2?", "1 + 2?"]


def sample(k: int, **more: Any) -> dict[str, Any]:
    doc = {"text": f"film number {k}", "label": k % 2}
    arguments = {
        f"gen_args_{i}": {"arg_0": f"{doc['text']}. Good?", "arg_1": f" {w}"} for i, w in enumerate(("no", "yes"))
    }
    return {"doc_id": k, "doc": doc, "target": str(k % 2), "arguments": arguments, "filter": "none", **more}


def written(path: Path, samples: list[Any]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    return path


def test_chat_messages_older_arguments_and_numbers_that_json_does_not_know_are_read(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "film number 0"},
             {"role": "assistant", "content": "no"}, {"role": "user", "content": "Tell: film number {}"}]  # fmt: skip
    samples = [
        sample(k, arguments=[[json.dumps(turns).replace("{}", str(k)), w] for w in (" no", " yes")], acc=float("nan"))
        for k in range(6)
    ]
    found = rows(load(written(tmp_path / "samples_chat.jsonl", samples)))
    assert found[:2] == [("film number 0", "no"), ("film number 1", "yes")]


def test_words_behind_a_question_are_no_part_of_it_though_one_is_the_target(tmp_path: Path) -> None:
    samples = []
    for k in range(6):
        doc = {"topic": "films", "claim": f"Film number {k} is long", "answer": "no"}
        text = f"Claims about films, worked out.\n\nTopic: films\nClaim: {doc['claim']}.\nAnswer yes or no:"
        samples.append(sample(k, doc=doc, target="no", arguments=[[text, {"until": []}]]))
    found = rows(load(written(tmp_path / "s.jsonl", samples), answer_type="yes-no"))
    assert found[1] == ("films\nClaim: Film number 1 is long.", "no")


BAD_SAMPLES: list[tuple[dict[str, Any], str]] = [
    ({"target": "7"}, "line 2: the target '7' is neither the number nor the text of one of 2 options."),
    ({"arguments": {"gen_args_0": {"arg_0": "film number 1"}}}, "how likely a text is"),
    ({"arguments": 3}, "what was asked (arguments) is no text."),
    (
        {"arguments": [["a he", "runs"], ["a she", "runs"]]},
        "put it together from the doc's fields by task.question_template",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), BAD_SAMPLES)
def test_a_sample_that_is_no_question_and_answer_is_named(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    path = written(tmp_path / "s.jsonl", [sample(0), sample(1, **wrong), *(sample(k) for k in range(2, 6))])
    with pytest.raises(GreaterRayError) as caught:
        load(path)
    assert told in str(caught.value)
    assert f"'{path}', line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"{}", "is no log of Inspect, the only .json that is read; write other rows as JSONL"),
        ("a.json", b'{"results": {}, "configs": {}}', "the rows are in the file samples_*.jsonl beside it"),
        ("a.json", b'{"eval": {}, "status": "error"}', "is a log of Inspect without samples"),
        ("a.json", b"\xff{", "holds what is not valid JSON"),
        ("a.json", b'{"eval": {}, "status": "success", "samples": [{"id": 1}]}', "line 1: is no sample of Inspect"),
        ("a.eval", b"", "is no whole log of Inspect"),
        ("a.eval", b"PK nothing", "is no whole log of Inspect"),
        ("b.eval", None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_is_no_log_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GreaterRayError) as caught:
        load(tmp_path / name)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_log_is_never_read_in_part(tmp_path: Path) -> None:
    """Each byte in the middle of a real log is changed in turn, and the log cut short: never other rows."""
    whole = (LOGS / "several.eval").read_bytes()
    right = rows(load(LOGS / "several.eval"))
    path = tmp_path / "a.eval"
    for place in range(100, len(whole), 1171):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            told = ""
            try:
                assert rows(load(path)) == right, place
            except GreaterRayError as error:
                told = str(error)
            assert not told or "Inspect" in told, place


@pytest.mark.parametrize(("place", "value", "told"), [(10, 97, "compression"), (8, 1, "encrypted")])
def test_a_log_that_is_packed_in_an_unknown_way_or_encrypted_is_one_sentence(
    place: int, value: int, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
    content = bytearray(path.read_bytes())
    # The method, or the flags, in the entry of the archive's directory and two bytes earlier in front of the member.
    entry = content.index(b"PK\x01\x02")
    content[entry + place] = content[place - 2] = value
    path.write_bytes(content)
    with pytest.raises(GreaterRayError, match=f"is no whole log of Inspect .*{told}"):
        load(path)


def test_pictures_and_several_right_letters_are_refused(tmp_path: Path) -> None:
    def log(**more: Any) -> Path:
        samples = [
            {"id": k, "epoch": 1, "input": f"{k}?", "target": "A", "choices": ["x", "y"], **more} for k in range(6)
        ]
        path = tmp_path / "log.json"
        path.write_text(
            json.dumps({"version": 2, "status": "success", "eval": {}, "samples": samples}), encoding="utf-8"
        )
        return path

    picture = [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]
    for more, told in (
        ({"input": picture}, "holds a part of type 'image'; rows are text alone"),
        ({"target": ["A", "B"]}, "2 of the choices are right; an answer is one letter"),
        ({"target": "C"}, "the target 'C' is no letter of the 2 choices"),
        ({"choices": [1, 2]}, "the choices are no list of texts"),
        ({"input": [{"role": "system", "content": "x"}]}, "hold no turn of a user"),
        ({"target": ""}, "the target '' is no letter"),
    ):
        with pytest.raises(GreaterRayError, match=told):
            load(log(**more))

"""Labels of a user's own: inferred or given, read by likelihood, and gold answers that can never be right."""

import csv
import json
from pathlib import Path

import pytest

from examples.tickets import tickets
from greater_ray.assembly import load_subject, resolve_config
from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.protocols import Task, rows_of
from greater_ray.runs import run_config
from greater_ray.tasks import extractor, load_task
from greater_ray.types import LossSpec, TokenIds
from greater_ray.work import Answers, EncodePrompt, Rollouts

TEAMS = ("account access", "billing", "returns", "shipping", "technical")


def ticket_file(folder: Path) -> str:
    path = folder / "tickets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "answer"), *tickets(100)])
    return str(path)


def rows_with(folder: Path, answers: list[str], name: str = "mine.jsonl") -> str:
    path = folder / name
    lines = [json.dumps({"question": f"question {k}", "answer": answers[k % len(answers)]}) for k in range(30)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def load(path: str, **settings: object) -> Task:
    return load_task(TaskConfig.model_validate({"name": "rows", "rows": path, **settings}))


def test_few_labels_of_any_words_are_a_closed_set_that_the_extractor_names(tmp_path: Path) -> None:
    task = load(ticket_file(tmp_path))
    assert (task.answer_type, task.form.choices) == ("choice", TEAMS)
    assert task.provenance["answer_type_from"] == f"inferred: each of 100 answers is one of {', '.join(TEAMS)}"
    assert task.provenance["choices"] == list(TEAMS)
    text, label_prefix, choices = extractor(task, "plain")
    assert text == f"Therefore, the final answer ({' or '.join(TEAMS)}) is"
    assert (label_prefix, choices) == (" ", TEAMS)


@pytest.mark.parametrize(
    ("answers", "answer_type", "labels"),
    [
        (["A.", "B.", "[C]"], "letter", {"A", "B", "C"}),
        (["True.", "false"], "boolean", {"True", "False"}),
        (["T", "F"], "boolean", {"T", "F"}),
        (["y", "n"], "yes-no", {"y", "n"}),
        (["Yes.", "No."], "yes-no", {"Yes", "No"}),
        (["x\n#### 1,000", "y\n#### 7"], "number", {"1000", "7"}),
        (["yes", "no", "unclear"], "choice", {"yes", "no", "unclear"}),
        (["Spam", "spam", "not spam"], "choice", {"Spam", "not spam"}),
        (["*", "+", "-"], "choice", {"*", "+", "-"}),
        (["C", "C++"], "choice", {"C", "C++"}),
    ],
)
def test_gold_answers_find_their_type_and_read_as_themselves(tmp_path: Path, answers, answer_type, labels) -> None:
    task = load(rows_with(tmp_path, answers))
    rows = [row for split in ("train", "dev", "test") for row in rows_of(task, split)]
    assert task.answer_type == answer_type
    assert {row.label for row in rows} == labels
    assert all(task.score(row, "", row.label).score == 1.0 for row in rows)


@pytest.mark.parametrize(
    ("answers", "settings", "message"),
    [
        (["one\ntwo", "three"], {}, "line 1: the answer 'one\\ntwo' has several lines, but a reply ends with its line"),
        (["one\u2028two", "three"], {}, "line 1: the answer 'one\\u2028two' has several lines"),
        (["*", "+"], {"answer_type": "text"}, "line 1: the answer '*' can never be right: it is not read as itself"),
        (["5!", "5?"], {"answer_type": "text"}, "the answers '5!' (line 1) and '5?' are read as the same text"),
        (
            ["legal", "billing"],
            {"choices": "billing, returns"},
            "the answer 'legal' is not a 'choice' (billing, returns)",
        ),
    ],
)
def test_a_gold_answer_that_can_never_be_right_is_refused(tmp_path: Path, answers, settings, message: str) -> None:
    with pytest.raises(DataError) as error:
        load(rows_with(tmp_path, answers), **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"choices": "billing"}, "task.choices: needs two labels or more"),
        ({"choices": ["a", "A "]}, "task.choices: 'a' and 'A' are the same label"),
        ({"choices": "a,b", "answer_type": "number"}, "task.choices: goes with task.answer_type choice, not with 'num"),
        ({"metric": "f1", "answer_type": "letter"}, "task.metric: goes with task.answer_type text"),
        ({"metric": "f2"}, "task.metric: 'f2' is unknown; allowed: "),
        ({"tolerance": 0.1, "answer_type": "text"}, "task.tolerance: goes with task.answer_type number"),
        ({"reading": "likelihood", "answer_type": "text"}, "task.reading: 'likelihood' compares choices, but answers"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(rows_with(tmp_path, ["some text", "other text"]), **settings)
    assert str(error.value).startswith(message)


def test_a_graded_metric_scores_between_right_and_wrong(tmp_path: Path) -> None:
    task = load(rows_with(tmp_path, ["the cat sat down", "a dog"]), metric="f1")
    row = next(row for row in task.train() if row.target == "the cat sat down")
    score = task.score(row, "The answer is: the cat.", "the cat ran")
    assert (round(score.score, 3), score.correct) == (0.4, False)
    assert (task.metric, task.provenance["metric"]) == ("f1", "f1")


def test_a_row_with_several_right_answers_is_scored_by_the_best(tmp_path: Path) -> None:
    rows = [{"question": f"q{k}", "answer": ["the cat sat", "a dog ran away"]} for k in range(12)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    row = load(str(path)).train()[0]
    assert (row.target, row.label, row.references) == ("the cat sat", "the cat sat", ("a dog ran away",))
    assert load(str(path)).score(row, "", "A dog ran away.").score == 1.0
    mean = load(str(path), metric="rouge-l-mean")
    assert 0.0 < mean.score(row, "", "the cat sat").score < 1.0
    with pytest.raises(ConfigError, match=r"task\.answer_type: answers of type 'number' have one right answer, but"):
        load(str(path), answer_type="number")


def test_a_tolerance_makes_answers_numbers_that_may_be_a_little_off(tmp_path: Path) -> None:
    task = load(rows_with(tmp_path, ["100", "200"]), tolerance=0.01)
    row = next(row for row in task.train() if row.label == "100")
    assert [task.score(row, "", text).correct for text in ("101", "102")] == [True, False]


def settings_for(path: str, folder: Path, **more: object) -> dict:
    return {
        "model": str(folder),
        "task": {"name": "rows", "rows": path, "train_size": 8, "dev_size": 0, "test_size": 6, "reading": "likelihood"},
        "decoding": {"max_reasoning_tokens": 3, "max_answer_tokens": 3},
        "evaluation": {"splits": ["test"]},
        "shard_size": 4,
        **more,
    }


def test_the_likeliest_choice_is_the_answer_and_what_was_generated_stands_beside_it(
    tmp_path: Path, tiny_folder: Path
) -> None:
    path = ticket_file(tmp_path)
    record = run_config(resolve_config(settings_for(path, tiny_folder, method="zero-shot-cot")), tmp_path / "out")
    (evaluation,) = record.evaluations
    subject = load_subject(record.config)
    prompt: TokenIds = evaluation.prompt_ids
    assert prompt == subject.model.ask(EncodePrompt(record.best.text))
    (answers,) = subject.model.ask(Answers(subject.task.test(), [prompt], score_choices=True))
    for row, answer in zip(evaluation.examples, answers, strict=True):
        assert answer.choice_nlls is not None
        likeliest = TEAMS[answer.choice_nlls.index(min(answer.choice_nlls))]
        assert row.prediction == likeliest
        assert row.score == float(likeliest == row.target)
        assert row.generated_prediction == subject.task.form.read(answer.answer_text)
        assert row.choice_nlls is not None
        assert tuple(row.choice_nlls) == TEAMS
    assert evaluation.unreadable_rate == 0.0
    assert evaluation.accuracy == sum(r.score for r in evaluation.examples) / 6
    assert evaluation.generated_accuracy is not None


@pytest.mark.parametrize("method", ["greater", "autoprompt", "pez"])
def test_methods_search_with_the_loss_on_choices(method: str, tmp_path: Path, tiny_folder: Path) -> None:
    small = {"greater": {"top_k": 4, "proposal_samples": 2, "min_candidates": 1, "fluency_weight": 0.0}}.get(
        method, {"batch_size": 4}
    )
    own = settings_for(
        ticket_file(tmp_path), tiny_folder, method=method, method_config={"label_loss": "choice", **small},
        budget={"steps": 2},
    )  # fmt: skip
    record = run_config(resolve_config(own), tmp_path / "out")
    assert record.steps == 2
    assert record.config.method_config["label_loss"] == "choice"
    model = load_subject(record.config).model
    prompt, rows = record.initial.ids, load_subject(record.config).task.train()
    spec = LossSpec(fluency="nll", fluency_weight=0.0, label="choice")
    without = None if method == "greater" else ()  # the others score without reasoning
    (rollouts,) = model.ask(Rollouts(rows, [prompt], spec, reasoning_of=without))
    known = {p.ids: p.loss for p in (record.initial, *record.finalists)}
    assert known[prompt] == pytest.approx(sum(r.choice_ce or 0 for r in rollouts) / len(rows), rel=1e-5)
    assert known[prompt] != pytest.approx(sum(r.label_ce for r in rollouts) / len(rows), rel=1e-3)

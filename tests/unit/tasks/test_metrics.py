"""Scores of free text from 0 to 1, against the libraries and by hand."""

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from greater_ray.errors import ConfigError
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._metrics import METRICS, metric


@pytest.mark.parametrize(
    ("name", "text", "gold", "score"),
    [
        ("exact", "Paris.", "paris", 1.0),
        ("exact", "in Paris", "paris", 0.0),
        ("contains", "It lies in Paris, France", "Paris", 1.0),
        ("contains", "a comparison", "Paris", 0.0),
        ("regex", "on 2024-05-01", r"\d{4}-\d\d-\d\d", 1.0),
        ("regex", "in May", r"\d{4}", 0.0),
        ("f1", "The cat sat", "a cat sat down", 2 * 2 / (2 + 3)),
        ("f1", "dog", "cat", 0.0),
        ("json", 'Sure: {"a": 1, "b": "X"}', '{"a": 1.0, "b": "x"}', 1.0),
        ("json", '```json\n{"a": 1, "b": 2}\n```', '{"a": 1, "b": 3}', 0.5),
        ("json", '{"a": 1, "c": 2}', '{"a": 1}', 0.5),
        ("json", "no object", '{"a": 1}', 0.0),
        ("json", "[1, 2]", "[1, 2]", 1.0),
        ("json", '{"a": true}', '{"a": 1}', 0.0),
    ],
)
def test_text_is_scored(name: str, text: str, gold: str, score: float) -> None:
    assert metric(name).score(text, (gold,)) == pytest.approx(score)


def test_overlap_scores_are_those_of_the_libraries() -> None:
    text, gold = "the airport serves the city of Aarhus", "Aarhus Airport serves the city of Aarhus in Denmark"
    rouge = RougeScorer(["rougeL"], use_stemmer=False).score(gold, text)["rougeL"].fmeasure
    assert metric("rouge-l").score(text, (gold,)) == rouge
    assert metric("chrf").score(text, (gold,)) == sacrebleu.sentence_chrf(text, [gold]).score / 100
    assert metric("bleu").score(text, (gold,)) == sacrebleu.sentence_bleu(text, [gold]).score / 100


def test_the_best_reference_counts_or_their_mean() -> None:
    references = ("the cat sat", "a dog ran away")
    scores = [metric("rouge-l").score("the cat sat", (reference,)) for reference in references]
    assert metric("rouge-l").score("the cat sat", references) == max(scores) == 1.0
    assert metric("rouge-l-mean").score("the cat sat", references) == pytest.approx(sum(scores) / 2)


@pytest.mark.parametrize("name", METRICS)
def test_a_text_that_is_its_own_reference_scores_one_and_nothing_scores_below_zero(name: str) -> None:
    for text in ('{"a": 1}', "[1, 2]", "1") if name == "json" else ("plain words", "ends here.", "1"):
        assert metric(name).score(text, (text,)) == pytest.approx(1.0)
        assert 0 <= metric(name).score("something else altogether", (text,)) <= 1


def test_a_metric_of_ones_own_gets_text_and_row_and_its_faults_name_the_row(tmp_path, monkeypatch) -> None:
    (tmp_path / "mymetrics.py").write_text(
        "def length(text, row):\n    return min(1, len(text) / int(row['wanted']))\n"
        "def broken(text, row):\n    return text['x']\n"
        "def large(text, row):\n    return 7\n"
        "NUMBER = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"id": "rows/a.csv#3", "wanted": "10"}
    form = AnswerForm("text", metric=metric("mymetrics:length"))
    assert form.score(form.read("12345"), "label", (), row) == 0.5
    with pytest.raises(ConfigError, match=r"task.metric: 'mymetrics:broken' fails on row 'rows/a.csv#3' \(TypeError"):
        metric("mymetrics:broken").score("x", ("y",), row)
    with pytest.raises(ConfigError, match=r"'mymetrics:large' gives 7.0 for row 'rows/a.csv#3'; a score is a number"):
        metric("mymetrics:large").score("x", ("y",), row)
    with pytest.raises(ConfigError, match=r"'mymetrics:NUMBER' is no function"):
        metric("mymetrics:NUMBER")
    with pytest.raises(ConfigError, match=r"cannot be imported"):
        metric("mymetrics:nothing")
    with pytest.raises(ConfigError, match=r"'exakt'.* Did you mean 'exact'\?"):
        metric("exakt")

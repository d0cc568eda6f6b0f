"""The page on the method, against counts made another way."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from greater_ray import load
from greater_ray.files import Lines
from greater_ray.records import StepRecord
from greater_ray.report.gradient import MethodPage, fluency_parts, rank_correlation
from tests.made_reports import RECORDED, altered

RUN = RECORDED / "greater-finished"


def _steps() -> list[StepRecord]:
    return Lines(RUN / "steps.jsonl").read_as(StepRecord.model_validate)


def test_rank_correlation_is_scipys_with_ties():
    rng = random.Random(0)
    for _ in range(50):
        a, b = ([float(rng.randrange(4)) for _ in range(7)] for _ in range(2))
        expected = float(spearmanr(a, b).statistic) if len(set(a)) > 1 and len(set(b)) > 1 else None
        found = rank_correlation(a, b)
        assert found == (pytest.approx(expected) if expected is not None else None)


def test_ranks_and_worse_steps_are_counted_over_all_steps():
    record, page = load(RUN).cells[0].record, MethodPage()
    page.add("greater", "one", _steps(), record)
    (figures,) = page.to_json()
    raw = [json.loads(line) for line in (RUN / "steps.jsonl").read_text().splitlines()]
    first, losses = 0, [record.initial.loss]
    for step in raw:
        by_gradient = sorted(step["candidates"], key=lambda c: c["gradient"])
        first += by_gradient[0]["loss"] == min(c["loss"] for c in by_gradient)
        losses.append(step["loss"])
    assert figures["histogram"] == [first, len(raw) - first]
    assert figures["expected"] == [len(raw) / 2] * 2
    assert figures["worse"] == sum(b > a for a, b in itertools.pairwise(losses))
    assert (figures["steps"], figures["measured"], figures["interval"]) == (len(raw), len(raw), None)
    assert sum(n for _, _, n in figures["byPosition"]) == sum(n for _, _, n in figures["byStep"]) == len(raw)


def test_equally_good_candidates_share_their_step(tmp_path: Path):
    def tie(record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        for candidate in steps[0]["candidates"]:
            candidate["loss"] = 1.0
        for candidate in steps[1]["candidates"]:
            candidate["loss"] = None

    folder = altered(tmp_path / "run", tie)
    steps, page = Lines(folder / "steps.jsonl").read_as(StepRecord.model_validate), MethodPage()
    page.add("greater", "one", steps[:2], None)
    (figures,) = page.to_json()
    assert (figures["ranked"], figures["histogram"], figures["correlation"]) == (1, [0.5, 0.5], None)


def test_an_interval_takes_cells_not_steps_as_independent():
    page = MethodPage()
    for cell in range(5):
        page.add("greater", str(cell), _steps(), None)
    (figures,) = page.to_json()
    assert figures["cells"] == 5
    low, high = figures["interval"]
    assert low == high == pytest.approx(figures["correlation"]), "five equal cells tell of no spread"


def test_the_two_terms_of_the_loss_sum_to_the_criterion_of_the_search():
    record = load(RUN).cells[0].record
    assert record.config.evaluation.splits[0] == "train"
    label, fluency, found_label, found_fluency = fluency_parts(record) or (math.nan,) * 4
    assert label + fluency == pytest.approx(record.initial.loss)
    assert found_label + found_fluency == pytest.approx(record.best.loss)
    (other,) = load(RECORDED / "opro-finished").cells
    assert fluency_parts(other.record) is None, "its criterion has no such term"

"""The benchmark of the cost model: its mechanics with a tiny model, and its pictures."""

import json
from pathlib import Path

import pytest

from benchmarks import predicted
from benchmarks.predicted import AROUND, BASE, TINY
from greater_ray.prediction import Hardware

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("predicted")
    file = folder / "found.json"
    assert predicted.main(predicted.parse_arguments(["--tiny", "--save", str(file)])) == 0
    return json.loads(file.read_text()), file


def test_the_tiny_run_measures_every_part_without_a_model_of_others(saved):
    value, _ = saved
    assert Hardware.model_validate(value["hardware"]).layer > 0
    assert [tuple(each["load"][name] for name in ("rows", "prompt", "reasoning", "candidates"))
            for each in value["found"]] == list(TINY)  # fmt: skip
    for each in value["found"]:
        assert set(each["measured"]) == set(each["predicted"]) == set(predicted.PARTS)
        assert all(seconds > 0 for part in ("measured", "predicted") for seconds in each[part].values())
        assert each["memory"] > each["said"]["weights"] > 0


def test_what_was_saved_is_reported_and_drawn_again_with_its_points(saved, tmp_path, capsys):
    _, file = saved
    options = predicted.parse_arguments(["--tiny", "--load", str(file), "--figures", str(tmp_path)])
    assert predicted.main(options) == 0
    assert capsys.readouterr().out.count("| step |") == len(TINY)
    for name in ("predicted_time.svg", "predicted_memory.svg"):
        assert (tmp_path / name).read_text().count("<use") > len(TINY), "points and ticks"


def test_points_of_the_figures_differ_from_the_base_in_one_number():
    for shape in AROUND:
        assert sum(own != other for own, other in zip(shape, BASE, strict=True)) == 1


def test_the_bars_are_missed_where_a_prediction_is_far_off():
    found = {"load": {}, "measured": {"gradient": 1.0, "candidates": 1.0}, "spread": {}, "memory": 100}
    near = {"predicted": {"gradient": 1.2, "candidates": 1.2}, "said": {"peak": 110}}
    assert predicted.report(found | near)
    assert not predicted.report(found | near | {"said": {"peak": 120}})
    assert not predicted.report(found | near | {"predicted": {"gradient": 1.2, "candidates": 1.4}})

"""One method against all others of a grid: means, paired differences, Holm, and what is said of its own start."""

from pathlib import Path

import pandas as pd
import pytest

from greater_ray import load
from greater_ray.errors import ConfigError
from greater_ray.results.against import START, against, compare, markdown
from greater_ray.results.frames import ANSWER_COLUMNS
from greater_ray.statistics.comparison import compare_over_tasks

RECORDED = Path(__file__).parents[2] / "recorded" / "0.1.0"
# Which of 40 rows each method answers rightly: the first ones, by seed.
RIGHT = {"ours": (30, 32), "weak": (10, 11), "close": (29, 30)}


def answers(skip: tuple[str, str] = ("", "")) -> pd.DataFrame:
    lines = []
    for method, counts in RIGHT.items():
        for task in ("bbh/a", "bbh/b"):
            if (method, task) == skip:
                continue
            for seed, count in enumerate(counts):
                for when, right in (("before", 12), ("after", count)):
                    # Out of order: rows are paired by their names.
                    for row in range(39, -1, -1):
                        known = {"method": method, "task": task, "seed": str(seed), "split": "test", "when": when}
                        scored = {"row": f"r{row:02}", "score": float(row < right), "label_ce": 1.0 + (row >= right)}
                        lines.append(dict.fromkeys(ANSWER_COLUMNS) | known | scored)
    return pd.DataFrame(lines).astype(ANSWER_COLUMNS)


def test_methods_are_compared_in_pairs_of_rows_and_listed_by_accuracy():
    found = compare(answers(), {"ours": 900, "weak": 1000, "close": 800}, "ours")
    assert [row.name for row in found.rivals] == ["ours", "close", START, "weak"]
    own, close, start, weak = found.rivals
    assert (own.accuracy, own.by_task, own.tokens) == (31 / 40, {"bbh/a": 31 / 40, "bbh/b": 31 / 40}, 900)
    assert (own.scores, own.p_value) == (None, None)
    assert own.loss == pytest.approx(1 + 9 / 40)
    assert weak.scores is not None
    assert weak.losses is not None
    assert weak.scores.difference.estimate == pytest.approx(20.5 / 40)
    assert weak.losses.difference.estimate == pytest.approx(-20.5 / 40)
    tables = {name: [[float(k < n) for k in range(40)] for n in counts] for name, counts in RIGHT.items()}
    alone = compare_over_tasks([tables["weak"]] * 2, [tables["ours"]] * 2)
    assert weak.scores.difference == pytest.approx(alone.difference)
    assert weak.scores.p_value == pytest.approx(alone.p_value)
    assert weak.p_value == pytest.approx(min(3 * alone.p_value, 1.0), rel=1e-6), "the smallest of three"
    assert close.p_value is not None
    assert close.p_value > 0.05
    assert start.scores is not None
    assert start.scores.difference.estimate == pytest.approx(19 / 40)
    scores, losses = found.changes["bbh/a"]
    assert scores.difference.estimate == pytest.approx(19 / 40)
    assert losses is not None
    assert losses.difference.estimate == pytest.approx(-19 / 40)


def test_a_method_that_has_not_finished_all_tasks_is_left_out():
    found = compare(answers(skip=("weak", "bbh/b")), {}, "ours")
    assert [row.name for row in found.rivals] == ["ours", "close", START]


def test_losses_that_a_model_does_not_tell_are_not_compared():
    found = compare(answers().assign(label_ce=pd.NA).astype(ANSWER_COLUMNS), {}, "ours")
    assert [row.losses for row in found.rivals] == [None] * 4
    assert "nan" not in markdown(found)


def test_the_tables_in_words():
    lines = markdown(compare(answers(), {"ours": 900, "weak": 1000, "close": 800}, "ours")).splitlines()
    assert lines[0] == "| method | accuracy | a | b | ours is ahead by | p (Holm) | label loss | tokens |"
    assert lines[2] == "| ours | 77.5 % | 77.5 | 77.5 |  |  | 1.225 | 900 |"
    assert lines[5].startswith("| weak | 26.2 % | 26.2 | 26.2 | +51.2 [")
    assert " * | 1.738 | 1,000 |" in lines[5]
    assert lines[9].startswith("| bbh/a | +47.5 [")


def test_a_folder_is_read_and_what_is_not_in_it_is_told():
    results = load(RECORDED / "grid-finished")
    found = against(results, results.cells[0].labels["method"])
    assert found.rivals[0].accuracy >= found.rivals[-1].accuracy
    assert START in {row.name for row in found.rivals}
    with pytest.raises(ConfigError, match="'nobody' is unknown; allowed: "):
        against(results, "nobody")
    with pytest.raises(ConfigError, match=r"no cell of '[a-z]+' has finished on the test rows"):
        compare(answers()[:0], {}, "ours")
    two = pd.concat([answers().assign(model=name) for name in ("tiny", "small")])
    with pytest.raises(ConfigError, match="on one model, and there are tiny, small"):
        compare(two, {}, "ours")

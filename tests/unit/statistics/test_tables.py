"""Many comparisons: Holm's adjustment against printed values, and what noise makes of a table."""

import numpy as np
import pytest

from greater_ray.statistics.pairs import mcnemar
from greater_ray.statistics.tables import Tally, holm, tally, verdict


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, then 2 x 0.03 and 1 x 0.04, which may not fall below it; in the order given.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    with pytest.raises(ValueError, match="0 to 1"):
        holm([0.5, float("nan")])


def test_holm_rejects_what_its_step_down_procedure_rejects():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = rng.random(8) ** 3
        order = np.argsort(p_values)
        kept = next((k for k, i in enumerate(order) if p_values[i] >= 0.05 / (8 - k)), 8)
        assert {i for i, p in enumerate(holm(p_values.tolist())) if p < 0.05} == set(order[:kept].tolist())


def test_holm_keeps_false_alarms_of_a_whole_table_at_five_percent():
    tables = np.random.default_rng(1).random((1000, 21))
    assert np.mean([min(holm(table.tolist())) < 0.05 for table in tables]) == pytest.approx(0.05, abs=0.015)
    assert np.mean(tables.min(axis=1) < 0.05) > 0.6


def test_a_draw_is_a_difference_that_is_not_significant():
    differences, p_values = [0.2, -0.3, 0.1, 0.0, -0.01], [0.001, 0.02, 0.2, 1.0, 0.05]
    assert tally(differences, p_values) == Tally(wins=1, draws=3, losses=1)
    assert tally(differences, holm(p_values)) == Tally(wins=1, draws=4, losses=0)
    assert [verdict(p) for p in p_values] == ["significant"] * 2 + ["not significant"] * 3
    with pytest.raises(ValueError, match="argument"):
        tally([0.1], [])


def test_noise_makes_draws():
    rng = np.random.default_rng(2)
    total = np.zeros(3)
    for _ in range(50):
        wins = rng.binomial(240, 0.5, 20)
        total += tally((wins - 120).tolist(), [mcnemar(int(w), 240 - int(w)) for w in wins])
    assert total[1] / total.sum() == pytest.approx(0.95, abs=0.015)

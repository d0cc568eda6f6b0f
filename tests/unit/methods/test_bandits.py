"""ProTeGi's evaluators: bonuses, orders and schedules, worked out by hand."""

from random import Random

import pytest

from greater_ray.methods._bandits import (
    Plan,
    Pull,
    Tally,
    bonuses,
    empty_tally,
    next_pull,
    pulled,
    ranking,
    rejection_sizes,
)


def tally(counts: tuple[int, ...], rights: tuple[int, ...], turn: int) -> Tally:
    num = len(counts)
    return Tally(counts=counts, rights=rights, alive=tuple(range(num)), latest=(0.0,) * num, turn=turn)


@pytest.mark.parametrize(
    ("evaluator", "c", "turn", "expected"),
    [
        # sqrt(ln 4 / 32), sqrt(ln 4 / 64), sqrt(ln 4 / 0.001) with ln 4 = 1.386294
        ("ucb", 1.0, 4, [0.208139, 0.147176, 37.232976]),
        ("ucb", 2.0, 4, [0.416277, 0.294353, 74.465951]),
        ("ucb", 1.0, 1, [0.0, 0.0, 0.0]),  # ln 1 = 0: the second turn only exploits
        # sqrt(1 / 32), sqrt(1 / 64), sqrt(1 / 0.001), whatever the turn
        ("ucb-e", 1.0, 1, [0.176777, 0.125, 31.622777]),
        ("ucb-e", 2.0, 7, [0.5, 0.353553, 89.442719]),  # 2 * sqrt(2 / 32), ...
    ],
)
def test_the_bonus_of_an_arm(evaluator: str, c: float, turn: int, expected: list[float]):
    plan = Plan(evaluator, 1, exploration=c)
    assert bonuses(plan, (32, 64, 0), turn) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("evaluator", "c", "turn", "expected"),
    [
        # means 0.5, 0.625, 0 (never tried)
        ("ucb", 1.0, 1, (1, 0, 2)),
        ("ucb", 1.0, 4, (2, 1, 0)),  # 0.708, 0.772, 37.2
        ("ucb", 3.0, 4, (2, 0, 1)),  # 1.124, 1.067, 111.7
        ("ucb-e", 1.0, 1, (2, 1, 0)),  # 0.677, 0.750, 31.6
        ("ucb-e", 3.0, 1, (2, 0, 1)),  # 0.5 + 3 * sqrt(3 / 32) = 1.419, 0.625 + 3 * sqrt(3 / 64) = 1.275
    ],
)
def test_arms_are_tried_by_mean_plus_bonus(evaluator: str, c: float, turn: int, expected: tuple[int, ...]):
    known = tally((32, 64, 0), (16, 40, 0), turn)
    pull = next_pull(Plan(evaluator, 1, arms_per_round=3, exploration=c), known, Random(0))
    assert pull == Pull(expected, 32, turn)
    fewer = next_pull(Plan(evaluator, 1, arms_per_round=2, exploration=c), known, Random(0))
    assert fewer == Pull(expected[:2], 32, turn)


def test_the_first_turn_is_random_and_the_last_one_ends_it():
    plan = Plan("ucb", 1, rounds=2, arms_per_round=3, rows_per_pull=5)
    drawn = {next_pull(plan, empty_tally(6), Random(seed)).arms for seed in range(20)}
    assert len(drawn) > 5
    assert all(len(set(arms)) == 3 for arms in drawn)
    assert next_pull(plan, tally((5,) * 6, (1,) * 6, 1), Random(0)).arms == (0, 1, 2), "equal ones: the earlier first"
    assert next_pull(plan, tally((5,) * 6, (1,) * 6, 2), Random(0)) is None
    assert len(next_pull(plan, empty_tally(2), Random(0)).arms) == 2, "no more than there are"


@pytest.mark.parametrize(
    ("arms", "keep", "budget", "expected"),
    [
        # K = 3, logbar = 1/2 + 1/2 + 1/3 = 4/3; n = 97/4, 97/(8/3), 97/(4/3) = 24.25, 36.375, 72.75
        (5, 2, 100, [24, 12, 36]),
        # n = 17/4, 17/(8/3), 17/(4/3) = 4.25, 6.375, 12.75; a phase has 4 rows at least
        (5, 2, 20, [4, 4, 6]),
        # K = 1, logbar = 1/2; n = 31/(1/2)
        (2, 1, 32, [62]),
        (4, 4, 100, []),
        (3, 4, 100, []),
    ],
)
def test_the_schedule_of_successive_rejects(arms: int, keep: int, budget: int, expected: list[int]):
    assert rejection_sizes(arms, keep, budget) == expected


def test_successive_rejects_drops_the_worst_of_each_phase_by_its_own_rows():
    plan = Plan("successive-rejects", 2, rounds=1, arms_per_round=4, rows_per_pull=5)  # budget 20: 4, 4, 6 rows
    known = empty_tally(5)

    def turn(rights: list[int]) -> Pull:
        nonlocal known
        pull = next_pull(plan, known, Random(0))
        results = [[True] * right + [False] * (pull.num_rows - right) for right in rights]
        known = pulled(plan, known, pull, results)
        return pull

    assert turn([3, 4, 1, 1, 2]) == Pull((0, 1, 2, 3, 4), 4, 0)
    assert known.alive == (0, 1, 2, 4), "of two equally bad arms the last one goes"
    assert turn([3, 0, 4, 2]) == Pull((0, 1, 2, 4), 4, 1)
    assert known.alive == (0, 2, 4), "0 of 4 now, though 4 of 8 in all"
    assert turn([3, 6, 2]) == Pull((0, 2, 4), 6, 2)
    assert next_pull(plan, known, Random(0)) is None
    assert ranking(plan, known) == [(2, 1.0), (0, 0.5)]
    assert known.counts == (14, 8, 14, 4, 14)
    assert Tally.model_validate_json(known.model_dump_json()) == known


def test_with_nothing_to_reject_one_phase_tells_the_order():
    plan = Plan("successive-rejects", 4, rows_per_pull=4)
    pull = next_pull(plan, empty_tally(2), Random(0))
    assert pull == Pull((0, 1), 4, 0)
    known = pulled(plan, empty_tally(2), pull, [[True, False, False, False], [True, True, False, False]])
    assert next_pull(plan, known, Random(0)) is None
    assert ranking(plan, known) == [(1, 0.5), (0, 0.25)]


def test_brute_force_answers_the_same_rows_with_every_arm_a_few_arms_at_a_time():
    plan = Plan("brute-force", 2, rounds=2, arms_per_round=2, rows_per_pull=5)  # 20 answers, 5 arms: 4 each
    known, pulls = empty_tally(5), []
    while (pull := next_pull(plan, known, Random(0))) is not None:
        pulls.append(pull)
        known = pulled(plan, known, pull, [[arm in (2, 4)] * 4 for arm in pull.arms])
    assert pulls == [Pull((0, 1), 4, 0), Pull((2, 3), 4, 0), Pull((4,), 4, 0)]
    assert ranking(plan, known) == [(2, 1.0), (4, 1.0)]


def test_an_arm_that_was_never_tried_comes_last():
    known = tally((0, 8, 8), (0, 0, 2), 3)
    assert ranking(Plan("ucb", 3), known) == [(2, 0.25), (1, 0.0), (0, 0.0)]


def test_the_means_of_several_pulls_are_over_all_rows():
    plan = Plan("ucb", 1)
    known = pulled(plan, tally((4, 0), (1, 0), 1), Pull((0,), 8, 1), [[True] * 5 + [False] * 3])
    assert (known.counts, known.rights, known.means, known.turn) == ((12, 0), (6, 0), [0.5, 0.0], 2)

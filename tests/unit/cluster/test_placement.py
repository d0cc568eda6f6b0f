"""What fits where, and how the room is shared."""

import pytest

from greater_ray.cluster.grid import Wave
from greater_ray.cluster.placement import Demand, arranged, first_short
from greater_ray.grid.cells import Cell, expand_grid
from tests.grids import loaded

TWO_GPUS = {"CPU": 16.0, "GPU": 2.0}


def room(node: dict[str, float], gpus: float, *others: tuple[int | None, float, float]) -> list[int]:
    """Return how many replicas of one CPU and so many GPUs fit, and how many of the other demands."""
    return counts([(None, 1, gpus), *others], node)


def counts(demands: list[tuple[int | None, float, float]], *nodes: dict[str, float]) -> list[int]:
    return [len(found) for found in arranged([Demand("m", *demand) for demand in demands], nodes)]


def short(demands: list[tuple[int | None, float, float]], *nodes: dict[str, float]) -> str | None:
    """Return the first demand that does not fit: demands are (count, CPUs, GPUs), named a, b and so on."""
    named = [Demand(name, *demand) for name, demand in zip("abc", demands, strict=False)]
    found = first_short(named, nodes)
    return None if found is None else found.model


# -- what fits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpus", "number"), [(1.0, 2), (0.6, 2), (0.5, 4), (1 / 3, 6), (0.4, 4), (0.1, 16), (0.0, 16)])
def test_a_part_of_a_gpu_lies_on_one_gpu(gpus: float, number: int):
    assert room(TWO_GPUS, gpus) == [number]


@pytest.mark.parametrize(("gpus", "free", "number"), [(2, 2.0, 1), (2, 8.0, 4), (3, 8.0, 2), (2, 3.5, 1), (2, 1.9, 0)])
def test_several_gpus_are_whole_ones(gpus: float, free: float, number: int):
    assert room({"CPU": 16.0, "GPU": free}, gpus) == [number]


@pytest.mark.parametrize(("gpus", "free", "number"), [(1.0, 1.0, 1), (0.6, 1.5, 1), (0.5, 1.5, 3), (1.0, 0.0, 0)])
def test_what_others_use_of_a_gpu_is_left_to_them(gpus: float, free: float, number: int):
    assert room({"CPU": 16.0, "GPU": free}, gpus) == [number]
    assert room({"CPU": 0.0, "GPU": free}, gpus) == [0]


def test_a_replica_lies_on_one_node():
    assert counts([(None, 2, 0)], {"CPU": 3.0}, {"CPU": 3.0}) == [2]
    assert counts([(None, 1, 0.6)], *[{"CPU": 8.0, "GPU": 0.5}] * 2) == [0]
    assert counts([(None, 1, 1)], {"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0}) == [1]
    assert counts([(None, 1, 2)], *[{"CPU": 8.0, "GPU": 1.0}] * 2) == [0], "GPUs of two machines do not add up"
    assert counts([(None, 1, 2)], *[{"CPU": 8.0, "GPU": 3.0}] * 2) == [2]


def test_demands_fit_side_by_side_or_not():
    assert short([(2, 1, 0.6)], TWO_GPUS) is None
    assert short([(3, 1, 0.6)], TWO_GPUS) == "a"
    assert short([(2, 1, 0.6), (1, 1, 0.6)], TWO_GPUS) == "b"
    assert short([(2, 1, 0.6), (2, 1, 0.4)], TWO_GPUS) is None
    assert short([(1, 1, 0.5), (1, 1, 1), (1, 1, 0.5)], TWO_GPUS) is None
    assert short([(1, 1, 1), (2, 1, 1)], TWO_GPUS) is not None
    assert short([(2, 1, 1), (14, 1, 0)], TWO_GPUS) is None
    assert short([(2, 1, 1), (15, 1, 0)], TWO_GPUS) == "b"
    assert short([(2, 1, 0.5), (1, 1, 1), (1, 1, 2)], {"CPU": 8.0, "GPU": 4.0}) is None
    assert short([(2, 1, 0.6), (1, 1, 1), (1, 1, 2)], {"CPU": 8.0, "GPU": 4.0}) == "a"


def test_what_several_gpus_are_asked_for_is_said():
    assert Demand("m", 2, 1, 4).sentence() == "2 replicas of 'm' with 1 CPU and 4 GPU of one machine each"


def test_a_demand_that_is_open_needs_one_replica():
    assert short([(None, 1, 1)], TWO_GPUS) is None
    assert short([(None, 1, 1)], {"CPU": 4.0}) == "a"
    assert short([(None, 1, 0)]) == "a"


def test_small_replicas_leave_the_large_nodes_to_large_ones():
    small, large = {"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}
    assert short([(4, 1, 0), (1, 4, 1)], large, small) is None
    assert arranged([Demand("a", 2, 1, 0.5), Demand("b", 1, 1, 1)], [large, large]) == [[1, 1], [0]]
    # Spread, the large ones would leave no room for the last of the small ones.
    assert short([(2, 3, 0), (2, 2, 0)], {"CPU": 6.0}, {"CPU": 4.0}) is None


def test_replicas_are_spread_where_there_is_room():
    assert arranged([Demand("a", 2, 1, 0)], [{"CPU": 4.0}] * 3) == [[0, 1]]


# -- as many as fit ----------------------------------------------------------------------------------------------------


def test_models_that_compete_for_nothing_do_not_share():
    assert room(TWO_GPUS, 1, (None, 1, 0)) == [2, 14], "a task model on GPUs, a writer on CPUs"
    assert room(TWO_GPUS, 0.5, (None, 1, 1)) == [2, 1]
    assert room(TWO_GPUS, 0, (None, 1, 0)) == [8, 8]
    assert room(TWO_GPUS, 0, (12, 1, 0), (None, 1, 0)) == [2, 12, 2]


def test_every_model_gets_a_replica_before_another_gets_a_second():
    assert room({"CPU": 2.0, "GPU": 8.0}, 1, (None, 1, 0)) == [1, 1]
    assert room({"CPU": 6.0}, 0, (None, 4, 0)) == [2, 1]


# -- whose turn it is --------------------------------------------------------------------------------------------------


def test_the_cells_of_a_wave_are_mixed_in_proportion_to_replicas():
    cells = expand_grid(loaded("-", models=["a", "b"], methods=["greater"], seeds=list(range(6))))
    groups = [cells[:6], cells[6:]]

    def order(*replicas: int) -> str:
        models = [group[0].config.model for group in groups]
        demands = {model: Demand(model.name, n, 1, 0) for model, n in zip(models, replicas, strict=True)}
        mixed: list[Cell] = Wave(demands, groups).cells()
        assert [c for c in mixed if c.model == "a"] + [c for c in mixed if c.model == "b"] == cells
        return "".join(cell.model for cell in mixed)

    assert order(1, 1) == "abababababab"
    assert order(1, 3) == "bbabbbabaaaa"

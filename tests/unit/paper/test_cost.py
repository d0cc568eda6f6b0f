"""Hours of this machine for cells of the papers' tables: counted rows at the cost model's seconds, or what lacks."""

from dataclasses import replace

import pytest

from greater_ray.config import ModelConfig
from greater_ray.decoder_shape import shape_of
from greater_ray.grid.cells import Cell
from greater_ray.models.sizes import known, sizes
from greater_ray.paper.catalog import shared
from greater_ray.paper.cost import counted, here
from greater_ray.paper.plan import View, grid_plan, plan_table
from greater_ray.prediction import Known
from tests.unit.test_prediction import machine


@pytest.fixture(scope="module")
def cells() -> dict[str, Cell]:
    return {cell.config.method: cell for cell in grid_plan([plan_table("table1", View(scale="smoke"))]).cells}


def on(seconds: float) -> Known:
    shape = shape_of(sizes(ModelConfig(name="smollm2-135m")) or {})
    assert shape is not None
    return Known(shape, machine(each=seconds, each_backward=seconds))


def test_hours_grow_with_the_seconds_of_a_pass_and_with_what_is_counted(cells: dict[str, Cell]):
    for cell in cells.values():
        once, twice = (here(cell, "smoke", lambda _, s=s: on(s)) for s in (1.0, 2.0))
        assert isinstance(once, float)
        assert twice == pytest.approx(2 * once)
    greater = cells["greater"]
    work = counted(greater, "smoke")
    assert not isinstance(work, str)
    assert work.backward > 0
    assert work.texts == 0
    alone = here(cells["zero-shot-cot"], "smoke", lambda _: on(1.0))
    assert alone < here(greater, "smoke", lambda _: on(1.0))


def test_what_lacks_is_said_and_what_others_compute_takes_no_time_of_ours(cells: dict[str, Cell]):
    cell = cells["greater"]
    assert here(cell, "smoke", lambda _: "no rates") == "no rates"
    endpoint = replace(cell, config=cell.config.model_copy(update={"model": ModelConfig(name="openai/x")}))
    assert here(endpoint, "smoke", lambda _: "no rates") == 0.0


@pytest.mark.parametrize(
    ("model", "lacks"),
    [
        ({"name": "openai/x"}, "computed elsewhere"),
        ({"name": "org/other", "threads": 1}, "sizes of 'org/other' are not known here"),
        ({"name": "smollm2-135m"}, "threads is not set"),
        ({"name": "smollm2-135m", "device": "cuda"}, "rates of a GPU"),
        ({"name": "smollm2-135m", "threads": 2}, "in float32 on 2 threads is not measured yet"),
    ],
)
def test_each_thing_that_may_lack_has_words_of_its_own(model: dict, lacks: str, tmp_path, monkeypatch):
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = known("a machine", ModelConfig(**model))
    assert isinstance(found, str)
    assert lacks in found


def test_the_sizes_of_the_papers_models_are_those_of_their_parameters():
    for model in shared().models.values():
        values = sizes(ModelConfig(name=model["name"]))
        if values is None:
            assert model["name"].startswith(("openai/", "baichuan-inc/"))
            continue
        shape = shape_of(values, "bfloat16")
        assert shape is not None
        assert shape.parameters / 1e9 == pytest.approx(model["billions"], rel=0.04)


def test_the_sizes_of_the_built_in_model_are_those_of_its_files(smollm2_path):
    told, own = sizes(ModelConfig(name="smollm2-135m")), sizes(ModelConfig(name=str(smollm2_path)))
    assert told is not None
    assert own is not None
    assert shape_of(told) == shape_of(own)

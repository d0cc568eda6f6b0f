"""The cost model counts what the engine computes: each part grows with what it depends on, and with nothing else."""

import math
from dataclasses import replace

import pytest

from greater_ray.decoder_shape import Shape, shape_of
from greater_ray.prediction import Hardware, Load, predict
from tests.families import tiny_model

SHAPE = Shape(layers=4, hidden=64, inner=128, heads=4, kv_heads=2, head_size=16, vocabulary=1000)
LOAD = Load(rows=50, question=40, prompt=8, reasoning=20, candidates=3, test_rows=50)


def machine(**rates: float) -> Hardware:
    """A machine for which everything but the given rates is free."""
    names = ("touched", "kept", "shared", "attention", "attention_backward", "softmax")
    names += ("layer", "each", "layer_backward", "each_backward")
    free = dict.fromkeys(names, 0.0)
    curve = ((1, 0.0), (2, 0.0))
    return Hardware(
        **{
            "name": "a machine", "dtype": "float32", "threads": 1, "process": 0,
            "products": curve, "wide": curve, "backward": curve, **free, **rates,
        }
    )  # fmt: skip


def test_the_sizes_of_a_config_give_the_number_of_a_models_parameters():
    model, _ = tiny_model("llama")
    shape = shape_of(model.config.to_dict())
    assert shape is not None
    assert shape.parameters == model.num_parameters()


@pytest.mark.parametrize("values", [{}, {"model_type": "mixtral"}, {"model_type": "llama", "hidden_size": 64}])
def test_a_model_of_another_kind_has_no_shape_and_no_invented_one(values: dict[str, object]):
    assert shape_of(values) is None


def test_a_decoded_token_is_one_pass_over_all_rows_of_a_batch():
    once = machine(each=1.0)
    longer = predict(SHAPE, once, replace(LOAD, reasoning=21)).candidates - predict(SHAPE, once, LOAD).candidates
    # Two shards of 75 rows: one batch each.
    assert longer == pytest.approx(2.0)


def test_products_of_a_gradient_grow_with_its_tokens_where_the_rate_is_at_its_limit():
    rate = 1e-9
    hardware = machine().model_copy(update={"backward": ((1, rate), (10, 10 * rate))})
    more = predict(SHAPE, hardware, replace(LOAD, reasoning=30)).gradient - predict(SHAPE, hardware, LOAD).gradient
    assert more == pytest.approx(LOAD.rows * 10 * SHAPE.layers * SHAPE.layer_entries * rate)


def test_more_replicas_than_shards_gain_nothing():
    hardware = machine(each=1.0)
    one, two, many = (predict(SHAPE, hardware, LOAD, replicas).candidates for replicas in (1, 2, 9))
    assert one == pytest.approx(2 * two)
    assert many == two


def test_a_search_pays_for_questions_and_the_first_reasoning_once():
    said = predict(SHAPE, machine(each=1.0, softmax=1e-6), LOAD)
    assert said.search(3) - said.search(2) == pytest.approx(said.step)
    assert said.search(0) == pytest.approx(math.fsum([said.questions, said.reasoning, said.final]))


def test_the_gradients_memory_grows_with_reasoning_and_not_with_rows_beyond_a_batch():
    def held(load: Load) -> int:
        return predict(SHAPE, machine(), load).memory.gradient

    assert held(replace(LOAD, reasoning=40)) > held(LOAD)
    assert held(replace(LOAD, rows=25)) == held(LOAD)

"""What a grid will cost: by hand on made numbers, and once on a real probe."""

from pathlib import Path
from typing import Any

import pytest

from greater_ray.assembly import local_models, resolve_config
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.decoder_shape import shape_of
from greater_ray.demonstrations import evaluation_demonstrations
from greater_ray.evaluation import summarize
from greater_ray.grid.cells import expand_grid
from greater_ray.grid.config import load_grid
from greater_ray.grid.estimate import PROBE_ROWS, Rows, _load, _probe, _scaled, estimate
from greater_ray.models.sizes import sizes
from greater_ray.prediction import Known
from greater_ray.records import ExampleRecord, PromptRecord, TrialRecord
from greater_ray.runs import run_config
from greater_ray.settings import merged
from greater_ray.tasks import load_task
from greater_ray.types import Usage
from tests.grids import GREATER, loaded, tiny_grid
from tests.unit.test_prediction import machine


def config(**changes: Any) -> TrialConfig:
    base = {
        "model": {"name": "m"},
        "task": {"name": "bbh/navigate", "data": "synthetic", "train_size": 40, "dev_size": 20, "test_size": 30},
        "evaluation": {"splits": ["dev", "test"]},
        "budget": {"steps": 10},
    }
    return resolve_config(merged(base, changes))


def probed(*, steps: int = 1, prompts: int = 2) -> TrialRecord:
    row = ExampleRecord(
        id="0", target="Yes", prediction="Yes", score=1.0, strict_prediction=None, strict_score=0.0,
        truncated=False, reasoning_tokens=3, label_ce=1.0, prompt_nll=1.0, answer_text="", reasoning_text="",
    )  # fmt: skip
    prompt = PromptRecord(ids=(1,), text=" a", full_text="a", survives_retokenization=True)
    return TrialRecord(
        trial_id="x", config=config(), stop_reason="steps", steps=steps, initial=prompt, best=prompt, finalists=(),
        evaluations=tuple(summarize("test", (k,), [row] * PROBE_ROWS) for k in range(prompts)), comparisons=(),
        optimization_usage=Usage(scored_tokens=1000 * steps - 100, seconds=2.0 * steps, calls=50, generated_tokens=100),
        evaluation_usage=Usage(scored_tokens=80 * prompts, seconds=0.4 * prompts),
        optimizer_usage=Usage(scored_tokens=500 * steps, calls=10, seconds=4.0 * steps),
        task={}, model={}, environment={},
    )  # fmt: skip


ROWS = Rows(40, 20, 30)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        # One step on 4 rows cost 1000 tokens and 2 seconds: on 40 rows it costs 10 times that. The writer's 500 tokens
        # and 4 seconds are the same on any number of rows.
        ({}, 10),
        ({"budget": {"steps": 3}}, 3),
        ({"budget": {"steps": 0}}, 0),
        ({"budget": {"tokens": 7000}}, 0.7),
        ({"budget": {"tokens": 10**9}}, 10),
        ({"budget": {"seconds": 36}}, 1.5),
        ({"budget": {"calls": 1000}}, 2),
        ({"budget": {"generated_tokens": 3500}}, 3.5),
        ({"budget": {"optimizer_calls": 15}}, 1.5),
        ({"budget": {"optimizer_tokens": 500}}, 1),
        ({"budget": {"optimizer_seconds": 6}}, 1.5),
        ({"budget": {"backward_tokens": 5}}, 10),
        ({"budget": {"forward_tokens": 7000}}, 0.7),
        ({"budget": {"model_seconds": 24}}, 1.2),
        ({"budget": {"steps": None, "calls": 1000}}, 2),
        ({"budget": {"patience": 2}}, 10),
        # Methods that end by themselves, whatever their presets allow: five batches of eight rows in three epochs.
        ({"method": "gpo", "budget": {"steps": 100}}, 15),
        ({"method": "gpo", "budget": {"steps": None, "tokens": 10**9}}, 15),
        ({"method": "gpo", "budget": {"steps": 4}}, 4),
        ({"method": "ape", "budget": {"steps": 1000}}, 25),
        ({"method": "pe2", "budget": {"steps": 100}}, 9),
        ({"method": "protegi", "preset": "paper", "budget": {"steps": 1000}}, 69),
        ({"method": "few-shot"}, 1),
    ],
)
def test_the_search_scales_by_rows_and_steps_up_to_its_end(changes: dict, steps: float):
    cost = _scaled(config(**changes), probed(), ROWS)
    # Two prompts on 20 + 30 rows, at 20 tokens and 0.1 seconds a row.
    assert cost.tokens == pytest.approx((10 * 1000 + 500) * steps + 2 * 50 * 20)
    assert cost.seconds == pytest.approx((10 * 2.0 + 4.0) * steps + 2 * 50 * 0.1)
    assert cost.note is None


def test_one_evaluated_prompt_stands_for_two():
    assert _scaled(config(), probed(prompts=1), ROWS) == _scaled(config(), probed(prompts=2), ROWS)


@pytest.mark.parametrize(("top", "prompts"), [(0, 0), (1, 0), (3, 3)])
def test_finalists_answer_on_dev_rows(top: int, prompts: int):
    cost = _scaled(config(evaluation={"dev_select_top": top}), probed(), ROWS)
    assert cost.tokens == pytest.approx(10 * 10_500 + (2 * 50 + prompts * 20) * 20)
    assert cost.seconds == pytest.approx(10 * 24.0 + (2 * 50 + prompts * 20) * 0.1)
    none = _scaled(config(evaluation={"dev_select_top": top}), probed(steps=0), ROWS)
    assert none.tokens == pytest.approx(2 * 50 * 20), "nothing was searched, so nothing is chosen"


def test_a_method_without_steps_costs_its_evaluation():
    cost = _scaled(config(budget={"steps": 0}), probed(steps=0, prompts=1), ROWS)
    assert cost.tokens == pytest.approx(50 * 20)


def test_few_rows_are_probed_as_they_are():
    assert _scaled(config(), probed(), Rows(2, 0, 30)).tokens == pytest.approx(10 * 1500 + 2 * 30 * 20)


def test_where_only_patience_ends_there_is_no_estimate():
    endless = config().model_copy(update={"budget": config().budget.model_copy(update={"steps": None, "patience": 3})})
    assert _scaled(endless, probed(), ROWS).note == "only patience ends its search"


@pytest.mark.parametrize(
    ("rows", "sizes"), [((40, 20, 30), (4, 2, 4)), ((16, 0, 9), (4, 0, 4)), ((2, 4, 9), (2, 8, 4))]
)
def test_the_probe_keeps_the_proportion_of_dev_rows(rows: tuple, sizes: tuple):
    task = _probe(config(), Rows(*rows)).task
    assert (task.train_size, task.dev_size, task.test_size) == sizes


def test_a_probe_is_one_step_without_other_limits():
    probe = _probe(config(budget={"tokens": 1, "patience": 1}, evaluation={"dev_select_top": 2}), ROWS)
    assert probe.budget.model_dump(exclude_none=True) == {"steps": 1}
    nothing = {"dev_select_top": 0, "demonstrations": 0, "nearest": 0}
    assert probe.evaluation.model_dump() == {"splits": ("test",), **nothing}
    shown = config(evaluation={"demonstrations": PROBE_ROWS + 2})
    drawn = evaluation_demonstrations(shown, load_task(shown.task))
    given = _probe(shown, ROWS).evaluation.demonstrations
    assert [d.question for d in given] == [d.question for d in drawn.rows], (
        "those of the cell, though the probe has fewer rows"
    )
    near = _probe(config(evaluation={"nearest": 2}), ROWS).evaluation
    assert (near.nearest, len(near.demonstrations)) == (2, len(load_task(shown.task).train())), "the cell's whole pool"


def test_a_real_grid_costs_about_what_was_estimated(tiny_folder: Path):
    settings = {"task": {"train_size": 12, "test_size": 12}, "decoding": {"max_reasoning_tokens": 8}, "shard_size": 12}
    writing = {"name": "gpo", "optimizer_model": "tests.babbler:load", "method_config": {"epochs": 1}}
    methods = [merged(GREATER, {"budget": {"steps": 3}}), "zero-shot-cot", writing]
    cells = expand_grid(loaded(tiny_folder, settings=settings, methods=methods))
    models = local_models()
    costs = estimate(cells, models)
    assert [cost.note for cost in costs] == [None] * 5
    assert costs[0] == costs[1], "seeds share a probe"
    for cell, cost in zip(cells[1:], costs[1:], strict=True):
        record = run_config(cell.config, models=models)
        usages = record.optimization_usage, record.optimizer_usage, record.evaluation_usage
        tokens = sum(usage.tokens for usage in usages)
        assert 0.5 < cost.tokens / tokens < 2


def test_settings_that_cost_more_have_a_probe_of_their_own(tiny_folder: Path):
    methods = [{**merged(GREATER, {"method_config": {"num_evaluated": n}}), "label": "g"} for n in (1, 4)]
    grid = load_grid(tiny_grid(tiny_folder, methods=[*methods, {"name": "fixed", "method_config": {"prompt": ""}}]))
    few, _, many, _, broken = estimate(expand_grid(grid), local_models())
    assert many.tokens > few.tokens
    assert "has no tokens" in str(broken.note)


# -- by the cost model -------------------------------------------------------------------------------------------------


def test_for_greater_the_cost_model_tells_the_time_where_it_knows_model_and_machine(tiny_folder: Path):
    cells = expand_grid(loaded(tiny_folder, seeds=[0], settings={"task": {"train_size": 10}, "shard_size": 5}))
    models, asked = local_models(), []

    def knows(config: ModelConfig, seconds: float) -> Known | None:
        asked.append((config.name, seconds))
        values = sizes(config)
        assert values is not None
        shape = shape_of(values)
        assert shape is not None
        return Known(shape, machine(each=0.5, each_backward=0.5))

    scaled = estimate(cells, models)
    found = estimate(cells, models, knows)
    assert [cost.by_model for cost in found] == [True, False], "GReaTer, and zero-shot CoT"
    assert asked == [(str(tiny_folder), pytest.approx(scaled[0].seconds, rel=2))]
    assert [cost.tokens for cost in found] == [cost.tokens for cost in scaled]
    # Two shards: passes for questions and prompt, one for a decoded token but the first, one for the label.
    rollouts, gradient = 2 * (3 - 1 + 2), 2 * 2
    answer = (2 * (3 - 1 + 2) + 2 * 1) / 2
    assert 0.5 * (2 + 2 * rollouts + gradient) < found[0].seconds < 0.5 * (4 + 4 * rollouts + gradient + 8 * answer)


def test_a_probe_tells_the_lengths_that_the_engine_computes_with(tiny_folder: Path):
    (cell, *_) = expand_grid(loaded(tiny_folder, settings={"task": {"train_size": 4, "test_size": 4}}))
    models = local_models()
    record = run_config(cell.config, models=models)
    load = _load(cell.config, record, Rows(40, 0, 4))
    assert load is not None
    assert (load.rows, load.candidates, load.shard_size) == (40, 1, 2)
    assert load.prompt == len(record.initial.ids)
    assert 1 <= load.reasoning <= 4
    final = record.evaluation_usage
    read = load.question + 1 + load.prompt + load.suffix + load.reasoning + load.answer + load.extractor + load.label
    assert read == pytest.approx(final.tokens / final.calls, abs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "zero-shot-cot"},
        {"method": "greater", "method_config": {"label_loss": "choice"}},
        {"method": "greater", "evaluation": {"demonstrations": 2}},
    ],
)
def test_what_the_formulas_do_not_count_is_left_to_the_probe(changes: dict):
    assert _load(config(**changes), probed(), ROWS) is None

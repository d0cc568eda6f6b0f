"""From tables to cells: what is run, what is shared, and what narrows it."""

from pathlib import Path

import pytest

from greater_ray.errors import ConfigError
from greater_ray.models.endpoint import is_endpoint
from greater_ray.paper.catalog import tables, tasks_of
from greater_ray.paper.plan import View, grid_plan, plan_table

SMOKE = View(scale="smoke")


def number(name: str, view: View, row: str, column: str):
    plan = plan_table(name, view)
    found = [n for n in plan.numbers if n.row.label == row and column in n.column.label]
    return found[0]


@pytest.mark.parametrize("scale", ["smoke", "full"])
def test_every_table_has_cells_and_all_are_told_apart(scale: str):
    plans = [plan_table(name, View(scale=scale)) for name in tables()]
    plan = grid_plan(plans)
    ids = [cell.trial_id for cell in plan.cells]
    assert len(set(ids)) == len(ids)
    for cell in plan.cells:
        assert cell.config.evaluation.splits == ("test",)
        assert cell.config.model.threads == (None if is_endpoint(cell.config.model.name) else 1)
        if scale == "smoke":
            assert cell.config.task.data == "synthetic"
            assert (cell.config.model.name, cell.config.optimizer_model) == ("smollm2-135m", None)
            assert (cell.config.budget.steps or 0) <= 1
            assert cell.config.decoding.max_reasoning_tokens <= 16


def test_a_cell_of_several_tables_runs_once():
    cells = {
        name: {cell.trial_id for n in plan_table(name, View()).numbers for cell in n.all_cells}
        for name in ("table1", "table2", "table3", "table6", "table7", "figure3", "figure6", "figure8")
    }
    movie = number("table7", View(), "Default", "movie_rec.").all_cells[0]
    assert movie.config.model.name == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert all(movie.trial_id in cells[name] for name in cells if name != "figure8")
    assert cells["figure6"] < cells["table1"]
    plan = grid_plan([plan_table(name, View()) for name in cells])
    assert len(plan.cells) == len(set.union(*cells.values())) < sum(map(len, cells.values()))


def test_the_main_table_averages_the_21_tasks_of_the_paper():
    bbh = number("table1", View(), "GReaTer", "Llama-3-8B BBH")
    assert [cells[0].config.task.name for cells in bbh.cells] == list(tasks_of("bbh-paper"))
    assert len(bbh.cells) == 21
    assert [p.value for p in bbh.published] == [68.7]
    assert bbh.published[0].same_model


def test_published_prompts_are_measured_as_they_stand():
    found = number("table9", View(), "GReaTer", "GSM8K").all_cells[0].config
    assert found.method == "fixed"
    assert found.method_config["prompt"].startswith("Use your knowledge")
    assert found.layout.frozen_prefix == ""
    assert number("table13", View(), "APO", "FOLIO").reason == "an empty prompt cannot be measured"
    assert number("table2", View(), "APO (GPT-4)", "hyperbaton").reason == "no prompt is published"
    assert number("table10", View(), "TextGrad", "FOLIO").cut


def test_a_model_of_ones_own_has_a_column_beside_both_published_ones():
    plan = plan_table("table6", View(models=("my-model",)))
    assert [column.label for column in plan.columns] == ["my-model movie_rec.", "my-model tracking_five"]
    found = plan.numbers[0]
    assert [(p.column, p.value, p.same_model) for p in found.published] == [
        ("Llama-3-8B movie_rec.", 51, False),
        ("Gemma-2-9B movie_rec.", 50, False),
    ]
    assert {cell.config.model.name for n in plan.numbers for cell in n.all_cells} == {"my-model"}
    two = plan_table("table6", View(models=("a-model", "b-model")))
    assert len(two.columns) == 4
    assert two.view.overrides == ["Model: a-model.", "Model: b-model."]


def test_one_model_of_a_table_can_be_replaced():
    plan = plan_table("table6", View(models=("gemma-2-9b=other",)))
    names = [next(iter(n.all_cells)).config.model.name for n in plan.numbers if n.row.label == "PEZ"]
    assert names == ["meta-llama/Meta-Llama-3-8B-Instruct"] * 2 + ["other"] * 2
    with pytest.raises(ConfigError, match="'gemma' is unknown"):
        plan_table("table6", View(models=("gemma=other",)))


def test_a_transfer_goes_from_one_model_to_another():
    found = number("table4", View(), "GReaTer (Llama-3)", "average")
    assert found.transfer == {"name": "google/gemma-2-27b-it", "dtype": "bfloat16"}
    assert {cell.config.model.name for cell in found.all_cells} == {"meta-llama/Meta-Llama-3-8B-Instruct"}
    plan = grid_plan([plan_table("table3", SMOKE)])
    assert len(plan.transfers) == 1
    assert plan.targets[0].attn_implementation == "eager"
    # A model of one's own is what prompts go to; nothing goes to the model that it comes from.
    assert number("table4", View(models=("far",)), "GReaTer (Llama-3)", "average").transfer == {"name": "far"}
    same = View(models=("llama-3-8b=one", "gemma-2-27b=one"))
    with pytest.raises(ConfigError, match="the prompt was found on this very model"):
        plan_table("table4", same)


def test_what_narrows_a_table_is_in_its_cells_and_in_its_caption():
    view = View(only={"task": ["bbh/navigate", "gsm8k"]}, seeds=(3, 4), settings={"task": {"test_size": 7}})
    found = number("table1", view, "GReaTer", "Llama-3-8B BBH")
    assert [cell.seed for cell in found.all_cells] == ["3", "4"]
    assert {cell.config.task.test_size for cell in found.all_cells} == {7}
    assert found.partial
    assert [column.label for column in plan_table("table1", view).columns] == [
        "Gemma-2-9B GSM8K",
        "Gemma-2-9B BBH",
        "Llama-3-8B GSM8K",
        "Llama-3-8B BBH",
    ]
    few = View(only={"task": ["bbh/hyperbaton"], "method": ["greater", "ape"], "model": ["meta*"]})
    assert {n.row.label for n in plan_table("table1", few).numbers} == {"APE", "GReaTer"}
    assert view.overrides == ["Only task=bbh/navigate,gsm8k.", "Seeds: 3, 4.", "Set: task.test_size = 7."]
    with pytest.raises(ConfigError, match="no cell of 'table6' matches"):
        plan_table("table6", view)


@pytest.mark.parametrize("settings", [{"tsak": {"data": "x"}}, {"task": {"dat": "x"}}])
def test_an_unknown_setting_is_refused(settings: dict):
    with pytest.raises(ConfigError, match="is unknown"):
        plan_table("table6", View(settings=settings))


def test_the_tables_of_gpo_have_rows_in_its_numbers():
    plan = plan_table("gpo-table5", View())
    tasks = {cell.config.task.name: cell.config.task for n in plan.numbers for cell in n.all_cells}
    assert (tasks["bbh/navigate"].split, tasks["gsm8k"].test_size) == ("gpo-sizes", 300)
    own = plan_table("gpo-table2", View(settings={"task": {"split": "gpo", "data": str(Path(__file__).parent)}}))
    assert {cell.config.task.split for n in own.numbers for cell in n.all_cells} == {"gpo"}


def test_stand_ins_are_named_only_where_they_stand():
    assert plan_table("table9", SMOKE).stand_ins == {"gsm8k": "bbh/multistep_arithmetic_two"}
    assert plan_table("table9", View()).stand_ins == {}

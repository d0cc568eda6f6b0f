"""What a grid may say, and which cells it means."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from greater_ray.errors import ConfigError
from greater_ray.grid.cells import Cell, expand_grid, model_titles, replica_configs
from greater_ray.grid.config import GridConfig, load_grid, parse_only
from greater_ray.settings import read_yaml
from tests.grids import tiny_grid

PLAIN: dict[str, Any] = {
    "methods": ["greater", "zero-shot-cot"],
    "tasks": ["bbh/navigate", "bbh/snarks"],
    "models": ["tiny-a", "tiny-b"],
    "seeds": [0, 1],
}


def cells(only: list[str] | None = None, **changes: Any) -> list[Cell]:
    return expand_grid(load_grid({**PLAIN, **changes}), parse_only(only or []))


def places(found: list[Cell]) -> set[tuple[str, ...]]:
    return {tuple(cell.labels.values()) for cell in found}


# -- wrong settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"metods": []}, ("metods", "Did you mean 'methods'?")),
        ({"methods": ["greatr"]}, ("'greatr' is unknown", "Did you mean 'greater'?")),
        ({"methods": [{"name": "greater", "budgte": {}}]}, ("methods.0: 'budgte'", "Did you mean 'budget'?")),
        ({"methods": [{"name": "greater", "method_config": {"topk": 1}}]}, ("topk", "Did you mean 'top_k'?")),
        ({"methods": [{"label": "x"}]}, ("methods.0: an entry needs a name",)),
        ({"methods": [3]}, ("methods.0", "not 3")),
        ({"methods": 3}, ("methods", "not 3")),
        ({"tasks": ["bbh/navigat"]}, ("tasks.0.name: ", "Did you mean 'bbh/navigate'?")),
        ({"tasks": [{"name": "bbh/navigate", "trainsize": 3}]}, ("tasks.0: 'trainsize'", "Did you mean 'train_size'?")),
        ({"tasks": [{"name": "bbh/navigate", "train_size": 0}]}, ("tasks.0.train_size", "not 0")),
        ({"models": [{"name": "x", "dtyp": "float32"}]}, ("models.0: 'dtyp'", "Did you mean 'dtype'?")),
        ({"models": [{"name": "x", "dtype": "float33"}]}, ("models.0.dtype", "not 'float33'")),
        ({"transfer": {"models": [{"name": "x", "devise": "cpu"}]}}, ("transfer.models.0:", "Did you mean 'device'?")),
        ({"transfer": {"models": ["x"], "splits": ["tset"]}}, ("transfer.splits.0", "not 'tset'")),
        ({"include": [{"method": ["greater"]}]}, ("include.0.method", "Did you mean 'methods'?")),
        ({"exclude": [{"metod": "x"}]}, ("exclude.0: 'metod'", "Did you mean 'method'?")),
        ({"settings": {"bugdet": {}}}, ("bugdet", "Did you mean 'budget'?")),
        ({"settings": {"budget": {"step": 1}}}, ("budget.step:", "Did you mean 'steps'?")),
        ({"settings": {"optimizer_model": {"name": "x", "thread": 1}}}, ("thread", "Did you mean 'threads'?")),
        ({"settings": {"seed": 3}}, ("settings.seed", "seeds")),
        ({"settings": {"method": "greater"}}, ("settings.method", "methods")),
        ({"settings": {"model": {"name": "x"}}}, ("settings.model.name", "models")),
        ({"settings": {"model": "x"}}, ("settings.model.name", "models")),
        ({"settings": {"task": {"name": "gsm8k"}}}, ("settings.task.name", "tasks")),
        ({"seeds": [-1]}, ("seed", "not -1")),
        ({"replicas": {"cuont": 1}}, ("replicas.cuont", "Did you mean 'count'?")),
        ({"replicas": {"count": 0}}, ("replicas.count", "not 0")),
        (
            {"replicas": {"gpus": 1.5}},
            ("replicas.gpus: input should be 0, a part of one GPU or a whole number", "1.5."),
        ),
        ({"concurrency": 0}, ("concurrency", "not 0")),
        ({"models": []}, ("models: the grid has no cells; name at least one of its models, not []",)),
        ({"seeds": []}, ("seeds: the grid has no cells; name at least one of its seeds, not []",)),
        ({"exclude": [{"method": "*"}]}, ("exclude: the grid has no cells", "{'method': '*'}")),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_place(changes: dict, parts: tuple[str, ...]):
    with pytest.raises(ConfigError) as raised:
        cells(**changes)
    sentence = str(raised.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tsk=x"], ("only: 'tsk'", "Did you mean 'task'?")),
        (["task"], ("axis=pattern",)),
        (["task="], ("axis=pattern",)),
        (["task=bbh/nothing"], ("no cell of the 12",)),
        (["task=bbh/navigate,sed=1"], ("only: 'sed'", "Did you mean 'seed'?")),
        (["task=bbh/navigate,seed="], ("'task=bbh/navigate,seed='", "axis=pattern")),
    ],
)
def test_a_wrong_only_is_refused(words: list[str], parts: tuple[str, ...]):
    with pytest.raises(ConfigError) as raised:
        cells(words)
    assert all(part in str(raised.value) for part in parts)


# -- which cells -------------------------------------------------------------------------------------------------------


def test_the_product_of_the_axes_with_unseeded_methods_once():
    found = cells()
    expected = {("greater", t, m, s) for t, m, s in product(PLAIN["tasks"], PLAIN["models"], "01")}
    expected |= {("zero-shot-cot", t, m, "-") for t, m in product(PLAIN["tasks"], PLAIN["models"])}
    assert places(found) == expected
    assert len(found) == len({cell.trial_id for cell in found}) == len(expected)
    assert [cell.model for cell in found] == sorted(cell.model for cell in found), "model by model"
    assert {cell.config.seed for cell in found if cell.method == "greater"} == {0, 1}
    assert cells(seeds=[5, 6], methods=["zero-shot-cot"]) == cells(methods=["zero-shot-cot"]), "whatever the seeds are"


def test_a_method_that_draws_nothing_has_a_seed_where_the_evaluation_draws_demonstrations():
    def seeds(demonstrations: Any) -> set[tuple[str, int]]:
        one = {
            "methods": [{"name": "zero-shot-cot", "evaluation": {"demonstrations": demonstrations}}],
            "seeds": [3, 4],
        }
        return {(cell.seed, cell.config.seed) for cell in cells(**one)}

    assert seeds(2) == {("3", 3), ("4", 4)}
    assert seeds(0) == seeds([{"question": "?", "answer": "Yes"}]) == {("-", 0)}


def test_a_name_and_a_mapping_with_a_name_mean_the_same():
    long = cells(methods=[{"name": "greater"}, {"name": "zero-shot-cot"}], tasks=[{"name": t} for t in PLAIN["tasks"]])
    assert long == cells()
    assert cells(methods="greater", tasks="bbh/navigate") == cells(methods=["greater"], tasks=["bbh/navigate"])


def test_a_group_of_tasks_expands_and_its_settings_hold_for_all():
    found = cells(tasks=[{"name": "bbh-paper", "train_size": 7}], methods=["zero-shot-cot"], models=["a"])
    assert len(found) == 21
    assert {cell.config.task.train_size for cell in found} == {7}
    assert {cell.task for cell in found} == {cell.config.task.name for cell in found}


def test_the_nearest_settings_win():
    def patience(**changes: Any) -> int | None:
        entries = {
            axis: [{"name": name, **({"budget": {"patience": changes[axis]}} if axis in changes else {})}]
            for axis, name in (("models", "m"), ("methods", "greater"), ("tasks", "gsm8k"))
        }
        settings = {"budget": {"patience": changes["settings"]}} if "settings" in changes else {}
        (cell,) = cells(**entries, settings=settings, seeds=[0])
        return cell.config.budget.patience

    assert patience() is None
    assert patience(settings=1) == 1
    assert patience(settings=1, models=2) == 2
    assert patience(settings=1, models=2, methods=3) == 3
    assert patience(settings=1, models=2, methods=3, tasks=4) == 4
    assert patience(settings=1, models=None) is None, "null lifts a limit"
    assert patience(settings=None, tasks=4) == 4


def test_a_grid_lifts_the_steps_of_presets_and_gives_tasks_their_own_tokens():
    tasks = [{"name": "gsm8k", "budget": {"tokens": 7}}, {"name": "folio", "budget": {"steps": 2}}, "bbh/navigate"]
    found = cells(
        methods=["greater", "opro"], tasks=tasks, seeds=[0], settings={"budget": {"steps": None, "tokens": 9}}
    )
    budgets = {(cell.method, cell.task): (cell.config.budget.steps, cell.config.budget.tokens) for cell in found}
    of_task = {"gsm8k": (None, 7), "folio": (2, 9), "bbh/navigate": (None, 9)}
    assert budgets == {(method, task): of_task[task] for method in ("greater", "opro") for task in of_task}
    with pytest.raises(ConfigError, match="nothing ends this run"):
        cells(methods=["greater"], settings={"budget": {"steps": None}})


def test_settings_of_one_entry_touch_its_cells_alone():
    found = cells(
        methods=[{"name": "greater", "method_config": {"top_k": 3}, "shard_size": 4}, "zero-shot-cot"],
        tasks=[{"name": "bbh/navigate", "train_size": 9, "decoding": {"max_reasoning_tokens": 5}}, "bbh/snarks"],
        models=[{"name": "tiny-a", "dtype": "bfloat16", "layout": {"joint": "\n"}}, "tiny-b"],
        settings={"task": {"train_size": 8, "dev_size": 3}, "evaluation": {"splits": ["test"]}},
    )
    for cell in found:
        config, greater = cell.config, cell.method == "greater"
        navigate, first = cell.task == "bbh/navigate", cell.model == "tiny-a"
        assert (config.task.train_size, config.task.dev_size) == ((9, 3) if navigate else (8, 3))
        assert (config.decoding.max_reasoning_tokens == 5) == navigate
        assert (config.method_config.get("top_k") == 3) == greater
        assert config.shard_size == (4 if greater else 25)
        assert config.model.dtype == ("bfloat16" if first else "auto")
        assert config.layout.joint == ("\n" if first else " ")
        assert config.evaluation.splits == ("test",)


def test_threads_are_fixed_unless_they_are_given():
    assert {cell.config.model.threads for cell in cells()} == {1}
    found = cells(models=["a", {"name": "b", "threads": 3}], settings={"model": {"threads": 2}})
    assert {(cell.model, cell.config.model.threads) for cell in found} == {("a", 2), ("b", 3)}
    for given, threads in (({"name": "w"}, 1), ({"name": "w", "threads": 2}, 2)):
        for where in ({"settings": {"optimizer_model": given}}, {"models": [{"name": "a", "optimizer_model": given}]}):
            assert {cell.config.optimizer_model.threads for cell in cells(**where)} == {threads}
    assert {cell.config.optimizer_model for cell in cells()} == {None}


def test_labels_tell_entries_apart_and_are_no_part_of_the_trial():
    found = cells(
        methods=[{"name": "greater", "label": "short", "budget": {"steps": 1}}, {"name": "greater", "label": "long"}],
        tasks=[{"name": "bbh/navigate", "label": "few", "train_size": 2}, "bbh/navigate"],
        models=[{"name": "/far/away/tiny", "label": "tiny"}],
        seeds=[0],
    )
    wanted = product(("short", "long"), ("few/bbh/navigate", "bbh/navigate"), ["tiny"], "0")
    assert places(found) == set(wanted)
    plain = cells(methods=["greater"], tasks=["bbh/navigate"], models=["/far/away/tiny"], seeds=[0])
    assert plain[0].trial_id in {cell.trial_id for cell in found}
    assert plain[0].slug == "greater--bbh_navigate--tiny--s0"
    assert plain[0].title == "greater on bbh/navigate with /far/away/tiny, seed 0"
    assert cells(methods=["zero-shot-cot"])[0].title == "zero-shot-cot on bbh/navigate with tiny-a"


def test_duplicates_are_removed_wherever_they_come_from():
    assert len(cells(methods=["greater", "greater"], seeds=[0, 0])) == 4
    assert len(cells(tasks=["bbh-paper", "bbh/navigate"], methods=["zero-shot-cot"], models=["a"])) == 21
    again = {"methods": ["greater"], "tasks": ["bbh/navigate"], "models": ["tiny-a"], "seeds": [0]}
    assert cells(include=[again]) == cells()


def test_include_adds_a_product_with_the_settings_of_the_grid():
    more = {"methods": ["greater"], "tasks": ["gsm8k"], "models": ["tiny-c"], "seeds": [7]}
    found = cells(include=[more], settings={"budget": {"steps": 2}})
    assert places(found) - places(cells()) == {("greater", "gsm8k", "tiny-c", "7")}
    assert found[-1].config.budget.steps == 2


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"method": "greater"}, 4),
        ({"method": "gr*", "task": "bbh/sn*"}, 8),
        ({"task": ["*/navigate", "*/snarks"], "seed": 1}, 8),
        ({"seed": "-"}, 8),
        ({"model": "nowhere"}, 12),
    ],
)
def test_exclude_takes_away_what_fits_every_pattern(rule: dict, left: int):
    assert len(cells(exclude=[rule])) == left


def test_only_chooses_and_several_words_of_an_axis_add_up():
    assert len(cells(["task=bbh/navigate"])) == 6
    assert len(cells(["task=bbh/navigate,bbh/snarks"])) == 12
    assert len(cells(["task=bbh/navigate", "task=*snarks", "method=greater"])) == 8
    assert places(cells(["method=greater", "seed=1", "model=*-b", "task=*gate"])) == {
        ("greater", "bbh/navigate", "tiny-b", "1")
    }


def test_one_word_may_name_several_axes():
    for words in (["method=greater,seed=1,model=*-b,task=*gate"], ["method=greater,seed=1", "model=*-b,task=*gate"]):
        assert places(cells(words)) == {("greater", "bbh/navigate", "tiny-b", "1")}
    assert cells(["seed=0,1,task=bbh/navigate,bbh/snarks,method=greater"]) == cells(["method=greater"])
    assert parse_only(["model=k=5,seed=1"]) == {"model": ["k=5"], "seed": ["1"]}, "a pattern may hold the sign"


def test_only_a_seed_keeps_the_cells_that_draw_nothing_to_compare_with():
    chosen = places(cells(["seed=1", "model=*-b", "task=*gate"]))
    assert {(method, seed) for method, _, _, seed in chosen} == {("greater", "1"), ("zero-shot-cot", "-")}


def test_the_models_of_a_cell_are_those_it_calls():
    (cell, *_) = cells()
    assert [model.name for model in cell.models] == ["tiny-a"]
    (cell, *_) = cells(settings={"optimizer_model": {"name": "writer"}})
    assert [model.name for model in cell.models] == ["tiny-a", "writer"]
    (cell, *_) = cells(settings={"optimizer_model": {"name": "tiny-a"}})
    assert len(cell.models) == 1, "one pool serves both"


def test_how_a_model_is_served_is_said_by_its_entry_over_the_grid():
    grid = load_grid(
        {
            **PLAIN,
            "replicas": {"count": 2, "gpus": 1},
            "models": ["tiny-a", {"name": "tiny-b", "replicas": {"count": 1}}],
            "transfer": {"models": [{"name": "far", "replicas": {"gpus": 0.5}}]},
        }
    )
    found = replica_configs(grid)
    assert {model.name: (c.count, c.gpus) for model, c in found.items()} == {"tiny-b": (1, 1), "far": (2, 0.5)}
    served = {cell.trial_id for cell in expand_grid(grid)}
    assert served == {cell.trial_id for cell in cells()}, "and changes no result"


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"models": ({"name": "a"}, {"name": "b", "replicas": {"gpus": 2.5}})}, "models.1.replicas.gpus"),
        ({"transfer": {"models": ({"name": "far", "replicas": {"gpus": 2.5}},)}}, "transfer.models.0.replicas.gpus"),
        ({"include": ({"models": ({"name": "c", "replicas": {"gpus": 2.5}},)},)}, "include.0.models.0.replicas.gpus"),
    ],
)
def test_a_mistake_in_how_a_model_is_served_has_the_place_of_its_entry(changes: dict, setting: str):
    with pytest.raises(ConfigError, match="a part of one GPU") as raised:
        replica_configs(GridConfig(**changes))
    assert (raised.value.setting, raised.value.value) == (setting, 2.5)


def test_two_variants_of_a_model_are_served_and_named_apart():
    variants = [
        {"name": "tiny", "label": "a", "replicas": {"count": 1}},
        {"name": "tiny", "label": "b", "dtype": "bfloat16", "replicas": {"count": 4}},
    ]
    settings = {"model": {"device": "cpu"}}
    grid = load_grid({**PLAIN, "models": [*variants, "other"], "settings": settings})
    served = replica_configs(grid)
    found = {cell.model: cell.config.model for cell in expand_grid(grid)}
    assert {label: served[model].count for label, model in found.items() if model in served} == {"a": 1, "b": 4}
    assert list(model_titles(found.values()).values()) == [
        "tiny (device cpu, threads 1)",
        "tiny (dtype bfloat16, device cpu, threads 1)",
        "other",
    ]


def test_a_grid_is_the_same_from_a_file(tmp_path: Path, tiny_folder: Path):
    import yaml

    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(tiny_grid(tiny_folder)))
    assert load_grid(tmp_path / "grid.yaml") == load_grid(tiny_grid(tiny_folder))
    assert read_yaml(tmp_path / "grid.yaml") == tiny_grid(tiny_folder)

"""The experiments as data: every table is complete, agrees with itself, and asks only for what this package has."""

from collections.abc import Iterator
from importlib.resources import files

import pytest
import yaml

from greater_ray.errors import ConfigError
from greater_ray.paper.catalog import prompt_source, published_prompt, shared, table, tables, tasks_of

FOLDER = files("greater_ray.paper").joinpath("tables")
RAW = {name: yaml.safe_load(FOLDER.joinpath(f"{name}.yaml").read_text(encoding="utf-8")) for name in shared().order}


def test_every_file_is_listed_and_the_published_prompts_come_first():
    assert {f"{name}.yaml" for name in shared().order} == {entry.name for entry in FOLDER.iterdir()}
    assert tables()[0] == "prompts"
    assert {f"table{k}" for k in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14)} <= set(tables())
    assert {f"figure{k}" for k in range(3, 9)} <= set(tables())


@pytest.mark.parametrize("name", shared().order)
def test_a_table_names_only_what_is_there_and_has_a_value_for_every_column(name: str):
    raw = RAW[name]
    labels = [(row.get("group"), row["label"]) for row in raw["rows"]]
    assert len(set(labels)) == len(labels)
    for entry in [*raw["rows"], *raw["columns"]]:
        for key in ("model", "transfer", "writer"):
            assert entry.get(key) in {None, *shared().models}
        assert entry.get("method") in {None, *shared().methods}
        if entry.get("prompts", "none") not in ("none", "empty"):
            assert prompt_source(entry["prompts"])
    for row in raw["rows"]:
        # A row without values for the last columns has none published there.
        assert len(row.get("published", ())) <= len(raw["columns"])
        if name.startswith(("table", "gpo")) and name not in ("table11", "table14"):
            assert len(row["published"]) == len(raw["columns"])
    if raw.get("against"):
        assert raw["against"] in {row["label"] for row in raw["rows"]}


def averages() -> Iterator[tuple[str, str, list[float], float]]:
    for name, raw in RAW.items():
        kinds = [column.get("tasks") for column in raw["columns"]]
        if ["greater-five"] in kinds:
            where = kinds.index(["greater-five"])
            single = [k for k, tasks in enumerate(kinds) if tasks and tasks[0] in tasks_of("greater-five")]
            for row in raw["rows"]:
                yield name, row["label"], [row["published"][k] for k in single], row["published"][where]


def test_published_averages_are_those_of_the_published_values():
    found = list(averages())
    assert len(found) == 30
    for name, label, values, average in found:
        assert len(values) == 5
        assert sum(values) / 5 == pytest.approx(average, abs=0.05), (name, label)


def test_prompts_are_those_that_were_published():
    first = published_prompt("greater/llama-3-8b/GReaTer", "gsm8k")
    assert first is not None
    assert first.prompt.startswith("Use your knowledge reasoning and think step by step.")
    cut = published_prompt("greater/llama-3-8b/TextGrad", "folio")
    assert cut is not None
    assert cut.cut
    empty = published_prompt("greater/gemma-2-9b/APO", "folio")
    assert empty is not None
    assert empty.prompt == ""
    assert published_prompt("apo/gpt-4", "bbh/navigate") is None
    for task in tasks_of("bbh-paper"):
        for method in ("APE", "APO", "PE2", "TextGrad", "GReaTer"):
            assert published_prompt(f"greater/llama-3-8b/{method}", task) is not None
            assert published_prompt(f"greater/gemma-2-9b/{method}", task) is not None


@pytest.mark.parametrize("name", shared().order)
def test_a_table_has_no_more_published_values_than_columns(name: str):
    found = table(name)
    assert found.rows
    for row in found.rows:
        assert len(row.published) <= len(found.columns)


def test_an_unknown_table_is_named_with_the_closest_one():
    with pytest.raises(ConfigError, match="Did you mean 'table6'"):
        table("tabel6")


def test_the_fields_of_mmlu_have_57_subjects():
    names = [task for group in shared().groups if group.startswith("mmlu-") for task in shared().groups[group]]
    assert len(names) == len(set(names)) == 57

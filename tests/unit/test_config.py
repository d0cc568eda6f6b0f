"""Settings: layers, sentences about mistakes, and the identity of a trial."""

from pathlib import Path
from typing import Any

import pytest

from greater_ray.config import TrialConfig, fingerprint, parse
from greater_ray.errors import ConfigError
from greater_ray.settings import merged, parse_assignments, read_yaml

BASE: dict[str, Any] = {"model": {"name": "m"}, "task": {"name": "bbh/navigate"}}


def trial(**values: Any) -> TrialConfig:
    return parse(TrialConfig, merged(BASE, values))


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([{"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}], {"a": {"b": 1, "c": 3}}),
        ([{"a": 1}, {"a": None}], {"a": 1}),
        ([{"a": {"b": 1}}, {"a": {"b": None}}], {"a": {"b": 1}}),
        ([{}, {"a": None}], {"a": None}),
        ([{"a": 1}, {"a": {"b": 2}}], {"a": {"b": 2}}),
        ([{"a": {"b": 2}}, {"a": 1}], {"a": 1}),
        ([{"a": 0}, {"a": False}], {"a": False}),
        ([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}),
        ([{"budget": {"b": 1, "c": 2}}, {"budget": {"b": None}}], {"budget": {"b": None, "c": 2}}),
        ([{"budget": {"b": None}}, {"budget": {"b": 1}}], {"budget": {"b": 1}}),
        ([{"budget": {"b": 1}}, {"budget": None}], {"budget": {"b": 1}}),
        ([], {}),
    ],
)
def test_later_layers_win(layers: list[dict], expected: dict):
    assert merged(*layers) == expected


def test_merging_changes_no_layer():
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}}
    result = merged(first, second)
    result["a"]["d"] = 3
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}})


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sed": 1}, r"^sed: unknown option; allowed: budget, .*\. Did you mean 'seed'\?$"),
        ({"task": {"train_sise": 4}}, r"^task\.train_sise: unknown option; .* Did you mean 'train_size'\?$"),
        ({"budget": {"steps": -1}}, r"^budget\.steps: .*greater than or equal to 0, not -1\.$"),
        ({"model": {"dtype": "float8"}}, r"^model\.dtype: .*'float32'.*, not 'float8'\.$"),
        ({"seed": "x"}, r"^seed: .*integer.*, not 'x'\.$"),
        ({"evaluation": {"splits": ["train", "tset"]}}, r"^evaluation\.splits\.1: .*not 'tset'\.$"),
        (
            {"layout": {"placement": "front"}},
            r"^layout\.placement: input should be after, before, system or a text with \{question\} and \{prompt\}, "
            r"each once, not 'front'\.$",
        ),
        ({"layout": {"placement": "{prompt} {question} {prompt}"}}, r"^layout\.placement: .*each once, not "),
        ({"layout": {"placement": "Think: {question}"}}, r"^layout\.placement: .*each once, not "),
        (
            {"layout": {"placement": "system", "system": "Be brief."}},
            r"^layout\.system: goes with every layout\.placement but 'system', .*layout\.frozen_prefix, not 'Be brief",
        ),
    ],
)
def test_the_first_mistake_is_told_in_one_sentence(values: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        trial(**values)


def test_missing_values_are_named_with_the_place_they_belong_to():
    with pytest.raises(ConfigError, match=r"^model\.name: missing\.$"):
        parse(TrialConfig, {"model": {}, "task": {"name": "t"}})
    with pytest.raises(ConfigError, match=r"^here\.task: missing\.$"):
        parse(TrialConfig, {"model": {"name": "m"}}, "here")


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        trial().seed = 3


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["seed=3"], {"seed": 3}),
        (["task.seed=3", "task.train_size=4"], {"task": {"seed": 3, "train_size": 4}}),
        (["method_config.ties=last"], {"method_config": {"ties": "last"}}),
        (["a=true", "b=1.5", "c=null", "d=[1, 2]"], {"a": True, "b": 1.5, "c": None, "d": [1, 2]}),
        (["layout.joint=' '"], {"layout": {"joint": " "}}),
        (["a=x=y"], {"a": "x=y"}),
        (["a="], {"a": None}),
        (["a=1", "a=2"], {"a": 2}),
        (["a={b: 1}", "a.c=2"], {"a": {"b": 1, "c": 2}}),
        (["a=[unclosed"], {"a": "[unclosed"}),
        ([], {}),
    ],
)
def test_assignments_become_nested_values(assignments: list[str], expected: dict):
    assert parse_assignments(assignments) == expected


@pytest.mark.parametrize("assignment", ["seed", "=3", "task.=3", ".seed=3", "a..b=1", ""])
def test_an_assignment_without_key_or_value_is_refused(assignment: str):
    with pytest.raises(ConfigError, match="must have the form key=value"):
        parse_assignments([assignment])


def test_nothing_can_be_set_below_a_value():
    with pytest.raises(ConfigError, match="below 'seed', which is already a value"):
        parse_assignments(["seed=3", "seed.x=4"])


def test_yaml_must_be_a_readable_mapping(tmp_path: Path):
    file = tmp_path / "c.yaml"
    for text, reason in (
        ("- 1\n", "mapping.*not list"),
        ("a: [1\nb: 2\n", "line 2: not valid YAML"),
        ("", "NoneType"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            read_yaml(file)
    file.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    file.write_text("task: {seed: 3}\n")
    assert read_yaml(file) == {"task": {"seed": 3}}


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    first = trial(method_config={"top_k": 3, "ties": "last"}, seed=2)
    second = parse(TrialConfig, {"seed": 2, **BASE, "method_config": {"ties": "last", "top_k": 3}})
    assert first.trial_id() == second.trial_id()


def test_a_trial_is_the_same_after_a_journey_through_json():
    config = trial(budget={"steps": 3, "seconds": 1.5}, method_config={"top_k": 3})
    assert TrialConfig.model_validate_json(config.model_dump_json()).trial_id() == config.trial_id()


CHANGES: list[dict[str, Any]] = [
    {"model": {"name": "n"}}, {"model": {"revision": "r"}}, {"model": {"dtype": "float64"}}, {"model": {"threads": 1}},
    {"task": {"name": "gsm8k"}}, {"task": {"data": "synthetic"}}, {"task": {"seed": 1}}, {"task": {"train_size": 5}},
    {"task": {"dev_size": 5}}, {"task": {"test_size": 5}}, {"task": {"extractor": "dollar"}}, {"method": "other"},
    {"preset": "released"}, {"method_config": {"top_k": 3}}, {"layout": {"joint": ". "}}, {"layout": {"glue": ""}},
    {"layout": {"frozen_prefix": ""}}, {"layout": {"placement": "system"}}, {"layout": {"placement": "before"}},
    {"layout": {"placement": "{prompt} {question}"}}, {"layout": {"system": ""}},
    {"layout": {"thinking": True}}, {"layout": {"thinking": False}},
    {"decoding": {"max_reasoning_tokens": 5}}, {"budget": {"patience": 4}},
    {"decoding": {"max_answer_tokens": 5}}, {"budget": {"steps": 4}}, {"budget": {"tokens": 4}},
    {"budget": {"seconds": 4.0}}, {"evaluation": {"splits": ["test"]}}, {"evaluation": {"dev_select_top": 3}},
    {"seed": 1}, {"shard_size": 5},
]  # fmt: skip


def test_every_setting_changes_the_identity():
    ids = [trial(**change).trial_id() for change in [{}, *CHANGES]]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)


def test_the_identity_is_that_of_version_0_1_0_where_nothing_newer_is_set():
    assert trial().trial_id() == "79c54c52b9cbe050"
    unset = {"layout": {"placement": "after", "system": None}, "task": {"choices_column": None}}
    assert trial(**unset).trial_id() == trial().trial_id()
    assert trial(task={"choices_column": "choices"}).trial_id() != trial().trial_id()

"""Given prompts: found by key in a user's file, and part of the trial's identity as text."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from greater_ray.assembly import resolve_config
from greater_ray.errors import ConfigError
from greater_ray.methods._prompt_files import look_up
from greater_ray.methods.fixed import PLUGIN, FixedConfig
from greater_ray.plugins import load
from greater_ray.protocols import Problem
from greater_ray.settings import merged
from tests.scripted import ScriptedModel, rows

NESTED: dict[str, Any] = {
    "plain": "Take care.",
    "navigate": {"APE": "Walk it."},
    "Llama-3-8B": {
        "navigate": {
            "APE": {"prompt": "Draw a map.", "abridged": False},
            "APO": {"prompt": "Go on ...", "abridged": True},
        },
        "folio": {"APE": {"prompt": "  "}, "scores": [1, 2]},
    },
    "gpt-3.5-turbo": {"gsm8k": "Count.", "bbh/snarks": "Smile."},
}
RECORDS = {
    "prompts": [
        {"method": "OPRO", "model": "PaLM 2-L", "task": "bbh/navigate", "prompt": "Take steps."},
        {"method": "OPRO", "model": "text-bison", "task": "bbh/navigate", "prompt": "Mind the turns."},
        {"method": "EvoPrompt", "model": "gpt-3.5", "task": "bbh/navigate", "prompt": "Evolve."},
        {"method": "EvoPrompt", "model": "gpt-3.5", "task": "gsm8k", "prompt": "Add up."},
    ]
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    written = {"json": json.dumps(NESTED), "yaml": yaml.safe_dump(NESTED), "records.json": json.dumps(RECORDS)}
    for name, text in written.items():
        (tmp_path / f"prompts.{name}").write_text(text, encoding="utf-8")
    return {name: str(tmp_path / f"prompts.{name}") for name in written}


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    ("key", "task", "full", "prompt"),
    [
        ("plain", "gsm8k", "plain", "Take care."),
        ("navigate/APE", "gsm8k", "navigate/APE", "Walk it."),
        ("navigate.APE", "gsm8k", "navigate.APE", "Walk it."),
        ("{task}/APE", "bbh/navigate", "navigate/APE", "Walk it."),
        ("Llama-3-8B/{task}/APE", "bbh/navigate", "Llama-3-8B/navigate/APE", "Draw a map."),
        ("Llama-3-8B.navigate.APE.prompt", "x", "Llama-3-8B.navigate.APE.prompt", "Draw a map."),
        ("gpt-3.5-turbo.{task}", "gsm8k", "gpt-3.5-turbo.gsm8k", "Count."),
        ("gpt-3.5-turbo/{task}", "bbh/snarks", "gpt-3.5-turbo/bbh/snarks", "Smile."),
    ],
)
def test_a_key_leads_to_a_prompt(files: dict[str, str], form: str, key: str, task: str, full: str, prompt: str):
    assert look_up(files[form], key, task) == (full, prompt)


@pytest.mark.parametrize(
    ("key", "task", "prompt"),
    [
        ("prompts/OPRO/text-bison/{task}", "bbh/navigate", "Mind the turns."),
        ("prompts/{task}/PaLM 2-L", "bbh/navigate", "Take steps."),
        ("prompts/EvoPrompt/{task}", "gsm8k", "Add up."),
        ("prompts/2", "gsm8k", "Evolve."),
        ("prompts/gpt-3.5/{task}", "bbh/navigate", "Evolve."),
    ],
)
def test_in_a_list_of_records_a_part_picks_those_that_hold_it(files: dict[str, str], key: str, task: str, prompt: str):
    assert look_up(files["records.json"], key, task)[1] == prompt


@pytest.mark.parametrize(
    ("form", "key", "sentence"),
    [
        ("json", "plane", r"^method_config\.key: 'plane' is not in '.*json'\. Did you mean 'plain'\?$"),
        (
            "yaml",
            "Llama-3-8B/navigat/APE",
            r"'navigat/APE' is not in '.*' below 'Llama-3-8B'\. Did you mean 'navigate'\?$",
        ),
        ("json", "Llama-3-8B/{task}/APO2", r"'APO2' is not in .* below 'Llama-3-8B/navigate'\. Did you mean 'APO'\?$"),
        ("json", "zzz", r"'zzz' is not in .*\. There is: 'plain', 'navigate', 'Llama-3-8B', 'gpt-3\.5-turbo'\.$"),
        ("json", "Llama-3-8B", r"'Llama-3-8B' in '.*' is no prompt; below it stand: 'navigate', 'folio'\.$"),
        ("json", "Llama-3-8B/folio/scores", r"is no prompt; below it stand: '0', '1'\.$"),
        ("json", "Llama-3-8B/folio/APE", r"'Llama-3-8B/folio/APE' in '.*' is an empty prompt\.$"),
        ("json", "Llama-3-8B/navigate/APO", r"is marked as abridged, so it is not the prompt\.$"),
        (
            "records.json",
            "prompts/OPRO",
            r"2 prompts in '.*' match 'prompts/OPRO'; add one of: 'PaLM 2-L', 'text-bison'\.$",
        ),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(files: dict[str, str], form: str, key: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        look_up(files[form], key, "bbh/navigate")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(
        ConfigError, match=r"^method_config\.prompts_file: '.*none\.json' cannot be read \(No such file"
    ):
        look_up(str(tmp_path / "none.json"), "a", "t")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("broken.json", "broken.yaml"):
        with pytest.raises(ConfigError, match="is neither valid JSON nor valid YAML"):
            look_up(str(tmp_path / name), "a", "t")


# -- the config --------------------------------------------------------------------------------------------------------


def settings(task: str = "bbh/navigate", **method_config: Any) -> dict[str, Any]:
    return {
        "model": "smollm2-135m",
        "task": {"name": task, "data": "synthetic"},
        "method": "fixed",
        "method_config": method_config,
    }


def test_the_text_is_the_identity_and_not_the_file(files: dict[str, str]):
    config = resolve_config(settings(prompts_file=files["json"], key="{task}/APE"))
    assert config.method_config == {
        "prompt": "Walk it.",
        "reference": None,
        "demonstrations": [],
        "nearest": 0,
        "prompts_file": None,
        "key": "navigate/APE",
    }
    same = resolve_config(settings(prompts_file=files["yaml"], key="{task}/APE"))
    assert same.trial_id() == config.trial_id()
    assert resolve_config(config.model_dump(mode="json")) == config, "a recorded config stands for itself"
    changed = merged(NESTED, {"navigate": {"APE": "Run it."}})
    Path(files["json"]).write_text(json.dumps(changed))
    assert resolve_config(settings(prompts_file=files["json"], key="{task}/APE")).trial_id() != config.trial_id()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"key": "a"}, r"^method_config\.key: needs a file"),
        ({"prompts_file": "f.json"}, r"^method_config\.key: missing"),
        (
            {"prompts_file": "f.json", "key": "a", "prompt": "b"},
            r"^method_config\.prompts_file: a prompt is given as well",
        ),
    ],
)
def test_a_half_named_prompt_is_refused(given: dict[str, str], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        resolve_config(settings(**given))


def test_zero_shot_cot_knows_no_files():
    with pytest.raises(ConfigError, match="prompts_file: unknown option"):
        resolve_config(settings(prompts_file="f.json", key="a") | {"method": "zero-shot-cot"})
    assert resolve_config(settings() | {"method": "zero-shot-cot"}).method_config == {
        "prompt": "Let's think step by step.",
        "reference": None,
        "demonstrations": [],
        "nearest": 0,
    }
    assert load("methods", "zero-shot-cot").state_type is PLUGIN.state_type


def test_the_given_prompt_is_the_result_and_the_reference_the_start():
    problem = Problem(rows(2), model := ScriptedModel(), 0)
    state = PLUGIN.start(problem, FixedConfig(prompt="think", reference=" slow"))
    assert (model.text(state.result), model.text(state.prompt_ids), state.finished) == (" think", " slow", True)
    with pytest.raises(ConfigError, match=r"method_config\.prompt: '' has no tokens"):
        PLUGIN.start(problem, FixedConfig())

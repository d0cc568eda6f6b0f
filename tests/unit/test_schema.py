"""The JSON Schema says what the program says: what the project ships is valid, and a mistake is one for both."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from greater_ray.assembly import resolve_config
from greater_ray.cli.app import run
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError
from greater_ray.grid.cells import expand_grid, replica_configs
from greater_ray.grid.config import GridConfig, load_grid
from greater_ray.models.sources import ModelProfile
from greater_ray.plugins import available, load
from greater_ray.schema import KINDS, editor_line, schema

ROOT = Path(__file__).parents[2]
VALIDATORS = {kind: jsonschema.Draft7Validator(schema(kind)) for kind in KINDS}
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A file of published prompts has a form of its own (docs/methods/fixed.md).
PROMPTS_FILE = "Llama-3"


def shipped() -> dict[str, tuple[str, Any]]:
    """Return every YAML file and example of the project that a user could have written, with its kind."""
    package = ROOT / "greater_ray"
    found = {p.name: ("grid", yaml.safe_load(p.read_text())) for p in (package / "grid" / "presets").glob("*.yaml")}
    for path in (package / "models" / "profiles").glob("*.yaml"):
        found[path.name] = ("profile", yaml.safe_load(path.read_text()))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            value = yaml.safe_load(block)
            if isinstance(value, dict) and PROMPTS_FILE not in value:
                kind = "trial" if value.keys() <= TrialConfig.model_fields.keys() else "grid"
                found[f"{page.relative_to(ROOT)}:{number}"] = (kind, value)
    return found


SHIPPED = shipped()


def problems(kind: str, value: Any) -> list[str]:
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in VALIDATORS[kind].iter_errors(value)]


def refuses(kind: str, value: Any) -> bool:
    """Whether the program refuses settings that are complete but for the mistake."""
    try:
        if kind == "grid":
            grid = load_grid(value)
            expand_grid(grid), replica_configs(grid)
        else:
            resolve_config(value)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str):
    jsonschema.Draft7Validator.check_schema(schema(kind))


def test_the_project_ships_examples_of_every_kind():
    assert {kind for kind, _ in SHIPPED.values()} == set(KINDS)
    assert {"docs/grids.md:0", "docs/settings.md:0"} <= SHIPPED.keys()


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_what_the_project_ships_is_valid(name: str):
    kind, value = SHIPPED[name]
    assert problems(kind, value) == []


def with_typos(value: Any) -> list[Any]:
    """Return copies of a value in which one key is mistyped, for every key at every depth."""
    if isinstance(value, dict):
        found = [{(f"{key}x" if key == wrong else key): entry for key, entry in value.items()} for wrong in value]
        return found + [{**value, key: wrong} for key, entry in value.items() for wrong in with_typos(entry)]
    if isinstance(value, list):
        return [[*value[:k], wrong, *value[k + 1 :]] for k, entry in enumerate(value) for wrong in with_typos(entry)]
    return []


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_no_key_can_be_mistyped(name: str):
    kind, value = SHIPPED[name]
    wrong = with_typos(value)
    assert wrong
    assert [entry for entry in wrong if not problems(kind, entry)] == []


SMALL_GRID = {"methods": ["zero-shot-cot"], "tasks": ["gsm8k"], "models": ["smollm2-135m"]}
SMALL_TRIAL = {"model": "smollm2-135m", "task": "gsm8k"}
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("trial", {"methd": "greater"}),
    ("trial", {"method": "graeter"}),
    ("trial", {"method": "gpo", "method_config": {"top_k": 3}}),
    ("trial", {"method_config": {"top_k": 0}}),
    ("trial", {"method_config": {"epochs": 3}}),
    ("trial", {"method": "gpo", "preset": "released"}),
    ("trial", {"task": {"name": "gsm9k"}}),
    ("trial", {"task": {"name": "gsm8k", "train_size": 0}}),
    ("trial", {"task": "bbh"}),
    ("trial", {"model": {"name": "smollm2-135m", "dtype": "int8"}}),
    ("trial", {"layout": {"placement": "above"}}),
    ("trial", {"layout": {"placement": "only {prompt}"}}),
    ("trial", {"evaluation": {"demonstrations": -1}}),
    ("trial", {"evaluation": {"demonstrations": [{"question": "q"}]}}),
    ("trial", {"budget": {"step": 3}}),
    ("trial", {"seed": -1}),
    ("trial", {"optimizer_model": {"name": "openai/x", "endpoint": {"retry": 3}}}),
    ("grid", {"method": ["greater"]}),
    ("grid", {"methods": [{"name": "greater", "method_config": {"epochs": 3}}]}),
    ("grid", {"methods": [{"name": "gpo", "preset": "released"}]}),
    ("grid", {"methods": [{"label": "nameless"}]}),
    ("grid", {"tasks": [{"name": "gsm8k", "rows_size": 3}]}),
    ("grid", {"models": [{"name": "smollm2-135m", "replicas": {"cpus": 3}}]}),
    ("grid", {"settings": {"method": "greater"}}),
    ("grid", {"settings": {"seed": 3}}),
    ("grid", {"settings": {"task": {"name": "gsm8k"}}}),
    ("grid", {"exclude": [{"modle": "x"}]}),
    ("grid", {"transfer": {"models": [{"name": "m", "budget": {"steps": 3}}]}}),
    ("grid", {"concurrency": 0}),
]


@pytest.mark.parametrize(("kind", "wrong"), MISTAKES, ids=str)
def test_schema_and_program_refuse_the_same_mistakes(kind: str, wrong: dict[str, Any]):
    complete = {**(SMALL_GRID if kind == "grid" else SMALL_TRIAL), **wrong}
    assert problems(kind, complete)
    assert refuses(kind, complete)


ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("trial", {}),
    ("trial", {"task": "gsm8k_cot_zeroshot"}),
    ("trial", {"method": "gpo", "preset": "sgdm", "method_config": {"epochs": 1}}),
    ("trial", {"preset": "released", "method_config": {"top_k": 3}}),
    ("trial", {"budget": {"steps": None, "tokens": 5}}),
    ("trial", {"layout": {"placement": "{prompt} then {question}"}}),
    ("trial", {"evaluation": {"demonstrations": 3, "nearest": 1}}),
    ("trial", {"model": {"name": "openai/x", "endpoint": {"retries": 1}}, "method": "gpo"}),
    ("trial", {"task": {"name": "rows", "rows": "mine.csv", "choices": "yes,no"}}),
    ("grid", {}),
    ("grid", {"methods": "gpo", "tasks": "bbh", "models": "org/name"}),
    ("grid", {"tasks": [{"name": "gsm8k", "label": "mine", "budget": {"steps": None, "tokens": 9}}]}),
    ("grid", {"models": [{"name": "m", "dtype": "bfloat16", "replicas": {"count": 2}}], "replicas": {"gpus": 0.5}}),
    ("grid", {"include": [{**SMALL_GRID, "seeds": [3]}], "exclude": [{"seed": 3, "task": ["gsm*", "x"]}]}),
    ("grid", {"settings": {"task": {"data": "hub"}, "method_config": {"prompt": "Think."}}}),
    ("grid", {"transfer": {"models": ["a", {"name": "b", "dtype": "auto"}], "splits": ["dev"]}}),
]


@pytest.mark.parametrize(("kind", "right"), ALLOWED, ids=str)
def test_what_the_program_takes_is_valid(kind: str, right: dict[str, Any], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("question,answer\n" + "".join(f"q{k},{'yes' if k % 2 else 'no'}\n" for k in range(30)))
    complete = {**(SMALL_GRID if kind == "grid" else SMALL_TRIAL), **right}
    assert problems(kind, complete) == []
    assert not refuses(kind, complete)


def test_parts_of_ones_own_are_no_mistake():
    own = {"method": "my_method:PLUGIN", "method_config": {"mine": 1}, "preset": "mine", "task": "my_task:Sums"}
    assert problems("trial", own) == []
    assert problems("grid", {"methods": [{"name": "my_method:PLUGIN", "method_config": {"mine": 1}}]}) == []


def described(model: type[BaseModel], seen: set[type[BaseModel]]) -> None:
    """Check that every option of a config has a description, also in the sections below it."""
    seen.add(model)
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"
        assert field.description.endswith((".", "..")), f"{model.__name__}.{name}"
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
                described(kind, seen)


def test_every_option_has_a_description():
    seen: set[type[BaseModel]] = set()
    for model in (TrialConfig, GridConfig, *(load("methods", name).config_type for name in available("methods"))):
        described(model, seen)
    assert {"EndpointConfig", "ReplicaConfig", "TransferConfig", "GpoConfig"} <= {model.__name__ for model in seen}
    assert all(field.description for field in ModelProfile.model_fields.values())


def test_the_command_writes_a_file_and_says_how_an_editor_finds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "grid.schema.json"
    assert run(["schema", "grid", "--to", str(file)]) == 0
    assert capsys.readouterr().out == f"{editor_line('grid.schema.json')}\n"
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == schema("grid")


def test_the_command_names_the_kinds(capsys: pytest.CaptureFixture[str]):
    assert run(["schema", "gird"]) == 2
    assert "Did you mean 'grid'?" in capsys.readouterr().err
    assert run(["schema", "--help"]) == 0
    assert editor_line("trial.schema.json") in capsys.readouterr().out

"""JSON Schema of the YAML files: a run's settings, a grid, a model's profile. Editors complete and check by it.

Made from the config models, so it cannot say anything else than they do. What pydantic cannot know is added here: the
options of each method and its presets go by the method's name, and names are those of the package or
``package.module:Name``. All of it is valid in draft 7, which every editor reads.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from greater_ray.config import TaskConfig, TrialConfig
from greater_ray.errors import unknown_name
from greater_ray.grid.config import AXES, SECTIONS, GridConfig, ReplicaConfig
from greater_ray.models.sources import ModelProfile, list_models
from greater_ray.plugins import available, load
from greater_ray.tasks import available_groups, available_tasks, extractor_variants, task_aliases
from greater_ray.types import PLACEMENTS, SLOTS

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
DEFAULT_METHOD = TrialConfig.model_fields["method"].default
# A name of one's own: package.module:Name.
_OWN: Schema = {"type": "string", "pattern": ":", "description": "package.module:Name"}
_TASK_NAME: Schema = {"$ref": "#/$defs/TaskName"}


def schema(kind: str) -> Schema:
    """Return the JSON Schema of a kind of YAML file: ``trial``, ``grid`` or ``profile``.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    return {"$schema": DIALECT, "title": f"greater-ray: {kind}", **KINDS[kind]()}


def editor_line(file: str) -> str:
    """Return the first line of a YAML file with which an editor completes it by the schema in ``file``."""
    return f"# yaml-language-server: $schema={file}"


def _trial() -> Schema:
    definitions = _definitions()
    trial = definitions.pop("TrialConfig")
    _name_or(trial["properties"], "model", "task", "optimizer_model")
    return {**trial, "allOf": _by_method("method"), "$defs": definitions}


def _grid() -> Schema:
    definitions = _definitions(GridConfig, ReplicaConfig)
    definitions["TaskName"]["anyOf"].insert(1, {"enum": sorted(available_groups())})
    trial, grid = definitions.pop("TrialConfig"), definitions.pop("GridConfig")
    model, task = definitions["ModelConfig"]["properties"], definitions["TaskConfig"]["properties"]
    _name_or(trial["properties"], "optimizer_model")
    own = {key: trial["properties"][key] for key in SECTIONS}
    # Where no method is named, an editor offers the options of all.
    sections = own | {
        "method_config": {"$ref": "#/$defs/AnyMethodConfig"},
        "preset": {**own["preset"], "examples": _presets(available("methods"))},
    }
    label = {"label": {"type": "string", "description": "Name of the entry in tables, in place of its name."}}
    served = {"replicas": {"$ref": "#/$defs/ReplicaConfig"}}
    definitions |= {
        "AnyMethodConfig": _any_method(definitions),
        "MethodEntry": _entry({"name": _method_name(), **label, **own}) | {"allOf": _by_method("name")},
        "TaskEntry": _entry({**task, **label, **sections}),
        "ModelEntry": _entry({**model, **label, **sections, **served}),
        "TransferModel": _entry({**model, **label, **served}),
        "SharedModel": _object({key: value for key, value in model.items() if key != "name"}),
        "SharedTask": _object({key: value for key, value in task.items() if key != "name"}),
    }
    settings = {key: value for key, value in trial["properties"].items() if key not in ("method", "seed")} | sections
    settings |= {"model": {"$ref": "#/$defs/SharedModel"}, "task": {"$ref": "#/$defs/SharedTask"}}
    for axes in (grid, definitions["Axes"]):
        _axis(axes["properties"], "methods", "MethodEntry", _method_name())
        _axis(axes["properties"], "tasks", "TaskEntry", _TASK_NAME)
        _axis(axes["properties"], "models", "ModelEntry", _model_name())
    _axis(definitions["TransferConfig"]["properties"], "models", "TransferModel", _model_name())
    pattern: Schema = {"type": ["string", "integer"]}
    rule = _object({axis: {"anyOf": [pattern, {"type": "array", "items": pattern}]} for axis in AXES})
    grid["properties"]["settings"] |= _object(settings)
    grid["properties"]["exclude"]["items"] = rule
    return {**grid, "$defs": definitions}


def _profile() -> Schema:
    found = _plain(ModelProfile.model_json_schema())
    found.pop("title", None)
    return dict(found)


KINDS: dict[str, Callable[[], Schema]] = {"trial": _trial, "grid": _grid, "profile": _profile}


def _definitions(*further: type[Any]) -> dict[str, Schema]:
    """Return the schemas of a trial's sections, of every method's options and of ``further`` models, by class name.

    No key is required, since settings come in layers; only an example that is given must be complete.
    """
    methods = {load("methods", name).config_type for name in available("methods")}
    models = sorted({TrialConfig, *further, *methods}, key=lambda model: str(model.__name__))
    _, found = models_json_schema([(model, "validation") for model in models])
    definitions: dict[str, Schema] = {name: _plain(value) for name, value in found["$defs"].items()}
    for name, value in definitions.items():
        if name != "GivenDemonstration":
            value.pop("required", None)
    trial, layout = definitions["TrialConfig"]["properties"], definitions["LayoutConfig"]["properties"]
    trial["method"] |= _method_name()
    trial["method_config"] = {"description": trial["method_config"]["description"]}
    free = {"type": "string", "allOf": [{"pattern": "\\" + slot.replace("}", "\\}")} for slot in SLOTS]}
    layout["placement"] = {**_without_type(layout["placement"]), "anyOf": [{"enum": list(PLACEMENTS)}, free]}
    definitions["ModelConfig"]["properties"]["name"] |= _model_name()
    definitions["TaskConfig"]["properties"]["name"] = _TASK_NAME
    definitions["TaskConfig"]["properties"]["extractor"]["examples"] = extractor_variants()
    definitions["TaskName"] = _task_name()
    return definitions


def _plain(value: Any, key: str = "") -> Any:
    """Drop the titles that pydantic makes of names, and write descriptions with single backticks."""
    if isinstance(value, dict):
        kept = value if key == "properties" else {k: v for k, v in value.items() if k != "title"}
        return {k: _plain(v, k) for k, v in kept.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.replace("``", "`") if key == "description" and isinstance(value, str) else value


def _without_type(value: Schema) -> Schema:
    return {key: entry for key, entry in value.items() if key != "type"}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _entry(properties: Schema) -> Schema:
    return {**_object(properties), "required": ["name"]}


def _name_or(properties: Schema, *keys: str) -> None:
    """Let a bare name stand for a section that holds nothing else."""
    for key in keys:
        described = {k: v for k, v in properties[key].items() if k in ("description", "default")}
        forms = properties[key].get("anyOf", [{"$ref": properties[key].get("$ref")}])
        name = _TASK_NAME if key == "task" else _model_name()
        properties[key] = {**described, "anyOf": [name, *forms]}


def _axis(properties: Schema, key: str, entry: str, name: Schema) -> None:
    """An axis is a list of names and entries; one name needs no list."""
    described = {k: v for k, v in properties[key].items() if k in ("description", "default")}
    items = {"anyOf": [name, {"$ref": f"#/$defs/{entry}"}]}
    properties[key] = {**described, "anyOf": [name, {"type": "array", "items": items}]}


def _method_name() -> Schema:
    return {"anyOf": [{"enum": available("methods")}, _OWN]}


def _model_name() -> Schema:
    return {"type": "string", "examples": [model.name for model in list_models()]}


def _task_name() -> Schema:
    names = [task.name for task in available_tasks()]
    # A pattern is valid and not offered: twice as many names would hide those of the package.
    others = "|".join(map(re.escape, sorted(set(task_aliases()) - set(names))))
    described = TaskConfig.model_fields["name"].description
    return {"description": described, "anyOf": [{"enum": names}, {"type": "string", "pattern": f"^({others})$"}, _OWN]}


def _presets(methods: Iterable[str]) -> list[str]:
    return sorted({"paper", *(preset for name in methods for preset in load("methods", name).presets)})


def _by_method(key: str) -> list[Schema]:
    """Return what holds for each method: its options and its presets. Where none is named it is the default one."""
    rules: list[Schema] = []
    for name in available("methods"):
        condition: Schema = {"properties": {key: {"const": name}}}
        if key == "name" or name != DEFAULT_METHOD:
            condition["required"] = [key]
        options = {"$ref": f"#/$defs/{load('methods', name).config_type.__name__}"}
        found = {"method_config": options, "preset": {"enum": _presets([name])}}
        rules.append({"if": condition, "then": {"properties": found}})
    return rules


def _any_method(definitions: Mapping[str, Schema]) -> Schema:
    """Return what is known of options that stand where several methods read them, or one of the user's own."""
    options: dict[str, list[Schema]] = {}
    for name in available("methods"):
        for option, found in definitions[load("methods", name).config_type.__name__]["properties"].items():
            forms = {key: value for key, value in found.items() if key not in ("default", "description")}
            if forms not in options.setdefault(option, []):
                options[option].append(forms)
    return {"type": "object", "properties": {option: {"anyOf": forms} for option, forms in sorted(options.items())}}

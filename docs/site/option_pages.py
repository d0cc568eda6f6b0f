"""A page for every section of the configuration, with every option: type, default, allowed values, description."""

import json
from typing import Any, get_args

import site_links
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from greater_ray.cli._options import OPTIONS
from greater_ray.config import (
    Budget,
    DecodingConfig,
    EndpointConfig,
    EvaluationConfig,
    GivenDemonstration,
    LayoutConfig,
    ModelConfig,
    TaskConfig,
    TrialConfig,
)
from greater_ray.grid.config import GridConfig, ReplicaConfig, TransferConfig
from greater_ray.models.sources import ModelProfile
from greater_ray.schema import KINDS, schema

# The page of each section: its title, its model, and what stands in front of the names of its options.
SECTIONS: dict[str, tuple[str, type[BaseModel], str]] = {
    "trial": ("A run", TrialConfig, ""),
    "model": ("model", ModelConfig, "model."),
    "endpoint": ("model.endpoint", EndpointConfig, "model.endpoint."),
    "task": ("task", TaskConfig, "task."),
    "layout": ("layout", LayoutConfig, "layout."),
    "decoding": ("decoding", DecodingConfig, "decoding."),
    "budget": ("budget", Budget, "budget."),
    "evaluation": ("evaluation", EvaluationConfig, "evaluation."),
    "demonstration": ("A given demonstration", GivenDemonstration, ""),
    "grid": ("A grid", GridConfig, ""),
    "transfer": ("transfer", TransferConfig, "transfer."),
    "replicas": ("replicas", ReplicaConfig, "replicas."),
    "profile": ("A model's profile", ModelProfile, ""),
}
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
_INTRODUCTION = """# Options

Every option of a run and of a grid; those of a method stand on the [method's page](../methods.md). How they are set,
and how an editor completes them: [settings](../settings.md). The schemas of this version: {files}.

| option | command line | description |
| --- | --- | --- |
"""


def place_of(key: str) -> str:
    """Return page and anchor of an option, by its key in a run's settings."""
    for page, (_, model, before) in SECTIONS.items():
        if page == "demonstration":
            break
        name = key.removeprefix(before)
        if key.startswith(before) and name in model.model_fields:
            return f"{page}.md#{site_links.anchor(key)}"
    return place_of(key.rpartition(".")[0])  # that of the section, where it is the one of another


def schemas() -> dict[str, str]:
    """Return the schemas as files of the site."""
    return {f"options/{kind}.schema.json": json.dumps(schema(kind), indent=1, ensure_ascii=False) for kind in KINDS}


def pages() -> dict[str, str]:
    """Return the Markdown of all pages."""
    links = ", ".join(f"[{kind}]({kind}.schema.json)" for kind in KINDS)
    rows = []
    for page, (_, model, before) in SECTIONS.items():
        for name, field in model.model_fields.items():
            option = _on_command_line(before + name) if page != "grid" else ""
            link = f"[`{before}{name}`]({page}.md#{site_links.anchor(before + name)})"
            rows.append(f"| {link} | {option} | {cell(field.description)} |")
    start = _INTRODUCTION.format(files=links)
    toc = site_links.contents(f"{title} <{page}>" for page, (title, _, _) in SECTIONS.items())
    found = {"options/index.md": start + "\n".join(rows) + "\n" + toc}
    for page, (title, model, before) in SECTIONS.items():
        found[f"options/{page}.md"] = f"# {title}\n\n{prose(model.__doc__)}\n\n{described(model, before)}"
    return found


def described(model: type[BaseModel], before: str, level: str = "##") -> str:
    """Return the options of a config, each with a heading of its own; ``before`` stands in front of their names."""
    return "".join(_option(name, field, before, level) for name, field in model.model_fields.items())


def _option(name: str, field: Any, before: str, level: str) -> str:
    key = f"{before}{name}"
    facts = [_type(field.annotation), _default(field), *_allowed(field)]
    if level == "##":
        facts.append(_on_command_line(key))
    line = " · ".join(filter(None, facts))
    return f"{level} `{key}`\n\n{{.facts}}\n{line}\n\n{field.description}\n\n"


def _on_command_line(key: str) -> str:
    """Return the option that gives a setting, or the name in a section; an empty text where there is none."""
    option = OPTIONS.get(key) or OPTIONS.get(f"{key}.name")
    return f"`{option}`" if option else ""


def prose(text: str | None) -> str:
    """Return a docstring as Markdown."""
    lines = [line.strip() for line in (text or "").strip().splitlines()]
    return "\n".join(lines).replace("``", "`")


def cell(text: str | None) -> str:
    """Return a text that may stand in a table."""
    return (text or "").replace("|", "\\|").replace("\n", " ")


def _type(annotation: Any) -> str:
    """Return a type in words."""
    inner = get_args(annotation)
    if annotation is type(None):
        return "none"
    if getattr(annotation, "__metadata__", None):
        return _type(inner[0])
    if inner and all(isinstance(value, str) for value in inner):
        return "one of " + ", ".join(f"`{value}`" for value in inner)
    if getattr(annotation, "__origin__", None) is tuple:
        return f"list of {_type(inner[0])}"
    if getattr(annotation, "__origin__", None) is dict:
        return "mapping"
    if inner:
        return " or ".join(dict.fromkeys(_type(kind) for kind in inner))
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping"}
    for page, (_, model, _) in SECTIONS.items():
        if annotation is model:
            return f"[section](../options/{page}.md)"
    return words.get(annotation, f"`{getattr(annotation, '__name__', annotation)}`")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined or isinstance(default, BaseModel):
        return ""
    value = default.model_dump() if isinstance(default, BaseModel) else default
    return f"default `{json.dumps(value, ensure_ascii=False)}`"


def _allowed(field: Any) -> list[str]:
    bounds = [(name, getattr(entry, name)) for entry in field.metadata for name in _BOUNDS if hasattr(entry, name)]
    return [_BOUNDS[name].format(value) for name, value in bounds]

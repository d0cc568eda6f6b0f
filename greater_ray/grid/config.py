"""What a grid is: axes of methods, tasks, models and seeds, settings for all of them or for one, and what comes after.

methods: [greater, {name: zero-shot-cot}]
tasks: [{name: bbh, train_size: 24}]
models: [smollm2-135m]
seeds: [0, 1]
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.config import Config, ModelConfig, TaskConfig, parse
from greater_ray.errors import ConfigError, unknown_name
from greater_ray.settings import merged, read_yaml

AXES = ("method", "task", "model", "seed")
# Sections of a trial's config that an entry of an axis may set beside its own keys.
SECTIONS = ("method_config", "preset", "layout", "decoding", "budget", "evaluation", "shard_size", "optimizer_model")

ALL_GPUS = ("auto", "cuda")  # devices that stand for all GPUs of a replica

# Where in a word of ``parse_only`` an axis begins that is not its first.
_AXIS_BEGINS = re.compile(r",(?=[A-Za-z_]+=)")

Entry = dict[str, Any]


class ReplicaConfig(Config):
    """How a model is served. Nothing here changes a result."""

    count: int | None = Field(default=None, ge=1, description="Replicas of the model; none: as many as fit.")
    gpus: float | None = Field(
        default=None,
        ge=0,
        description="GPUs per replica: 0, a part of one, or whole ones of one machine, over which the layers are "
        "spread; none: as many as `model.device` names, else one where the cluster has GPUs when the grid starts.",
    )
    prefix_memory_gib: float = Field(
        default=4.0, gt=0, description="Memory for the questions' keys and values that a replica keeps."
    )
    patience: float = Field(
        default=300.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that any call may take before its replica is said to stand still; more where such calls "
        "have taken long.",
    )

    def gpus_of(self, model: ModelConfig, has_gpus: Callable[[], bool]) -> float:
        """Return how many GPUs one replica of a model takes; ``has_gpus`` tells whether the cluster has any now.

        Raises:
            ConfigError: the model's device names others than the replica gets.
        """
        named = len(model.device.split(","))
        if self.gpus is None:
            return named if model.device.startswith("cuda") or (model.device == "auto" and has_gpus()) else 0
        if max(self.gpus, named) > 1 and self.gpus != named and model.device not in ALL_GPUS:
            why = f"'{model.device}' is not the {self.gpus:g} GPU that a replica has; leave it unset, or name as many."
            raise ConfigError(why, setting="model.device", value=model.device)
        return self.gpus

    @field_validator("gpus")
    @classmethod
    def _part_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value % 1:
            raise PydanticCustomError("gpus", "input should be 0, a part of one GPU or a whole number of them")
        return value


class TransferConfig(Config):
    """Phase two: every optimized prompt is measured, beside the prompt it started from, on these models."""

    models: tuple[Entry, ...] = Field(default=(), description="Models to measure the found prompts on.")
    splits: tuple[Literal["train", "dev", "test"], ...] = Field(
        default=("test",), description="The splits whose rows are answered there."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return _entries(value)


class Axes(Config):
    """A product of four axes. An entry is a name, or a mapping with ``name`` and further settings."""

    methods: tuple[Entry, ...] = Field(default=(), description="Methods, as names or with settings of their own.")
    tasks: tuple[Entry, ...] = Field(default=(), description="Tasks or groups of tasks, likewise.")
    models: tuple[Entry, ...] = Field(default=(), description="Models, likewise.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), description="Seeds; a deterministic method runs with the first alone."
    )

    @field_validator("methods", "tasks", "models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return _entries(value)

    @field_validator("seeds", mode="before", json_schema_input_type=tuple[Annotated[int, Field(ge=0)], ...])
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and any(isinstance(seed, bool) for seed in value):
            raise PydanticCustomError("seeds", "input should be a list of numbers")
        return value


class GridConfig(Axes):
    """A grid, complete: its axes, settings for all of them or for one, and what comes after."""

    name: str = Field(default="grid", description="Name for people.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings of every cell: sections of a trial; an entry's own win."
    )
    include: tuple[Axes, ...] = Field(default=(), description="Further products of axes.")
    exclude: tuple[dict[str, Any], ...] = Field(
        default=(), description='Cells to leave out, by patterns: `{method: greater, task: "bbh/tracking*"}`.'
    )
    transfer: TransferConfig = Field(default=TransferConfig(), description="Other models to measure what was found on.")
    replicas: ReplicaConfig = Field(
        default=ReplicaConfig(), description="How models are served; no result depends on it."
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Cells in progress at once; none: two per replica, as far as they fit into the driver's memory.",
    )


def _entries(value: Any) -> Any:
    """Write a bare name as a mapping; pydantic complains about anything else."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value
    return [{"name": entry} if isinstance(entry, str) else entry for entry in value]


def built_in_grids() -> dict[str, Path]:
    """Return the files of the grids that come with the package, by their names."""
    presets = files("greater_ray.grid").joinpath("presets")
    found = sorted(Path(str(entry)) for entry in presets.iterdir())
    return {file.stem: file for file in found if file.suffix == ".yaml"}


def grid_file(name: str, setting: str = "grid") -> Path:
    """Return the YAML file of a grid: the user's own, or one that comes with the package.

    Args:
        name: a path, or the name of a built-in grid.
        setting: what an error is about.

    Raises:
        ConfigError: there is neither.
    """
    if Path(name).suffix in (".yaml", ".yml") or Path(name).is_file():
        return Path(name)
    found = built_in_grids()
    if name not in found:
        raise unknown_name(setting, name, found)
    return found[name]


def load_grid(source: Path | Mapping[str, Any]) -> GridConfig:
    """Return a grid from a YAML file or a mapping.

    Raises:
        ConfigError: an unknown key, an entry without a name, or nothing to do.
    """
    values = read_yaml(source) if isinstance(source, Path) else dict(source)
    grid: GridConfig = parse(GridConfig, values)
    for axis, known in (("methods", ()), ("tasks", TaskConfig.model_fields), ("models", ModelConfig.model_fields)):
        allowed = {"name", "label", *SECTIONS, *known} | ({"replicas"} if axis == "models" else set())
        for number, part in enumerate((grid, *grid.include)):
            _check_entries(f"{below(number)}{axis}", getattr(part, axis), allowed)
    _check_entries("transfer.models", grid.transfer.models, {"name", "label", "replicas", *ModelConfig.model_fields})
    for key in ("method", "seed", "model.name", "task.name"):
        section, _, name = key.partition(".")
        value = grid.settings.get(section)
        if name in value if name and isinstance(value, Mapping) else value is not None:
            raise ConfigError(f"the grid's own axes say this; write it under {section}s.", setting=f"settings.{key}")
    for number, rule in enumerate(grid.exclude):
        for axis, patterns in rule.items():
            if axis not in AXES:
                raise unknown_name(f"exclude.{number}", axis, AXES)
            if not all(isinstance(p, str | int) for p in (patterns if isinstance(patterns, list) else [patterns])):
                why = f"must be a pattern or a list of patterns, not {patterns!r}."
                raise ConfigError(why, setting=f"exclude.{number}.{axis}", value=patterns)
    return _with_settings(grid)


def _with_settings(grid: GridConfig) -> GridConfig:
    """Put the settings that hold for every model below those of the models that are transferred to."""
    common = grid.settings.get("model") or {}
    models = tuple(merged(common, entry) for entry in grid.transfer.models)
    return grid.model_copy(update={"transfer": grid.transfer.model_copy(update={"models": models})})


def below(number: int) -> str:
    """Return where the axes of a part of a grid stand in its file: at the top, or in an entry of ``include``."""
    return f"include.{number - 1}." if number else ""


def _check_entries(axis: str, entries: Iterable[Entry], allowed: set[str]) -> None:
    for number, entry in enumerate(entries):
        here = f"{axis}.{number}"
        if not isinstance(entry.get("name"), str):
            raise ConfigError(f"an entry needs a name, not {entry!r}.", setting=here, value=entry)
        label = entry.get("label", entry["name"])
        if not isinstance(label, str | int) or not str(label).strip():
            raise ConfigError(f"must be a text, not {label!r}.", setting=f"{here}.label", value=label)
        if "replicas" in entry:
            if not isinstance(entry["replicas"], Mapping):
                why = f"must be a mapping, for instance {{count: 2}}, not {entry['replicas']!r}."
                raise ConfigError(why, setting=f"{here}.replicas", value=entry["replicas"])
            parse(ReplicaConfig, entry["replicas"], f"{here}.replicas")
        for key in entry:
            if key not in allowed:
                raise unknown_name(here, key, allowed)


def matches(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a cell's labels fit a rule: every axis named there, by one of its patterns."""
    return all(
        any(fnmatch.fnmatchcase(labels[axis], str(p)) for p in (patterns if isinstance(patterns, list) else [patterns]))
        for axis, patterns in rule.items()
    )


def parse_only(words: Iterable[str], setting: str = "only") -> dict[str, list[str]]:
    """Turn ``["task=bbh/navigate,bbh/snarks", "seed=0"]`` into a rule for ``matches``.

    One word may name several axes: ``method=greater,seed=0,1``. ``setting`` is what an error is about.

    Raises:
        ConfigError: a word that is not ``axis=pattern``, or an unknown axis.
    """
    rule: dict[str, list[str]] = {}
    for word in words:
        # A comma stands before a further pattern, or before a further axis.
        for part in _AXIS_BEGINS.split(word):
            axis, equals, patterns = part.partition("=")
            if not equals or not patterns:
                why = f"'{word}' must have the form axis=pattern, for instance task=bbh/navigate."
                raise ConfigError(why, setting=setting, value=word)
            if axis not in AXES:
                raise unknown_name(setting, axis, AXES)
            rule.setdefault(axis, []).extend(patterns.split(","))
    return rule

"""From a grid to its cells: every cell is one complete trial config, known by what changes its result."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from greater_ray.assembly import check_method, resolve_config
from greater_ray.config import ModelConfig, TaskConfig, TrialConfig, parse
from greater_ray.errors import ConfigError, GreaterRayError
from greater_ray.grid.config import SECTIONS, Axes, Entry, GridConfig, ReplicaConfig, below, matches
from greater_ray.models.endpoint import is_endpoint
from greater_ray.plugins import load
from greater_ray.protocols import Method
from greater_ray.settings import merged


def model_settings(own: Mapping[str, Any], shared: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings of a model of a grid: its own over those that all models ``shared``.

    Results depend on the number of threads in their last bits, so a grid fixes it; no machine decides it. How models
    are held does not apply to an endpoint.
    """
    shared = shared or {}
    if is_endpoint(str(own["name"])):
        return merged({key: value for key, value in shared.items() if key == "endpoint"}, own)
    return merged({"threads": 1}, {key: value for key, value in shared.items() if key != "endpoint"}, own)


@dataclass(frozen=True)
class Cell:
    """One trial of a grid.

    In phase two, ``source`` is the trial whose prompt it measures on another model, and ``source_model`` the label of
    the model that the prompt was found on.
    """

    config: TrialConfig
    method: str
    task: str
    model: str
    seed: str
    source: str | None = None
    source_model: str | None = None

    @property
    def trial_id(self) -> str:
        """Identity of what the cell computes."""
        return self.config.trial_id()

    @property
    def labels(self) -> dict[str, str]:
        """The cell's place on every axis; ``-`` is the seed of a deterministic method."""
        return {"method": self.method, "task": self.task, "model": self.model, "seed": self.seed}

    @property
    def title(self) -> str:
        """Name for people."""
        return title_of(self.labels, self.source_model)

    @property
    def slug(self) -> str:
        """Name for folders; not unique on its own."""
        return slug_of(self.labels)

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """The models that must be loaded while the cell runs; an endpoint is not."""
        named = dict.fromkeys((self.config.model, self.config.optimizer_model or self.config.model))
        return tuple(model for model in named if not is_endpoint(model.name))


def title_of(labels: Mapping[str, str], source_model: str | None = None) -> str:
    """Return a name for people that is made of a cell's labels, and the model that a transferred prompt is from."""
    found = "" if source_model is None else f" (prompt found on {source_model})"
    seed = "" if labels["seed"] == "-" else f", seed {labels['seed']}"
    return f"{labels['method']} on {labels['task']} with {labels['model']}{found}{seed}"


def slug_of(labels: Mapping[str, Any]) -> str:
    """Return a name for files that is made of a cell's labels; not unique on its own."""
    words = (labels["method"], labels["task"], labels["model"].rstrip("/").rpartition("/")[2], f"s{labels['seed']}")
    return "--".join(re.sub(r"[^A-Za-z0-9.]+", "_", word).strip("_") for word in words)[:120]


def expand_grid(grid: GridConfig, only: Mapping[str, list[str]] | None = None) -> list[Cell]:
    """Return the distinct cells of the first phase, model by model, in the order of the axes.

    Raises:
        ConfigError: an entry cannot be resolved, or no cell is left.
    """
    cells: dict[str, Cell] = {}
    for number, axes in enumerate((grid, *grid.include)):
        for cell in _product(grid, axes, below(number)):
            if not any(matches(rule, cell.labels) for rule in grid.exclude):
                cells.setdefault(cell.trial_id, cell)
    if not cells:
        raise _no_cells(grid)
    chosen = [cell for cell in cells.values() if _is_wanted(cell, only or {})]
    if not chosen:
        why = f"no cell of the {len(cells)} in this grid matches {dict(only or {})}."
        raise ConfigError(why, setting="only", value=dict(only or {}))
    return chosen


def _no_cells(grid: GridConfig) -> ConfigError:
    """Return the error of a grid without cells, as one of its first empty axis, or of what excludes them all."""
    for axis in ("methods", "tasks", "models", "seeds"):
        if not getattr(grid, axis):
            return ConfigError(
                f"the grid has no cells; name at least one of its {axis}, not [].", setting=axis, value=()
            )
    why = f"the grid has no cells; these rules leave none of them: {grid.exclude}."
    return ConfigError(why, setting="exclude", value=grid.exclude)


def _is_wanted(cell: Cell, only: Mapping[str, list[str]]) -> bool:
    """Tell whether ``--only`` chooses a cell; one of a deterministic method stands for every seed."""
    if cell.seed == "-":
        only = {axis: patterns for axis, patterns in only.items() if axis != "seed"}
    return matches(only, cell.labels)


def _product(grid: GridConfig, axes: Axes, where: str) -> Iterable[Cell]:
    for (m, model), (k, method), (t, task) in product(*map(enumerate, (axes.models, axes.methods, axes.tasks))):
        entries = {f"{where}tasks.{t}": task, f"{where}methods.{k}": method, f"{where}models.{m}": model}
        try:
            yield from _cells_of(grid, axes.seeds, model, method, task)
        except ConfigError as error:
            raise _blamed(error, entries) from error


def _cells_of(grid: GridConfig, seeds: Sequence[int], model: Entry, method: Entry, task: Entry) -> Iterable[Cell]:
    from greater_ray.tasks import expand

    plugin: Method[Any, Any] = load("methods", method["name"])
    seeded = plugin.seeded or _draws(grid.settings, *map(_sections, (model, method, task)))
    for name in expand(task["name"]):
        # A deterministic method gives the same record for every seed: it runs once.
        for seed in seeds if seeded else seeds[:1]:
            settings = merged(
                grid.settings,
                _sections(model),
                _sections(method),
                _sections(task),
                {
                    "task": {**_own(task, TaskConfig), "name": name},
                    "method": method["name"],
                    "seed": seed if seeded else 0,
                },
            )
            settings["model"] = model_settings(_own(model, ModelConfig), settings.get("model"))
            if writer := settings.get("optimizer_model"):
                writer = {"name": writer} if isinstance(writer, str) else writer
                settings["optimizer_model"] = model_settings(writer)
            config = resolve_config(settings)
            check_method(config)
            yield Cell(
                config=config,
                method=str(method.get("label") or method["name"]),
                task=f"{task['label']}/{name}" if "label" in task else name,
                model=str(model.get("label") or model["name"]),
                seed=str(seed) if seeded else "-",
            )


def _blamed(error: ConfigError, entries: Mapping[str, Entry]) -> GreaterRayError:
    """Return an error of a cell's setting as one of the entry of an axis that gives it; ``entries`` by their places."""
    if error.setting is None:
        return error
    section, _, key = error.setting.partition(".")
    for place, entry in entries.items():
        if place.rpartition(".")[0].endswith(f"{section}s"):
            own = key or "name"
            if own.partition(".")[0] in entry:
                return error.about(f"{place}.{own}")
        elif section in entry:
            return error.about(f"{place}.{error.setting}")
    return error


def _draws(*layers: Mapping[str, Any]) -> bool:
    """Tell whether the evaluation draws demonstrations by the seed: then no method is deterministic."""
    evaluation = merged(*layers).get("evaluation")
    number = evaluation.get("demonstrations") if isinstance(evaluation, Mapping) else None
    return isinstance(number, int) and number > 0


def _sections(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key in SECTIONS}


def _own(entry: Entry, config_type: type[Any]) -> Entry:
    return {key: value for key, value in entry.items() if key in config_type.model_fields}


def replica_configs(grid: GridConfig) -> dict[ModelConfig, ReplicaConfig]:
    """Return how each model is served: the entry's own ``replicas`` over the grid's."""
    parts = [(f"{below(number)}models", axes.models) for number, axes in enumerate((grid, *grid.include))]
    entries = {f"{axis}.{k}": entry for axis, models in parts for k, entry in enumerate(models)}
    entries |= {f"transfer.models.{k}": entry for k, entry in enumerate(grid.transfer.models)}
    return {
        task_model(grid, entry): parse(
            ReplicaConfig, merged(grid.replicas.model_dump(), entry["replicas"]), f"{place}.replicas"
        )
        for place, entry in entries.items()
        if "replicas" in entry
    }


def task_model(grid: GridConfig, entry: Entry) -> ModelConfig:
    """Return the model that an entry of ``models`` or of ``transfer.models`` stands for.

    Raises:
        ConfigError: a value that is not allowed.
    """
    model: ModelConfig = parse(
        ModelConfig, model_settings(_own(entry, ModelConfig), grid.settings.get("model")), "model"
    )
    return model


def model_titles(models: Iterable[ModelConfig]) -> dict[ModelConfig, str]:
    """Return a name for each model that no other of them has; models of one name are told apart by their settings."""
    distinct = list(dict.fromkeys(models))
    names = [model.name for model in distinct]
    return {model: model.name if names.count(model.name) == 1 else _with_settings(model) for model in distinct}


def _with_settings(model: ModelConfig) -> str:
    settings = model.model_dump(exclude={"name"}, exclude_defaults=True)
    return f"{model.name} ({', '.join(f'{key} {value}' for key, value in settings.items())})"

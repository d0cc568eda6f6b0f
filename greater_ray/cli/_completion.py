"""What a shell offers for arguments and options, from names and small files. Where nothing fits, it offers files."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import typer

# A function from what was typed so far, or from the words before it as well.
Complete = Callable[..., list[str]]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def among(*names: str) -> Complete:
    """Return a completion of fixed names."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(names, incomplete)

    return complete


def among_values(section: str, key: str) -> Complete:
    """Return a completion of the values that an option of the config may have."""

    def complete(incomplete: str) -> list[str]:
        from greater_ray.config import TrialConfig

        kind: Any = TrialConfig.model_fields[section].annotation
        return _beginning(_literals(kind.model_fields[key].annotation), incomplete)

    return complete


def complete_task(incomplete: str) -> list[str]:
    """Complete the name of a task."""
    from greater_ray.tasks import available_tasks

    return _beginning([task.name for task in available_tasks()], incomplete)


def complete_method(incomplete: str) -> list[str]:
    """Complete the name of a method."""
    from greater_ray.plugins import available

    return _beginning(available("methods"), incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Complete the name of a built-in model."""
    from greater_ray.models.sources import list_models

    return _beginning([model.name for model in list_models()], incomplete)


def complete_preset(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a preset of the method that was named before."""
    return _beginning(sorted({"paper", *_method(ctx).presets}), incomplete)


def complete_set(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the key of ``--set``: a section's option, or one of the method that was named before."""
    from greater_ray.config import TrialConfig

    keys = [*_keys(TrialConfig.model_fields), *(f"method.{key}" for key in _method(ctx).config_type.model_fields)]
    return _beginning([f"{key}=" for key in keys], incomplete)


def complete_extractor(incomplete: str) -> list[str]:
    """Complete the name of an extractor."""
    from greater_ray.tasks import extractor_variants

    return _beginning(extractor_variants(), incomplete)


def complete_format(incomplete: str) -> list[str]:
    """Complete a form of ``export``."""
    from greater_ray.plugins import available

    return _beginning(available("export"), incomplete)


def complete_grid(incomplete: str) -> list[str]:
    """Complete the name of a built-in grid; the shell itself completes files."""
    from greater_ray.grid.config import built_in_grids

    return _beginning(built_in_grids(), incomplete)


def complete_table(incomplete: str) -> list[str]:
    """Complete the name of a table of the papers."""
    from greater_ray.paper.catalog import tables

    return _beginning(["all", *tables()], incomplete)


def complete_axis(incomplete: str) -> list[str]:
    """Complete the axis of a rule such as ``task=bbh/navigate``."""
    from greater_ray.grid.config import AXES

    return _beginning([f"{axis}=" for axis in AXES], incomplete)


def complete_cell(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a rule for cells by the labels of the grid whose folder was named before, part by part."""
    from greater_ray.errors import StoreError
    from greater_ray.grid.store import GridStore

    done, comma, part = incomplete.rpartition(",")
    axis, equals, _ = part.partition("=")
    if not equals:
        return [f"{done}{comma}{name}" for name in complete_axis(part)]
    try:
        entries = GridStore(Path(ctx.params.get("run") or ".")).entries()
    except StoreError:
        return []
    labels = dict.fromkeys(entry.labels[axis] for entry in entries if axis in entry.labels)
    return _beginning([f"{done}{comma}{axis}={label}" for label in labels], incomplete)


def _method(ctx: typer.Context) -> Any:
    """Return the method that was named on the command line, or the default one."""
    from greater_ray.config import TrialConfig
    from greater_ray.errors import ConfigError
    from greater_ray.plugins import load

    default = str(TrialConfig.model_fields["method"].default)
    try:
        return load("methods", ctx.params.get("method") or default)
    except ConfigError:
        return load("methods", default)


def _keys(fields: Mapping[str, Any]) -> Iterable[str]:
    for name, field in fields.items():
        inner = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)), None)
        if inner is None:
            yield name
        else:
            yield from (f"{name}.{key}" for key in _keys(inner.model_fields))


def _literals(annotation: Any) -> list[str]:
    """Return the texts in a type, also those of the entries of a tuple."""
    inner = get_args(annotation)
    return [value for kind in inner for value in ([kind] if isinstance(kind, str) else _literals(kind))]


def _is_section(kind: Any) -> bool:
    return hasattr(kind, "model_fields")


# What is offered for an option of the settings.
COMPLETIONS: dict[str, Complete] = {
    "--task": complete_task,
    "--method": complete_method,
    "--model": complete_model,
    "--optimizer-model": complete_model,
    "--preset": complete_preset,
    "--extractor": complete_extractor,
    "--data": among("hub", "synthetic"),
    "--dtype": among_values("model", "dtype"),
    "--device": among("auto", "cpu", "cuda"),
    "--attn-implementation": among("sdpa", "eager"),
    "--answer-type": among_values("task", "answer_type"),
    "--metric": among("exact", "contains", "regex", "f1", "rouge-l", "chrf", "bleu", "json"),
    "--reading": among_values("task", "reading"),
    "--placement": among("after", "before", "system"),
    "--split": among_values("evaluation", "splits"),
    "--tracker": among("tensorboard", "mlflow", "wandb"),
    "--scale": among("full", "smoke"),
}

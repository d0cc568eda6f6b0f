"""Names of tasks and extractors. Every module of this package that holds a ``PLUGIN`` family is found by itself."""

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, cast

import yaml

from greater_ray.config import AnswerType, TaskConfig
from greater_ray.errors import ConfigError, unknown_name
from greater_ray.plugins import available, load
from greater_ray.protocols import Task, closed_set
from greater_ray.tasks._forms import AnswerForm, default_form
from greater_ray.tasks._task import Family, TaskInfo


class Extractor(NamedTuple):
    """The text after the reasoning, what stands between it and the label, and all labels of a closed set."""

    text: str
    label_prefix: str
    choices: tuple[str, ...] = ()


@cache
def _families() -> tuple[Family, ...]:
    return tuple(load("tasks", module) for module in available("tasks"))


def available_tasks() -> list[TaskInfo]:
    """Every task that can be loaded by name, sorted."""
    return sorted((info for family in _families() for info in family.tasks), key=lambda info: info.name)


def available_groups() -> dict[str, tuple[str, ...]]:
    """Groups of tasks and their members."""
    return {group: names for family in _families() for group, names in family.groups.items()}


def task_aliases() -> dict[str, str]:
    """Other names of tasks, for instance those of lm-eval, and the tasks they stand for."""
    return {alias: name for family in _families() for alias, name in family.aliases.items()}


def expand(name: str) -> list[str]:
    """Turn the name of a task, an alias or a group into names of tasks.

    Raises:
        ConfigError: no such name, with the closest one as a suggestion.
    """
    groups = available_groups()
    return list(groups[name]) if name in groups else [_canonical(name)]


def _canonical(name: str) -> str:
    if ":" in name:
        return name
    names = {info.name for info in available_tasks()}
    aliases = task_aliases()
    if name in names or name in aliases:
        return aliases.get(name, name)
    raise unknown_name("task.name", name, names | set(available_groups()))


def answer_room(name: str) -> int | None:
    """How many tokens answers of a task need, where the general default is too few; None for all other names."""
    aliases = task_aliases()
    found = (info.answer_tokens for info in available_tasks() if info.name == aliases.get(name, name))
    return next(found, None)


def load_task(config: TaskConfig) -> Task:
    """Build the task of a config; rows are read at the first use (those of ``task.rows`` at once).

    ``package.module:name`` calls one's own function with the config.

    Raises:
        ConfigError: the task is unknown, or a setting does not fit it.
        DataError: a user's own file is missing or broken.
    """
    if ":" in config.name:
        return _with_reading(cast(Task, load("tasks", config.name)(config)), config)
    groups = available_groups()
    if config.name in groups:
        raise ConfigError(
            f"'{config.name}' is a group of {len(groups[config.name])} tasks; name one of them.",
            setting="task.name",
            value=config.name,
        )
    name = _canonical(config.name)
    family = next(family for family in _families() if name in {info.name for info in family.tasks})
    return _with_reading(family.load(name, config), config)


def _with_reading(task: Task, config: TaskConfig) -> Task:
    if config.reading == "likelihood":
        if not closed_set(task):
            why = f"'likelihood' compares choices, but answers of '{task.name}' ({task.answer_type}) are no closed set."
            raise ConfigError(why, setting="task.reading", value=config.reading)
        task.reading = config.reading  # type: ignore[attr-defined]
    return task


@cache
def _extractors() -> dict[str, dict[str, dict[str, str]]]:
    text = files("greater_ray.tasks").joinpath("extractors.yaml").read_text(encoding="utf-8")
    table: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    return table


def extractor_variants() -> list[str]:
    """Names of the extractor variants that ship with the package."""
    return sorted(_extractors())


def extractor(task: Task, variant: str) -> Extractor:
    """The extractor of a task: a named variant, or the text itself, which must hold a blank.

    Raises:
        ConfigError: an unknown variant, or a text of nothing but blanks.
    """
    table = _extractors()
    form: Any = getattr(task, "form", None)
    if not isinstance(form, AnswerForm):
        form = default_form(cast(AnswerType, task.answer_type))
    if variant in table:
        entry = table[variant][form.kind]
        choices = " or ".join([entry["choice"].format(choice) for choice in form.choices]) if "choice" in entry else ""
        return Extractor(entry["text"].replace("{choices}", choices), entry["label_prefix"], form.choices)
    if " " in variant.strip():
        # After an opening mark the label follows directly, as in "the answer is (".
        text = variant.rstrip(" ")
        return Extractor(text, "" if text[-1] in "([{$\"'*" else " ", form.choices)
    why = f"{unknown_name('', variant, table).why} A text of your own must hold a blank."
    raise ConfigError(why, setting="task.extractor", value=variant, allowed=table)

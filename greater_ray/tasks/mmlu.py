"""MMLU: four options on 57 subjects, in the form and the sizes of GPO's experiments."""

from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files

import yaml

from greater_ray.config import TaskConfig
from greater_ray.protocols import Task
from greater_ray.tasks._forms import letter_form
from greater_ray.tasks._given import by_position, given, load_off_hub, refuse_gpo_without_files
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._sources import Row, check_data_option, read_hub
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, refuse_other_type
from greater_ray.types import Example

HUB_ID = "cais/mmlu"
FORM = letter_form(4)
# As many as GPO's authors took; the smallest subjects have 100 rows in their official test split.
SIZES = {"train": 20, "dev": 20, "test": 60}


@cache
def fields() -> Mapping[str, tuple[str, ...]]:
    """The subjects of each field: STEM (``stem``), ``humanities``, ``social sciences`` and ``other``."""
    text = files("greater_ray.tasks").joinpath("mmlu_fields.yaml").read_text(encoding="utf-8")
    return {field: tuple(subjects) for field, subjects in yaml.safe_load(text).items()}


def load(name: str, config: TaskConfig) -> Task:
    """Build one subject from the hub, from a folder with GPO's files, or from made rows of the same form.

    Raises:
        ConfigError: ``task.data`` is unusable or a setting does not apply.
    """
    refuse_other_type(name, config, FORM, ("gpo",))
    check_data_option(config.data)
    refuse_gpo_without_files(name, config)
    title = f"{name} (synthetic)" if config.data == "synthetic" else name
    return RowTask(name, FORM, partial(_load_rows, name.removeprefix("mmlu/"), config), title)


def _load_rows(subject: str, config: TaskConfig) -> Loaded:
    name, needs = f"mmlu/{subject}", "a question and the letter of one of four options"
    if config.data == "hub":
        source = read_hub(HUB_ID, "test", subject)
        rule = "the official test split by position: rows 0-19 train, 20-39 dev, 40-99 test"
        return given(name, config, by_position(source, SIZES), partial(_hub_row, name), rule, needs)
    return load_off_hub(name, config, FORM, SIZES, [name, subject], needs, "mmlu", subject)


def _hub_row(name: str, split: str, row: Row) -> Example | None:
    """Write one row as GPO's files have it: the options as lines of the question."""
    question, options, index = (row.values.get(key) for key in ("question", "choices", "answer"))
    if not isinstance(question, str) or not isinstance(options, list) or not isinstance(index, int):
        return None
    if not question.strip() or len(options) != len(FORM.choices) or not 0 <= index < len(options):
        return None
    shown = "\n".join(f"({letter}) {str(option).strip()}" for letter, option in zip(LETTERS, options, strict=False))
    letter = LETTERS[index]
    return Example(f"{name}/{split}#{row.index}", f"{question.strip()}\n{shown}", f"({letter})", letter)


def _group(field: str) -> str:
    return f"mmlu-{field.replace(' ', '-')}"


def _family() -> Family:
    named = [(f"mmlu/{subject}", field, subject) for field, subjects in fields().items() for subject in subjects]
    infos = tuple(
        TaskInfo(name, "letter", ("mmlu", _group(field)), f"{subject.replace('_', ' ')} ({field})", True)
        for name, field, subject in named
    )
    groups = {"mmlu": tuple(sorted(info.name for info in infos))}
    groups |= {_group(field): tuple(f"mmlu/{subject}" for subject in subjects) for field, subjects in fields().items()}
    return Family(infos, load, groups, {f"mmlu_{subject}": name for name, _, subject in named})


PLUGIN = _family()

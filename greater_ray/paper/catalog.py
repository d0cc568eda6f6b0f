"""The experiments as data: one YAML file per table or figure, and what they share in ``settings.yaml``."""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import Field

from greater_ray.config import Config, parse
from greater_ray.errors import unknown_name
from greater_ray.tasks import expand

NO_PROMPT = "no prompt is published"
EMPTY = "an empty prompt cannot be measured"


class Entry(Config):
    """A row or a column: what it adds to the numbers that lie in it. A row goes before a column.

    ``method`` is a name of ``settings.yaml``, ``prompts`` a set of published prompts (``none``: none is known;
    ``empty``: the empty prompt).
    ``tasks`` are tasks or groups whose scores are averaged; ``each`` makes one column of every task of a group.
    ``transfer`` is the model on which the prompt found with ``model`` is measured, ``writer`` the model that writes.
    ``settings`` are sections of a trial's config. ``published`` holds a row's published values, column by column, in
    percent. ``against`` marks the row that the others of its group are compared with.
    """

    label: str = ""
    group: str = ""
    method: str | None = None
    prompts: str | None = None
    model: str | None = None
    transfer: str | None = None
    writer: str | None = None
    tasks: tuple[str, ...] = ()
    each: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    published: tuple[float | None, ...] = ()
    against: bool = False


class Table(Config):
    """A table or figure: rows x columns, and what the papers say about them.

    ``against`` is the label of the row that the others are compared with. ``figure`` is how it is drawn: ``bars``, or
    ``outcomes`` (wins, draws and losses).
    """

    name: str
    title: str
    source: str
    suite: Literal["greater", "gpo"]
    against: str | None = None
    figure: Literal["bars", "outcomes"] | None = None
    rows: tuple[Entry, ...]
    columns: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


class Suite(Config):
    """What holds for all cells of one paper's tables; ``families`` has settings of tasks where no scale has others."""

    seeds: tuple[int, ...]
    settings: dict[str, Any]
    families: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Supposed(Config):
    """What estimates without a probe suppose of a scale and of a machine; see ``settings.yaml``."""

    machine: str
    answer_tokens: int
    written_tokens: int
    writer_tokens: int
    writer_written_tokens: int
    read_per_second: float
    written_per_second: float


class Scale(Config):
    """How large everything is. What is empty is as the tables say.

    ``model`` stands for every model, ``transfer`` for those that are transferred to. ``stand_ins`` maps tasks to others
    that have synthetic rows, ``groups`` replaces groups of tasks; ``methods`` has settings by the method's own name.
    """

    about: str
    supposed: Supposed
    seeds: tuple[int, ...] | None = None
    model: dict[str, Any] | None = None
    transfer: dict[str, Any] | None = None
    stand_ins: dict[str, str] = Field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Shared(Config):
    """``settings.yaml``."""

    order: tuple[str, ...]
    models: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    suites: dict[str, Suite]
    groups: dict[str, tuple[str, ...]]
    scales: dict[str, Scale]
    rows: dict[str, tuple[int, int, int]]


class Prompt(Config):
    """A published prompt; ``cut`` tells that its source shortens it."""

    prompt: str
    cut: bool = False


@cache
def _yaml(name: str) -> Any:
    text = files("greater_ray.paper").joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def shared() -> Shared:
    """Return what the tables share."""
    found: Shared = parse(Shared, _yaml("settings.yaml"))
    return found


def scale(name: str) -> Scale:
    """Return a scale.

    Raises:
        ConfigError: there is none of that name.
    """
    scales = shared().scales
    if name not in scales:
        raise unknown_name("scale", name, scales)
    return scales[name]


def published_prompt(name: str, task: str) -> Prompt | None:
    """Return the prompt of a set for a task; None where none is published."""
    if name == "none":
        return None
    if name == "empty":
        return Prompt(prompt="")
    found = _yaml("prompts.yaml")[name]["prompts"].get(task)
    if found is None:
        return None
    return Prompt(**(found if isinstance(found, dict) else {"prompt": found}))


def prompt_source(name: str) -> str:
    """Return where the prompts of a set were published."""
    return str(_yaml("prompts.yaml")[name]["source"])


def tasks_of(name: str) -> tuple[str, ...]:
    """Return the tasks behind a name: a group of ``settings.yaml``, or what the registry knows.

    Raises:
        ConfigError: the registry does not know it, or one of its tasks.
    """
    groups = shared().groups
    return tuple(task for part in groups.get(name, (name,)) for task in expand(part))


@cache
def table(name: str) -> Table:
    """Return a table.

    Raises:
        ConfigError: there is no such table.
    """
    if name not in shared().order:
        raise unknown_name("table", name, [*shared().order, "all"])
    found: Table = parse(Table, {"name": name, **_yaml(f"tables/{name}.yaml")})
    return _columns_of_groups(found)


def tables() -> tuple[str, ...]:
    """Return the names of the tables, in order."""
    return shared().order


def _columns_of_groups(found: Table) -> Table:
    """Write one column for every task of a group that is to have them."""
    columns: list[Entry] = []
    for entry in found.columns:
        if entry.each is None:
            columns.append(entry)
            continue
        for task in tasks_of(entry.each):
            label = task.rpartition("/")[2]
            columns.append(entry.model_copy(update={"label": label, "tasks": (task,)}))
    return found.model_copy(update={"columns": tuple(columns)})

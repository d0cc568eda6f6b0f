"""What a user's own rows are made of: one file, three files, or a data set of the hub, with its splits."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError, did_you_mean
from greater_ray.tasks import _inspect, _lm_eval
from greater_ray.tasks._files import READERS
from greater_ray.tasks._sources import Row, hub_splits, local_origin
from greater_ray.tasks._splits import SPLITS

HUB = "hub:"
# What data sets call their splits.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "val", "validation", "eval"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FILES = {"train": "rows", "dev": "dev_rows", "test": "test_rows"}


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are read from one place.

    ``setting`` names the place, ``place`` is what errors call it, ``label`` what the ids of rows begin with. ``split``
    is where all its rows go, None where that is told elsewhere. ``origin`` gets the number of rows that were read.
    """

    setting: str
    place: str
    label: str
    split: str | None
    rows: Callable[[], Iterator[Row]]
    origin: Callable[[int], Mapping[str, Any]]


def stamps(config: TaskConfig) -> tuple[tuple[int, int] | None, ...]:
    """Return what tells that a file has changed since it was read: size and time; None for what is no file."""
    found: list[tuple[int, int] | None] = []
    for field in _FILES.values():
        try:
            known = os.stat(getattr(config, field) or "")
        except OSError:
            found.append(None)
        else:
            found.append((known.st_size, known.st_mtime_ns))
    return tuple(found)


def parts_of(config: TaskConfig) -> list[Part]:
    """Return the places of all rows, in the order train, dev, test.

    Raises:
        ConfigError: settings contradict each other, or a file has no ending that is known.
        DataError: a data set of the hub cannot be loaded.
    """
    _refuse_contradictions(config)
    given = {split: str(getattr(config, field)) for split, field in _FILES.items() if getattr(config, field)}
    if config.rows is not None and config.rows.startswith(HUB):
        return _hub_parts(config)
    several = len(given) > 1
    return [_file(f"task.{_FILES[split]}", path, split if several else None, config) for split, path in given.items()]


def _refuse_contradictions(config: TaskConfig) -> None:
    on_hub = config.rows is not None and config.rows.startswith(HUB)
    files = [field for field in ("dev_rows", "test_rows") if getattr(config, field) is not None]
    for field in files:
        value = getattr(config, field)
        if config.rows is None:
            raise ConfigError(
                "goes with §task.rows, which has the rows for train.", setting=f"task.{field}", value=value
            )
        if config.split_column is not None:
            why = f"'{config.split_column}' contradicts §task.{field}: the files tell the splits already."
            raise ConfigError(why, setting="task.split_column", value=config.split_column)
        if on_hub or value.startswith(HUB):
            why = f"'{value}' must be a file beside a file of §task.rows; a data set of the hub has splits of its own."
            raise ConfigError(why, setting=f"task.{field}", value=value)
    places = {"rows": config.rows, **{field: getattr(config, field) for field in files}}
    known: dict[Path, str] = {}
    for field, value in places.items():
        first = known.setdefault(Path(os.path.realpath(value or "")), field)
        if first != field:
            why = f"'{value}' is the file of §task.{first} too; splits share no rows."
            raise ConfigError(why, setting=f"task.{field}", value=value)
    for field in ("rows_split", "rows_revision"):
        if getattr(config, field) is not None and not on_hub:
            why = f"goes with a data set of the hub (§task.rows {HUB}ORG/NAME), not with '{config.rows}'."
            raise ConfigError(why, setting=f"task.{field}", value=getattr(config, field))
    if config.rows_split is None and config.split_column is not None and on_hub:
        why = "goes with one split of a data set; name it by §task.rows_split."
        raise ConfigError(why, setting="task.split_column", value=config.split_column)


def _file(setting: str, name: str, split: str | None, config: TaskConfig) -> Part:
    path, told = Path(name), None
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise DataError(f"'{path}' is {what}.", setting=setting, value=name)
    ending = path.suffix.lower()
    reader = READERS.get(ending)
    if ending in _inspect.ENDINGS:
        reader, told = _inspect.inspect_rows, _inspect.TOLD
    elif ending == ".jsonl" and _lm_eval.holds_samples(path):
        question = config.question_template is None and config.question_column == "question"
        answer = config.answer_column == "answer"
        reader, told = partial(_lm_eval.lm_eval_rows, question=question, answer=answer), _lm_eval.TOLD
    if reader is None:
        more = f" A data set of the hub is {HUB}ORG/NAME." if setting == "task.rows" else ""
        endings = [*READERS, *_inspect.ENDINGS]
        hint = did_you_mean(ending, endings)
        raise ConfigError(f"'{path}' must end in {', '.join(endings)}.{hint}{more}", setting=setting, value=path)
    return Part(
        setting=setting,
        place=str(path),
        label=path.name,
        split=split,
        rows=partial(reader, path, setting),
        origin=partial(_of_file, path, told),
    )


def _of_file(path: Path, told: str | None, rows: int) -> Mapping[str, Any]:
    """Where the rows of a file are from, and how another program's were read."""
    return {**local_origin(path, rows), **({"read_as": told} if told else {})}


def _hub_parts(config: TaskConfig) -> list[Part]:
    """Return the split that is named, or all whose names are known; a data set of one split is like one file."""
    repository, _, name = str(config.rows).removeprefix(HUB).partition(":")
    if not repository:
        raise ConfigError(
            f"'{config.rows}' names no data set; write {HUB}ORG/NAME.", setting="task.rows", value=config.rows
        )
    found = hub_splits(repository, name or None, config.rows_revision, config.rows_split, "task.rows")
    if len(found) > 1:
        named = {key: SPLIT_WORDS.get(key.lower()) for key in found}
        of_split = {split: [key for key, own in named.items() if own == split] for split in SPLITS}
        if any(len(keys) > 1 for keys in of_split.values()) or not of_split["train"]:
            why = f"'{repository}' has the splits {', '.join(found)}, of which train, dev and test cannot be told; "
            raise ConfigError(f"{why}name one by §task.rows_split.", setting="task.rows", value=config.rows)
        chosen = [(split, keys[0]) for split, keys in of_split.items() if keys]
    else:
        chosen = [("train", key) for key in found]
    return [
        Part(
            setting="task.rows",
            place=f"{repository} ({key})",
            label=repository,
            split=split if len(chosen) > 1 else None,
            rows=found[key].rows,
            origin=partial(_with_number, found[key].origin),
        )
        for split, key in chosen
    ]


def _with_number(origin: Mapping[str, Any], rows: int) -> Mapping[str, Any]:
    return {**origin, "rows": rows}


def refuse_empty(part: Part) -> DataError:
    """Return the error of a place that holds no rows."""
    return DataError(f"'{part.place}' has no rows.", setting=part.setting, value=part.place)

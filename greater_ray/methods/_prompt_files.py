"""Prompts by key, out of a user's JSON or YAML file: nested mappings, and lists of records.

A key such as ``Llama-3/navigate/APE`` goes down level by level; its parts are joined by ``/`` or ``.``, and names that
hold these characters themselves are found as well. In a list of records a part picks those that hold it as a value.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from greater_ray.errors import ConfigError, did_you_mean

TASK_SLOT = "{task}"
JOINTS = "/."


def look_up(file: str, key: str, task: str) -> tuple[str, str]:
    """Return the key with the task's name filled in, and the prompt that stands there.

    The task's name is tried in full (``bbh/navigate``) and without its family (``navigate``).

    Raises:
        ConfigError: the file cannot be read, or nothing, no text or more than one prompt stands there.
    """
    content = _read(file)
    names = dict.fromkeys((task, task.rpartition("/")[2]))
    keys = list(dict.fromkeys(key.replace(TASK_SLOT, name) for name in names))
    for full in keys:
        for node in _below(content, full):
            return full, _prompt(node, file, full)
    raise _missing(content, file, keys)


def _read(file: str) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
        return json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(
            f"'{file}' cannot be read ({error.strerror}).", setting="method_config.prompts_file", value=file
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"'{file}' is neither valid JSON nor valid YAML.", setting="method_config.prompts_file", value=file
        ) from error


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """What a part of a key can name below a node."""
    if isinstance(node, dict):
        yield from ((str(name), child) for name, child in node.items())
    elif isinstance(node, list):
        values = dict.fromkeys(v for item in node if isinstance(item, dict) for _, v in _fields(item))
        yield from ((v, [i for i in node if isinstance(i, dict) and v in dict(_fields(i)).values()]) for v in values)
        yield from ((str(k), item) for k, item in enumerate(node))


def _fields(record: dict[Any, Any]) -> list[tuple[str, str]]:
    """The short texts that tell a record from others."""
    return [(str(k), v) for k, v in record.items() if isinstance(v, str) and v and k != "prompt" and len(v) <= 100]


def _below(node: Any, rest: str) -> Iterator[Any]:
    """All nodes that ``rest`` leads to; longer names first, so that ``a.b`` is not mistaken for ``a`` and ``b``."""
    if not rest:
        yield node
    for name, child in sorted(_children(node), key=lambda pair: -len(pair[0])):
        if name and rest.startswith(name) and (rest == name or rest[len(name)] in JOINTS):
            yield from _below(child, rest[len(name) + 1 :])


def _prompt(node: Any, file: str, key: str) -> str:
    if isinstance(node, list) and len(node) == 1:
        node = node[0]
    if isinstance(node, dict) and isinstance(node.get("prompt"), str):
        if node.get("abridged") is True:
            raise ConfigError(
                f"'{key}' in '{file}' is marked as abridged, so it is not the prompt.",
                setting="method_config.key",
                value=key,
            )
        node = node["prompt"]
    if isinstance(node, str) and node.strip():
        return node
    if isinstance(node, str):
        raise ConfigError(f"'{key}' in '{file}' is an empty prompt.", setting="method_config.key", value=key)
    if isinstance(node, list) and (several := _telling(node)):
        raise ConfigError(
            f"{len(node)} prompts in '{file}' match '{key}'; add one of: {', '.join(several)}.",
            setting="method_config.key",
        )
    names = [name for name, _ in _children(node)]
    shown = f"; below it stand: {_shown(names)}" if names else ""
    raise ConfigError(f"'{key}' in '{file}' is no prompt{shown}.", setting="method_config.key", value=key)


def _telling(records: list[Any]) -> list[str]:
    """The values of the first field in which the records differ."""
    fields = [dict(_fields(item)) for item in records if isinstance(item, dict)]
    for name in dict.fromkeys(name for record in fields for name in record):
        values = list(dict.fromkeys(record[name] for record in fields if name in record))
        if len(values) > 1:
            return [f"'{value}'" for value in values[:12]]
    return []


def _missing(content: Any, file: str, keys: list[str]) -> ConfigError:
    """Say where the key leaves the file, and what is closest there."""
    places = [place for key in keys for place in _deepest(content, key, "")]
    node, rest, path = min(places, key=lambda place: len(place[1]))
    names = list(dict.fromkeys(name for name, _ in _children(node)))
    part = min((rest.partition(joint)[0] for joint in JOINTS), key=len)
    hint = did_you_mean(rest, names) or did_you_mean(part, names) or f" There is: {_shown(names)}."
    below = f" below '{path}'" if path else ""
    return ConfigError(f"'{rest}' is not in '{file}'{below}.{hint}", setting="method_config.key", value=rest)


def _deepest(node: Any, rest: str, path: str) -> Iterator[tuple[Any, str, str]]:
    yield node, rest, path
    for name, child in _children(node):
        if name and rest.startswith(name) and len(rest) > len(name) and rest[len(name)] in JOINTS:
            yield from _deepest(child, rest[len(name) + 1 :], f"{path}/{name}" if path else name)


def _shown(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")

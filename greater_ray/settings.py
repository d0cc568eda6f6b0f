"""Settings before they are a config: nested mappings from YAML files and ``key=value``, and their layers merged."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from greater_ray.errors import ConfigError, Place


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}).", setting="config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(str(path), mark.line + 1 if mark is not None else None)
        # What the library says repeats the line, in which a key may stand.
        raise ConfigError("not valid YAML.", setting="config", place=place) from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold a mapping of options, not {type(values).__name__}.", setting="config")
    return values


def line_in_yaml(path: Path, setting: str, below: str | None = None) -> int | None:
    """Return the line, from 1, on which a YAML file sets ``setting`` or the nearest key above it.

    With ``below`` the setting is looked for under that key of the file. None: not even its first part stands there.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if below is not None:
        node = _child(node, below)[1]
    line = None
    for part in setting.split("."):
        found, node = _child(node, part)
        if found is None:
            break
        line = found
    return line


def _child(node: Any, part: str) -> tuple[int | None, Any]:
    """Return the line and the node of a key of a mapping, or of an entry of a list by its number."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return int(key.start_mark.line) + 1, value
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        entry = node.value[int(part)]
        return int(entry.start_mark.line) + 1, entry
    return None, None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; later layers win. None does not override, but under ``budget``, where it lifts a limit."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                found = result.get(key)
                below = found if isinstance(found, Mapping) else {}
                result[key] = {**below, **value} if key == "budget" else merged(below, value)
            elif value is not None or key not in result:
                result[key] = value
    return result


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["task.seed=3", "method_config.top_k=20"]`` into a nested mapping; values are YAML.

    Raises:
        ConfigError: an assignment without ``=`` or with an empty key.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"'{assignment}' must have the form key=value, for instance method_config.top_k=20.", setting="set"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    f"'{assignment}' sets a value below '{parent}', which is already a value.", setting="set"
                )
            node = child
        node[last] = value
    return result

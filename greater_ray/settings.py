"""Settings before they are a config: nested mappings from YAML files and ``key=value``, and their layers merged."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, SequenceNode

from greater_ray.errors import ConfigError, Place

# Values that anchors may stand for in all: a file of a kilobyte can name billions.
_MOST_VALUES = 100_000
# What the library raises for text that is no YAML: for tags and dates that do not fit, and brackets in brackets, too.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


class _RefusedError(ConstructorError):
    """What this module finds wrong: it says nothing of a file but keys and numbers."""

    def __init__(self, problem: str, node: Node) -> None:
        super().__init__(None, None, problem, node.start_mark)


class _Loader(yaml.SafeLoader):
    """Plain values alone; a key that stands twice is an error, as one of the two would have no effect."""

    def get_single_data(self) -> Any:
        """Return the one value of a text."""
        node = self.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return self.construct_document(node)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping of keys that all differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _RefusedError(f"'{key.value}' stands twice", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _count(node: Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for, those behind anchors as often as they are named.

    Raises:
        _RefusedError: too many, or it holds itself.
    """
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES  # until it is known: who comes here again meanwhile is inside it
        below: list[Node] = []
        if isinstance(node, MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            below = node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in below)
    if known[id(node)] > _MOST_VALUES:
        raise _RefusedError(f"anchors stand for more than {_MOST_VALUES} values", node)
    return known[id(node)]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML or is not a mapping, or a key stands in it twice.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}).", setting="config", value=path) from error
    except _NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(str(path), mark.line + 1 if mark is not None else None)
        # What the library says repeats the line, in which a key may stand.
        why = f"{error.problem}." if isinstance(error, _RefusedError) else "not valid YAML."
        raise ConfigError(why, setting="config", place=place) from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"'{path}' must hold a mapping of options, not {type(values).__name__}.", setting="config", value=path
        )
    return values


def line_in_yaml(path: Path, setting: str, below: str | None = None) -> int | None:
    """Return the line, from 1, on which a YAML file sets ``setting`` or the nearest key above it.

    With ``below`` the setting is looked for under that key of the file. None: not even its first part stands there.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, *_NOT_YAML):
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
                f"'{assignment}' must have the form key=value, for instance method_config.top_k=20.",
                setting="set",
                value=assignment,
            )
        try:
            value = yaml.load(text, _Loader)
        except _NOT_YAML:
            value = text
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    f"'{assignment}' sets a value below '{parent}', which is already a value.",
                    setting="set",
                    value=assignment,
                )
            node = child
        node[last] = value
    return result

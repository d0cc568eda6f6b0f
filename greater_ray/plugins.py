"""Names of methods: a module of ``greater_ray.methods``, or ``package.module:Name``. There is no list to edit."""

import pkgutil
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from greater_ray.errors import ConfigError, unknown_name

# The setting that names a thing of each kind.
SETTINGS = {
    "methods": "method", "models": "model.name", "tasks": "task.name", "metrics": "task.metric", "export": "format",
}  # fmt: skip

# Keys under which a name stands that may be one of a plugin.
_NAMED = {"method", "methods", "task", "tasks", "model", "models", "optimizer_model", "metric"}
_PLUGIN = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*")


def available(kind: str) -> list[str]:
    """Return the names of a kind (``"methods"``), read from the folder of its package."""
    package = import_module(f"greater_ray.{kind}")
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(m.name.replace("_", "-") for m in modules if not m.name.startswith("_"))


def load(kind: str, name: str) -> Any:
    """Return the object behind ``name``: the attribute ``PLUGIN`` of the module, or the one named after a colon.

    Raises:
        ConfigError: no such name, with the closest one as a suggestion.
    """
    setting = SETTINGS[kind]
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            return getattr(import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            why = f"'{name}' cannot be imported ({error}); write package.module:Name."
            raise ConfigError(why, setting=setting, value=name) from error
    names = available(kind)
    if name not in names:
        raise unknown_name(setting, name, names)
    return import_module(f"greater_ray.{kind}.{name.replace('-', '_')}").PLUGIN


def outside(settings: Any, key: str = "") -> list[str]:
    """Return the names in settings, or in a grid, that are code of another package; nothing is imported."""
    if isinstance(settings, Mapping):
        found = [name for own, value in settings.items() for name in outside(value, key if own == "name" else str(own))]
    elif isinstance(settings, list | tuple):
        found = [name for value in settings for name in outside(value, key)]
    else:
        named = key in _NAMED and isinstance(settings, str) and _PLUGIN.fullmatch(settings)
        found = [settings] if named and not settings.startswith("greater_ray.") else []
    return [*dict.fromkeys(found)]

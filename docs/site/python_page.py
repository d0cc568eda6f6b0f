"""The page of what is public in Python: every name of the package with its signature and docstring."""

import inspect
import re
from typing import Any

import option_pages

import greater_ray

_FUNCTIONS = ("optimize", "evaluate", "load")


def pages() -> dict[str, str]:
    """Return the Markdown of the page."""
    others = [name for name in greater_ray.__all__ if name not in _FUNCTIONS and not name.startswith("__")]
    text = f"# Python\n\n{option_pages.prose(greater_ray.__doc__)}\n\n"
    return {"python.md": text + "".join(_entry(name) for name in (*_FUNCTIONS, *others))}


def _entry(name: str) -> str:
    found = getattr(greater_ray, name)
    text = f"## `{name}`\n\n"
    if inspect.isfunction(found):
        text += f"```python\n{_signature(name, found)}\n```\n\n"
    text += _sections(inspect.getdoc(found))
    if inspect.isclass(found):
        for member, value in vars(found).items():
            function = value.fget if isinstance(value, property) else value
            if inspect.isfunction(function) and not member.startswith("_") and function.__doc__:
                text += f"### `{name}.{member}`\n\n{_sections(inspect.getdoc(function))}"
    return text


def _signature(name: str, found: Any) -> str:
    parameters = ",\n    ".join(_parameter(parameter) for parameter in inspect.signature(found).parameters.values())
    return f"{name}(\n    {parameters},\n)"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = (
        "**" if parameter.kind is parameter.VAR_KEYWORD else "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    )
    kind = parameter.annotation
    words = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {re.sub(r'(typing|pathlib|collections[.]abc)[.]', '', words)}{default}"


def _sections(text: str | None) -> str:
    """Return a docstring in Google's style as Markdown: headings of its sections, entries as a list."""
    lines: list[str] = []
    for line in (text or "").replace("``", "`").splitlines():
        if line in ("Args:", "Returns:", "Raises:"):
            lines += [f"**{line[:-1]}**", ""]
        elif line.startswith("    ") and not line.startswith("     "):
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon else f"- {line.strip()}")
        else:
            lines.append(line.strip() if not line.startswith("     ") else f"  {line.strip()}")
    return "\n".join(lines) + "\n\n"

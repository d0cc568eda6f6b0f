"""A reference at the end of every method's page, and the page itself where a method has none of its own."""

import sys
from collections.abc import Mapping
from typing import Any

import option_pages
import yaml

from greater_ray.plugins import available, load
from greater_ray.protocols import EndsItself, NeedsWork

_PAGES = {f"methods/{name}.md": name for name in available("methods")}


def places() -> list[str]:
    """Return the pages for a table of contents."""
    return [f"{name} <methods/{name}>" for name in _PAGES.values()]


def pages(written: Mapping[str, str]) -> dict[str, str]:
    """Return the page of every method: what is written by hand, else what its module says, and the reference."""
    return {place: (written.get(place) or _page(name)) + reference(name) for place, name in _PAGES.items()}


def _page(name: str) -> str:
    method = load("methods", name)
    first, *others = type(method).__mro__[:-1]
    text = option_pages.prose(sys.modules[first.__module__].__doc__)
    kin = [base for base in others if base.__module__.startswith("greater_ray.methods.")]
    known = {load("methods", other).__class__.__module__: other for other in available("methods")}
    related = [f"[{known[base.__module__]}]({known[base.__module__]}.md)" for base in kin if base.__module__ in known]
    seen = f"\n\nIt shares its code with {', '.join(dict.fromkeys(related))}.\n" if related else "\n"
    return f"# {name}\n\n{text}{seen}"


def reference(name: str) -> str:
    """Return the reference that ends a method's page."""
    method = load("methods", name)
    rows = "\n".join(f"| {what} | {option_pages.cell(text)} |" for what, text in _facts(name, method))
    presets = "".join(
        f"**`{preset}`**\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}```\n\n"
        for preset, settings in method.presets.items()
        if settings
    )
    options = option_pages.described(method.config_type, "", level="###")
    return (
        f"\n\n## Reference\n\n*Made from the code.*\n\n| | |\n| --- | --- |\n{rows}\n\n"
        f"## Settings of the presets\n\n{presets or 'The defaults.'}\n\n"
        f"## All options\n\n{option_pages.prose(method.config_type.__doc__)}\n\n"
        f"Under `method_config` in a file, as `--set method.NAME=VALUE` on the command line.\n\n{options}"
    )


def _facts(name: str, method: Any) -> list[tuple[str, str]]:
    config = method.config_type()
    needs = method.needs(config) if isinstance(method, NeedsWork) else {}
    writes = "max_new_tokens" in method.config_type.model_fields
    ends = "by itself, or at a limit of `budget`" if isinstance(method, EndsItself) else "at a limit of `budget`"
    return [
        ("name", f"`{name}`"),
        ("what it does", method.summary),
        ("source", method.source),
        ("presets", ", ".join(f"`{preset}`" for preset in sorted({"paper", *method.presets}))),
        ("needs of the task model", ", ".join([*(kind.title() for kind in needs), "answers"])),
        ("a model that writes", "yes (`--optimizer-model`, else the task model)" if writes else "no"),
        ("prompts are chosen by", f"{method.selects_by} rows"),
        ("depends on the seed", "yes" if method.seeded else "no"),
        ("ends", ends),
        ("code", f"`{type(method).__module__}`"),
    ]

"""What commands print beside their results, and results for other programs."""

import sys
from collections.abc import Callable
from typing import Any

from greater_ray.progress.door import rewrite_line
from greater_ray.shown import escaped


def as_json(value: Any) -> str:
    """Return readable JSON."""
    import json

    return escaped(json.dumps(value, indent=1, ensure_ascii=False))


def complain(text: str) -> None:
    """Write a line to standard error, at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def progress_line() -> Callable[[str], None]:
    """Return a function that shows one changing line on standard error, or nothing where it is no terminal."""
    if not sys.stderr.isatty():
        return lambda text: None
    return rewrite_line

"""What is kept between runs: converted models, rows that a program had at hand, and a machine's rates."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where it is kept: ``$GREATER_RAY_CACHE``, else the user's cache folder."""
    own = os.environ.get("GREATER_RAY_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "greater-ray"

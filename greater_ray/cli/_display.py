"""What commands print for other programs."""

from typing import Any


def as_json(value: Any) -> str:
    """Return readable JSON."""
    import json

    return json.dumps(value, indent=1, ensure_ascii=False)

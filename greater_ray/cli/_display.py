"""What commands print for other programs."""

from typing import Any

from greater_ray.shown import escaped


def as_json(value: Any) -> str:
    """Return readable JSON."""
    import json

    return escaped(json.dumps(value, indent=1, ensure_ascii=False))

"""What a grid has found, in a form that is equal where it found the same."""

import json
from pathlib import Path

from greater_ray.records import TrialRecord


def records_in(folder: Path) -> dict[str, str]:
    """Return every record of a grid as JSON without times, by the name of its cell's folder."""
    return {
        file.parent.name: json.dumps(TrialRecord.model_validate_json(file.read_bytes()).without_times(), sort_keys=True)
        for file in sorted(folder.glob("cells/*/record.json"))
    }

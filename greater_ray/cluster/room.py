"""Whether Ray has room for its temporary files while a grid runs.

Without any, no process of Ray can start, and some never say so: whoever waits for one would wait without an end.
"""

import shutil
from pathlib import Path

from greater_ray.errors import DiskError

LEAST = 2**20  # bytes; a process of Ray that starts writes some kB of logs
FULL_FOR = 60.0  # seconds without room until a grid is ended: who fills a disk for moments costs nothing


class Room:
    """Looks at the disk of a folder; ``look`` gets the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._full_since: float | None = None

    def full(self) -> DiskError | None:
        """Say that there is no room now; None where there is some, or where that cannot be told."""
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            return None
        if free >= LEAST:
            return None
        return DiskError(
            f"no space left on the disk of '{self.folder}', where Ray has its temporary files; free some, or name "
            "another folder in RAY_TMPDIR, and run again."
        )

    def look(self, now: float) -> tuple[DiskError | None, bool]:
        """Return what is wrong where that is new, and whether it has been so for too long."""
        error, before = self.full(), self._full_since
        self._full_since = None if error is None else before if before is not None else now
        over = before is not None and error is not None and now - before >= FULL_FOR
        return (error if over or before is None else None), over

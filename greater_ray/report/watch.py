"""A report of what is running: written again and again, while the page in the browser reloads itself."""

import time
from collections.abc import Callable
from pathlib import Path

from greater_ray.grid.status import read_status
from greater_ray.report.collect import Report
from greater_ray.report.write import write_report
from greater_ray.results import Results, load

SECONDS = 5.0
# Writing takes at most one part in so many of the time, however large the grid.
_SHARE = 10


def watch(folder: Path, path: Path, written: Callable[[Report], None], seconds: float = SECONDS) -> Report:
    """Write a report every few seconds until nothing runs any more, then a last one, and return that.

    A grid runs as long as its driver does, a single run until it has a record. An interrupt ends it in the same way.

    Args:
        folder: of a grid or a run.
        path: the HTML file.
        written: told of every report.
        seconds: between two reports; more where writing one takes long.

    Raises:
        ConfigError: as ``write_report``.
        StoreError: as ``load``.
    """
    try:
        while True:
            begin = time.monotonic()
            results = load(folder)
            if not _runs(results):
                break
            written(write_report(results, path, refresh=seconds))
            time.sleep(max(seconds, _SHARE * (time.monotonic() - begin)))
    except KeyboardInterrupt:
        write_report(load(folder), path)
        raise
    last = write_report(results, path)
    written(last)
    return last


def _runs(results: Results) -> bool:
    if read_status(results.folder) is not None:
        return True
    single = results.cells[0].folder == results.folder if len(results.cells) == 1 else False
    return single and not results.cells[0].done

"""A watch writes while something runs, and a last report that stays as it is."""

import base64
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from greater_ray.grid.status import GridStatus
from greater_ray.report import Report, watch
from tests.made_reports import RECORDED


def refresh_of(path: Path) -> Any:
    found = re.search(r'id="overview">([^<]*)<', path.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(zlib.decompress(base64.b64decode(found[1])))["refresh"]


def test_a_grid_is_followed_as_long_as_its_driver_runs(tmp_path: Path):
    grid, path = shutil.copytree(RECORDED / "grid-interrupted", tmp_path / "grid"), tmp_path / "report.html"
    running, seen = GridStatus(grid), []
    running.planned("optimize", [], [])

    def written(report: Report) -> None:
        seen.append(refresh_of(path))
        if len(seen) == 2:
            running.close()

    last = watch(grid, path, written, seconds=0.05)
    assert seen == [0.05, 0.05, None], "the last one does not reload itself"
    assert last.overview["states"] == {"done": 1, "begun": 1, "open": 2}


def test_a_run_is_followed_until_it_has_a_record_or_an_interrupt_comes(tmp_path: Path):
    run, path, seen = shutil.copytree(RECORDED / "greater-evaluating", tmp_path / "run"), tmp_path / "run.html", []

    def ends(report: Report) -> None:
        seen.append(report.overview["cells"][0]["state"])
        shutil.copy(RECORDED / "greater-finished" / "record.json", run / "record.json")

    watch(run, path, ends, seconds=0.05)
    assert seen == ["begun", "done"]

    def interrupted(report: Report) -> None:
        assert refresh_of(path) == 0.05
        raise KeyboardInterrupt

    (run / "record.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        watch(run, path, interrupted, seconds=0.05)
    assert refresh_of(path) is None

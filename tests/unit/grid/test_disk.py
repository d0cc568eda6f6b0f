"""A grid whose disk takes no more: one sentence, exit 1, and the same command ends with the same records."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.grid_records import records_in
from greater_ray.cli.app import run
from greater_ray.errors import DiskError
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import load_grid
from greater_ray.grid.run import GridObserver, LocalBackend, Progress, run_grid
from tests.small_disk import small_disk

GRID: dict[str, Any] = {
    "name": "disk",
    "methods": [{"name": "greater", "budget": {"steps": 4}, "method_config": {"num_evaluated": 2}}, "zero-shot-cot"],
    "tasks": ["bbh/navigate"],
    "models": ["benchmarks.simulated:instant"],
    "seeds": [0],
    "settings": {
        "task": {"data": "synthetic", "train_size": 4, "dev_size": 0, "test_size": 4},
        "evaluation": {"splits": ["test"]},
        "shard_size": 2,
    },
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("disk") / "out"
    assert run_grid(load_grid(GRID), out, LocalBackend()).complete
    return records_in(out)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "16k") as folder:
        yield folder


def test_on_a_disk_that_fills_up_again_and_again_it_ends_with_the_same_records(
    disk: Path, expected: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID))
    args = ["grid", str(tmp_path / "grid.yaml"), "--out", str(disk / "out"), "--replicas", "0"]
    told = 0
    for size in range(20, 400, 16):
        code = run(args)
        said = capsys.readouterr()
        if code == 0:
            break
        told += 1
        (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert code == 1
        assert error.startswith(f"error: --out: no space left on the disk of '{disk}")
        assert "stopped: " not in said.out, "no other cell is begun"
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
    assert told >= 3
    assert records_in(disk / "out") == expected


class Removing(GridObserver):
    """Takes the folder away once a cell has made a step."""

    def __init__(self, folder: Path, to: Path) -> None:
        self.folder, self.to = folder, to

    def progressed(self, cell: Cell, progress: Progress) -> None:
        if progress.step == 2 and self.folder.exists():
            shutil.move(self.folder, self.to)


def test_a_folder_that_is_taken_away_is_not_made_again_and_goes_on_when_it_is_back(
    expected: dict[str, Any], tmp_path: Path
):
    out = tmp_path / "out"
    with pytest.raises(DiskError, match=rf"'{out}/cells/greater.*' is gone, or its disk is; bring it back"):
        run_grid(load_grid(GRID), out, LocalBackend(), observer=Removing(out, tmp_path / "away"))
    assert not out.exists()
    shutil.move(tmp_path / "away", out)
    assert run_grid(load_grid(GRID), out, LocalBackend()).complete
    assert records_in(out) == expected


def test_no_cell_is_begun_where_the_grid_is_gone(tmp_path: Path):
    out = tmp_path / "out"

    class Gone(GridObserver):
        def started(self, cell: Cell) -> None:
            (out / "grid.json").unlink()

    with pytest.raises(DiskError, match=r"holds no grid any more \(grid\.json is gone\)"):
        run_grid(load_grid(GRID), out, LocalBackend(), observer=Gone())
    assert list((out / "cells").iterdir()) == []


def test_a_folder_that_is_taken_away_after_the_last_cell_is_told(expected: dict[str, Any], tmp_path: Path):
    out, away = tmp_path / "out", tmp_path / "away"

    class Late(GridObserver):
        def ended(self, cell: Cell, state: str, reason: str | None) -> None:
            if cell.method == "zero-shot-cot":
                shutil.move(out, away)

    with pytest.raises(DiskError, match=r"holds no grid any more \(grid\.json is gone\); bring it back"):
        run_grid(load_grid(GRID), out, LocalBackend(), observer=Late())
    shutil.move(away, out)
    assert run_grid(load_grid(GRID), out, LocalBackend()).complete
    assert records_in(out) == expected

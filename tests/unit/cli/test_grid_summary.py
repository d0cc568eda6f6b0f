"""Tables of a grid on terminals of any width: nothing is cut, and every figure stands in its column."""

import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.make_cells import make_cells
from greater_ray import load
from greater_ray.cli._grid_summary import _print_cells
from greater_ray.results import CellResult

RECORDED = Path(__file__).parents[2] / "recorded" / "0.1.0" / "grid-finished"
WIDE = 160


@pytest.fixture(scope="module")
def cells() -> tuple[CellResult, ...]:
    return load(RECORDED).cells


def shown(cells: tuple[CellResult, ...], width: int, *, terminal: bool = True) -> list[str]:
    """Return the lines of a screen of this width; a line that does not fit is not folded here."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False, markup=False
    )
    _print_cells(console, cells)
    return console.file.getvalue().splitlines()


def headings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("optimize: ", "transfer: "))]


def words(lines: list[str]) -> set[str]:
    return set(" ".join(lines).split())


def test_a_wide_terminal_and_a_pipe_get_one_table_for_a_phase(cells: tuple[CellResult, ...]):
    wide = shown(cells, WIDE)
    assert wide == shown(cells, 40, terminal=False)
    assert len(headings(wide)) == 2
    header, first = wide[2], wide[3]
    assert header.split() == [
        *("method", "task", "model", "seed", "split", "before", "after", "change", "p", "loss"),
        *("search", "writer", "eval", "time"),
    ]  # fmt: skip
    assert len(header) == len(first) <= WIDE
    for column in ("before", "change", "loss", "search", "eval", "time"):
        end = header.index(column) + len(column)
        assert first[end - 1] != " ", f"{column} ends where its figures end"
        assert first[end : end + 2].strip() == ""


@pytest.mark.parametrize("width", [130, 100, 79, 64])
def test_a_narrow_terminal_gets_scores_and_costs_apart_and_nothing_is_cut(cells: tuple[CellResult, ...], width: int):
    wide, narrow = shown(cells, WIDE), shown(cells, width)
    assert len(headings(narrow)) == 4
    assert [", * beyond noise" in line for line in headings(narrow)] == [True, False] * 2
    assert not [line for line in narrow if "…" in line]
    for cell in (cell for cell in cells if cell.done):
        assert set(cell.labels.values()) - {"-"} <= {word.rstrip(",") for word in words(narrow)}
    figures = {word for word in words(wide) if re.match(r"^[+-]?\d", word)}
    assert figures <= words(narrow)
    # What may be longer than the screen is text in sentences, which a terminal wraps: headings, failures and titles.
    sentences = ("optimize: ", "transfer: ", "failed: ", *(cell.title for cell in cells))
    assert not [line for line in narrow if len(line) > width and not line.startswith(sentences)]


def test_costs_stand_once_for_a_cell_and_scores_for_every_split(tmp_path: Path):
    make_cells(tmp_path / "grid", 2)
    cells = load(tmp_path / "grid").cells
    lines = shown(cells, 60)
    first = lines[1 : lines.index(headings(lines)[2]) - 1]
    assert [line.split()[0] for line in first if line.startswith("  ")] == [
        *("split", "train", "dev", "test"),
        *("search", "6,720"),
    ]
    assert sum(line == cells[0].title for line in first) == 2
    assert "(selection)" in first[0], "the mark is explained"


def test_wide_characters_keep_the_columns(tmp_path: Path):
    folder = shutil.copytree(RECORDED, tmp_path / "grid")
    text = (folder / "grid.json").read_text(encoding="utf-8")
    (folder / "grid.json").write_text(text.replace('"zero-shot-cot"', '"零样本"'), encoding="utf-8")
    table = shown(load(folder).cells, WIDE)[2:6]
    assert any("零样本" in line for line in table)
    from rich.cells import cell_len

    assert len({cell_len(line) for line in table}) == 1

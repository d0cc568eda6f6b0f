"""Tables for notebooks: numbers of the records, and no text of a model that a page or a terminal would obey."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from greater_ray import load
from greater_ray.shown import foreign, shortened, visible
from tests.made_reports import RECORDED, hostile_run

ALLOWED = {"div", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Collects tags, attributes and the text that is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.shown = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += f"{data} "


def pages(folder: Path) -> list[Page]:
    results = load(folder)
    record = results.finished[0].record
    return [Page(shown._repr_html_()) for shown in (results, record, record.evaluations[-1])]


def test_nothing_hostile_becomes_markup(tmp_path: Path):
    for page in pages(hostile_run(tmp_path / "run")):
        assert set(page.tags) <= ALLOWED
        assert page.names <= {"style", "class", "dir"}
        assert page.open == []
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", page.shown)
    assert "<script>window.hacked = 1</script>" in page.shown
    assert "[U+202E]" in page.shown


def test_a_record_shows_prompts_scores_and_costs():
    record = load(RECORDED / "greater-finished").cells[0].record
    _, page, evaluation = pages(RECORDED / "greater-finished")
    for text in (
        record.initial.full_text,
        record.best.full_text,
        f"{100 * record.evaluation('test', record.best).accuracy:.1f} %",
        f"search {record.optimization_usage.tokens:,} tokens",
        "dev (selection)",
        "(synthetic)",
    ):
        assert text in page.shown, text
    last = record.evaluations[-1]
    assert last.examples[0].target in evaluation.shown
    assert f"and {last.num_examples - 3} more rows" in evaluation.shown


def test_results_show_every_cell_with_its_state_and_why_one_failed():
    results = load(RECORDED / "grid-finished")
    page = Page(results._repr_html_())
    assert page.tags.count("tr") == 1 + len(results.cells)
    assert "6 done, 1 failed" in page.shown
    assert "has no tokens" in page.shown
    assert len(re.findall(r"from\s+benchmarks\.simulated:instant", page.shown)) == 3, "transfers name their source"
    begun = Page(load(RECORDED / "grid-interrupted")._repr_html_())
    assert "open" in begun.shown


def test_a_large_grid_is_read_in_part(tmp_path: Path):
    from benchmarks.make_cells import make_cells

    make_cells(tmp_path / "many", 60)
    broken = sorted((tmp_path / "many" / "cells").glob("*/record.json"))
    results = load(tmp_path / "many")
    unseen = {cell.folder for cell in results.cells[25:]}
    for path in broken:
        if path.parent in unseen:
            path.write_text("{")
    page = Page(results._repr_html_())
    assert page.tags.count("tr") == 26
    assert "and 35 more cells" in page.shown


def test_where_text_is_shown_a_record_is_one_line():
    pretty = pytest.importorskip("IPython.lib.pretty")
    results = load(RECORDED / "greater-finished")
    record = results.cells[0].record
    for shown in (results, record, record.evaluations[0]):
        line = pretty.pretty(shown)
        assert len(line.splitlines()) == 1
        assert len(line) < 400
    assert record.best.full_text in pretty.pretty(record)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x1b[31mb", "a\u241b[31mb"),
        ("x\u202ey", "x[U+202E]y"),
        ("l\nm\tn", "l\nm\tn"),
        ("\x7f\ud800", "\u2421[U+D800]"),
    ],
)
def test_control_characters_get_a_sign(text: str, seen: str):
    assert visible(text) == seen
    assert seen in foreign(text)


def test_long_texts_say_how_much_is_missing():
    assert shortened("a" * 1210, 10) == "a" * 10 + " [1,200 more characters]"

"""Reports in a real browser: what is drawn, clicked, filtered and read, and that hostile text stays text."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.make_cells import make_cells
from greater_ray import load
from greater_ray.report import Report, collect, write_report
from greater_ray.report.write import page_of
from tests.browser.chromium import Chromium, found
from tests.made_reports import RECORDED, hostile_run

MANY, FEW = 2000, 20
OPENS_WITHIN = 2.0  # seconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    if found() is None:
        if os.environ.get("GREATER_RAY_REQUIRE_BROWSER"):
            pytest.fail("GREATER_RAY_REQUIRE_BROWSER is set, but there is no Chromium")
        pytest.skip("there is no Chromium")
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "grid.html"
    write_report(load(RECORDED / "grid-finished"), path)
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.html"
    write_report(load(RECORDED / "greater-finished"), path)
    return path


@pytest.fixture
def page(browser: Chromium) -> Iterator[Chromium]:
    """Return the browser; afterwards nothing must have been complained about or asked of the network."""
    browser.problems.clear()
    yield browser
    assert browser.problems == []


def column(page: Chromium, number: int) -> list[str]:
    cells = f"[...document.querySelectorAll('.results tbody tr')].map(row => row.children[{number}].innerText.trim())"
    return list(page.js(cells))


def heading(page: Chromium, name: str) -> int:
    return int(page.js(f"[...document.querySelectorAll('[data-sort]')].findIndex(b => b.dataset.sort === '{name}')"))


def choose(page: Chromium, name: str, value: str) -> None:
    field = f"document.getElementById('filters').elements[{json.dumps(name)}]"
    page.js(f"{field}.value = {json.dumps(value)}")
    page.js(f"for (const kind of ['input', 'change']) {field}.dispatchEvent(new Event(kind))")
    page.js("new Promise(done => setTimeout(done, 100))")


def test_every_view_is_drawn_without_a_complaint(page: Chromium, grid: Path):
    page.open(grid)
    assert page.js("document.title") == "recorded - greater-ray report"
    drawn = "[...document.querySelectorAll('#view-overview h3')].map(node => node.textContent)"
    assert {"Accuracy in percent", "Cost against accuracy", "Loss over tokens", "Transfer"} <= set(page.js(drawn))
    for view in ("results", "method", "cell"):
        page.go(f"#{view}")
        page.until(f"document.querySelector('#view-{view} h2')")
        assert page.js(f"!document.getElementById('view-{view}').hidden")
        assert page.js("document.querySelectorAll('main > section:not([hidden])').length") == 1
        text = page.js(f"document.getElementById('view-{view}').textContent")
        assert not {"null", "undefined", "NaN", "[object Object]"} & set(re.findall(r"\w+|\[object Object\]", text))
    assert "has no tokens" in page.js("document.getElementById('view-results').textContent"), "why a cell has failed"


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(page: Chromium, grid: Path):
    page.open(grid, "#results")
    number = heading(page, "search")
    for direction, down in (("descending", True), ("ascending", False)):
        page.click('[data-sort="search"]')
        text = column(page, number)
        tokens = [float(t.removesuffix("k")) * (1000 if t.endswith("k") else 1) for t in text]
        assert tokens == sorted(tokens, reverse=down)
        assert len(set(tokens)) > 1
        assert page.js("document.querySelector('[data-sort=search]').parentNode.ariaSort") == direction
        assert page.js("document.activeElement.dataset.sort") == "search", "the keyboard stays where it was"


def test_filters_hold_for_tables_and_charts(page: Chromium, grid: Path):
    page.open(grid, "#results")
    everything = column(page, 0)
    choose(page, "method", "zero-shot-cot")
    kept = column(page, 0)
    assert {text.split("\n")[0].split()[0] for text in kept} == {"zero-shot-cot"}
    assert 0 < len(kept) < len(everything)
    page.go("#overview")
    lanes = "[...document.querySelectorAll('.panel .lane title')].map(node => node.textContent)"
    assert set(page.js(lanes)) == {"zero-shot-cot"}
    choose(page, "text", "no such prompt")
    assert "No finished cell" in page.js("document.getElementById('view-overview').textContent")
    page.click("#filters button")
    page.go("#results")
    assert column(page, 0) == everything


def test_the_life_of_a_prompt_marks_what_changed_and_shows_what_was_tried(page: Chromium, single: Path):
    page.open(single, "#cell-0")
    page.until("document.querySelectorAll('.timeline li').length")
    steps = [json.loads(line) for line in (RECORDED / "greater-finished/steps.jsonl").read_text().splitlines()]
    assert page.js("document.querySelectorAll('.timeline li').length") == len(steps)
    marked = page.js("[...document.querySelectorAll('.timeline li')].map(n => n.querySelectorAll('ins').length > 0)")
    changed = page.js("[...document.querySelectorAll('.timeline li')].map(n => n.classList.contains('changed'))")
    assert marked == changed
    assert any(changed)
    page.click("#step-1 summary")
    assert page.js("document.querySelectorAll('#step-1 .tried tbody tr').length") == len(steps[0]["candidates"])
    taken = page.js("[...document.querySelectorAll('#step-1 .tried tbody tr')].map(r => r.className === 'taken')")
    assert taken == [k == steps[0]["accepted"] for k in range(len(taken))]
    page.js("document.querySelector('#step-1 summary').focus()")
    page.key("ArrowDown", 40)
    assert page.js("document.activeElement.parentNode.id") == "step-2"
    page.key("Enter", 13, "\r")
    assert page.js("document.getElementById('step-2').open")
    # A mark of the curve leads to its step.
    page.click('.story a[href="#step-3"]')
    assert page.js("document.activeElement.parentNode.id") == "step-3"


def test_rows_won_and_lost_stand_side_by_side(page: Chromium, single: Path):
    record = load(RECORDED / "greater-finished").cells[0].record
    page.open(single, "#cell-0")
    page.until("document.querySelectorAll('.rows').length")
    rows = page.js("[...document.querySelectorAll('article.row')].map(n => n.querySelectorAll('.side').length)")
    assert rows == [2] * sum(c.wins + c.losses for c in record.comparisons)
    assert "read as" in page.js("document.querySelector('article.row').textContent")


def test_hostile_text_is_shown_and_never_run(page: Chromium, tmp_path: Path):
    path = tmp_path / "report.html"
    write_report(load(hostile_run(tmp_path / "<img src=x onerror=alert(1)>")), path)
    for view in ("#overview", "#results", "#method", "#cell-0"):
        page.open(path, view)
        page.until("document.querySelector('main > section:not([hidden])').childElementCount")
        page.js("document.querySelectorAll('details').forEach(node => { node.open = true })")
        page.js("new Promise(done => setTimeout(done, 100))")
        assert page.js("window.hacked === undefined")
        assert page.js("document.querySelectorAll('main img, main script, main iframe').length") == 0
    text = page.js("document.getElementById('view-cell').textContent")
    assert "<script>window.hacked = 1</script>" in text
    assert "\u241b[31mred" in text, "the escape character is to be seen"
    assert "\x1b" not in text
    assert "safe[U+202E]gnp.exe[U+202C]" in text, "and nothing is turned round"
    assert not set("\u202e\u202c") & set(text)


def test_a_page_that_breaks_its_own_rules_is_stopped_by_its_policy(browser: Chromium, single: Path):
    browser.open(single)
    browser.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')")
    browser.js("fetch('https://example.invalid/').catch(() => 0)")
    assert browser.js("window.hacked === undefined")
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_colours_follow_the_system_or_the_button(page: Chromium, grid: Path):
    page.open(grid)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.js(paper)
    for scheme, same in (("dark", False), ("light", True)):
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert (page.js(paper) == light) == same
    page.click("#theme")
    page.click("#theme")
    assert page.js("document.getElementById('theme').ariaLabel") == "Colours: dark"
    assert page.js(paper) != light


def test_screen_readers_are_told_what_is_what(page: Chromium, grid: Path):
    page.open(grid)
    tree = page.ask("Accessibility.getFullAXTree")["nodes"]

    def of(role: str) -> list[str]:
        return [str(n.get("name", {}).get("value", "")) for n in tree if n.get("role", {}).get("value") == role]

    nameless: dict[str, Any] = {r: [n for n in of(r) if not n] for r in ("button", "link", "combobox", "searchbox")}
    assert not any(nameless.values()), nameless
    assert len(of("heading")) > 4
    assert page.js("[...document.querySelectorAll('svg.chart')].every(n => n.getAttribute('aria-label'))")
    assert page.js("document.querySelectorAll('figure').length === document.querySelectorAll('.figures').length")


def test_paper_gets_every_part(page: Chromium, grid: Path, tmp_path: Path):
    page.open(grid)
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.js("document.querySelectorAll('#view-results .results tbody tr').length") > 0, "drawn for the paper"
    page.ask("Emulation.setEmulatedMedia", media="print")
    shown = "['overview', 'results', 'method'].map(n => getComputedStyle(document.getElementById('view-' + n)).display)"
    assert page.js(shown) == ["block"] * 3
    page.ask("Emulation.setEmulatedMedia", media="")


def test_a_watched_page_reloads_itself_and_keeps_the_reader_s_place(page: Chromium, tmp_path: Path):
    path = tmp_path / "report.html"
    write_report(load(RECORDED / "grid-finished"), path, refresh=0.6)
    page.open(path, "#results")
    choose(page, "method", "zero-shot-cot")
    page.js("void (window.first = true)")
    write_report(load(RECORDED / "grid-interrupted"), path, refresh=0.6)
    page.until("window.first === undefined && document.documentElement?.dataset.ready !== undefined")
    assert "4 cells" in page.js("document.getElementById('about').textContent"), "what was written since"
    assert page.js("document.querySelector('[name=method]').value") == "zero-shot-cot"
    page.click("#live-now")
    page.js("void (window.first = true)")
    page.js("new Promise(done => setTimeout(done, 1000))")
    assert page.js("window.first === true"), "paused"


def test_2000_cells_open_in_two_seconds_and_show_any_of_them(page: Chromium, tmp_path: Path):
    make_cells(tmp_path / "grid", FEW)
    few = collect(load(tmp_path / "grid"))
    # As if so many had been read: what is in the file is the same.
    cells = [c | {"seed": str(k // 2), "id": str(k)} for k, c in enumerate(MANY // FEW * few.overview["cells"])]
    path = tmp_path / "report.html"
    path.write_text(page_of(Report(few.overview | {"cells": cells}, MANY // FEW * few.details)), encoding="utf-8")
    assert min(page.open(path) for _ in range(2)) < OPENS_WITHIN
    page.go("#results")
    assert len(column(page, 0)) == 100
    page.click(".more button.quiet")
    assert page.js("document.querySelectorAll('.results tbody tr').length") == MANY
    page.go(f"#cell-{MANY - 2}")
    page.until("document.querySelectorAll('.timeline li').length")
    assert "greater on" in page.js("document.querySelector('.cell-head h2').textContent")

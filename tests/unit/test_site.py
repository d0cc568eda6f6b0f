"""The documentation site: its links hold in the repository and in the site, and its pages leave nothing out."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from greater_ray.cli._options import SETTINGS
from greater_ray.plugins import available, load

ROOT = Path(__file__).parents[2]
OUTSIDE = {"README.md": "index.md", "deploy/README.md": "deploy.md"}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of docs/site."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    return importlib.import_module


@pytest.mark.parametrize(
    ("place", "link", "wanted"),
    [
        ("index.md", "docs/methods.md", "methods.md"),
        ("index.md", "docs/architecture.md#one-cell-on-a-cluster", "architecture.md#one-cell-on-a-cluster"),
        ("index.md", "docs/decisions/", "decisions/index.md"),
        ("index.md", "deploy/README.md", "deploy.md"),
        ("index.md", "greater_ray/trial.py", "source/greater_ray/trial.py.md"),
        ("methods/few-shot.md", "../../greater_ray/likeness.py", "../source/greater_ray/likeness.py.md"),
        ("methods/gpo.md", "../../README.md", "../index.md"),
        ("deploy.md", "../cluster.yaml", "source/cluster.yaml.md"),
        ("deploy.md", "slurm.sbatch", "source/deploy/slurm.sbatch.md"),
        ("source/deploy/x.md", "README.md", "../../deploy.md"),
        ("grids.md", "../deploy", "deploy.md"),
        ("grids.md", "https://arxiv.org/abs/2412.09722", "https://arxiv.org/abs/2412.09722"),
        ("grids.md", "#entries", "#entries"),
        ("grids.md", "gone.md", "gone.md"),
    ],
)
def test_a_link_of_the_repository_leads_to_a_page_of_the_site(site: Any, place: str, link: str, wanted: str):
    links = site("site_links")
    assert links.rewritten(f"See [`it`]({link}).", ROOT, OUTSIDE, place) == f"See [`it`]({wanted})."


@pytest.mark.parametrize(
    "text", ["`[a](docs/methods.md)`", "```\n[a](docs/methods.md)\n```", "~~~\n[a](README.md)\n~~~"]
)
def test_code_is_left_as_it_is(site: Any, text: str):
    assert site("site_links").rewritten(text, ROOT, OUTSIDE, "index.md") == text


def test_a_file_that_is_linked_and_no_page_becomes_one(site: Any):
    links = site("site_links")
    pages = {"index.md": "[a](greater_ray/trial.py) [b](docs/methods.md) [c](gone.py) `[d](greater_ray/api.py)`"}
    assert links.linked_files(ROOT, OUTSIDE, pages) == ["greater_ray/trial.py"]
    shown = links.shown(ROOT, "greater_ray/trial.py")
    assert (ROOT / "greater_ray" / "trial.py").read_text(encoding="utf-8").rstrip("\n") in shown


def test_mistakes_of_a_site_are_found(site: Any, tmp_path: Path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1> <a href="b.html">ok</a> <a href="#here">ok</a> <a href="https://example.org">ok</a> '
        '<img src="data:image/png;base64,x"> <a href="c.html">1</a> <a class="x" href="b.html#no">2</a> '
        '<script src="https://example.org/x.js"></script> <link rel="stylesheet" href="//example.org/x.css">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<a href="a.html?x=1#here">ok</a>', encoding="utf-8")
    (tmp_path / "far.css").write_text("p { background: url(https://example.org/x.png) }", encoding="utf-8")
    (tmp_path / "near.css").write_text("p { background: url(x.png) }", encoding="utf-8")
    assert site("site_check").mistakes(tmp_path) == [
        "a.html: //example.org/x.css: loaded from a network",
        "a.html: b.html#no: there is no such heading",
        "a.html: c.html: there is no such file",
        "a.html: https://example.org/x.js: loaded from a network",
        "far.css: loads from a network",
    ]


def test_every_option_of_the_command_line_leads_to_its_setting(site: Any):
    options, links = site("option_pages"), site("site_links")
    pages = options.pages()
    for setting in SETTINGS:
        page, _, anchor = options.place_of(setting.key).partition("#")
        headings = [line.lstrip("# ") for line in pages[f"options/{page}"].splitlines() if line.startswith("## ")]
        assert anchor in map(links.anchor, headings), setting.key


def test_every_command_has_a_page_with_all_its_options(site: Any):
    pages = site("command_pages").pages()
    assert {"commands/optimize.md", "commands/schema.md", "commands/paper-run.md"} <= pages.keys()
    assert all(f"`{setting.option}" in pages["commands/optimize.md"] for setting in SETTINGS)
    assert "[`task.rows`](../options/task.md#taskrows)" in pages["commands/optimize.md"]
    # An option of the same name that is no setting.
    assert "options/model.md" not in pages["commands/grid.md"]


def test_every_method_has_a_page_with_all_its_options(site: Any):
    pages = site("method_pages").pages({"methods/gpo.md": "# GPO\n\nBy hand.\n"})
    assert len(pages) == len(available("methods"))
    assert "By hand." in pages["methods/gpo.md"]
    for name in available("methods"):
        method = load("methods", name)
        assert all(f"### `{option}`" in pages[f"methods/{name}.md"] for option in method.config_type.model_fields), name
        assert all(f"`{preset}`" in pages[f"methods/{name}.md"] for preset in method.presets), name

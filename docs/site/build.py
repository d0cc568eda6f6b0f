"""Builds the documentation site into ``dist/site``: `make docs`.

A folder of Markdown is put together from ``docs/``, the README and its like, and pages that are made from the code;
then Sphinx makes the site of it. A warning or a link that leads nowhere ends the build. No made page is kept in the
repository, and nothing is loaded from a network, at build time or when the site is read.
"""

import argparse
import shutil
import sys
from pathlib import Path

import command_pages
import method_pages
import option_pages
import python_page
import site_check
import site_links
import task_pages
from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Files outside docs/ that are pages of the site. The README is the home page, so nothing is said twice.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
}
# The pages of the sidebar, by caption.
CHAPTERS = {
    "Use": (
        "settings", "own-tasks", "placement", "endpoints", "grids", "large-models", "deploy", "results", "report",
        "export", "reproducing", "statistics", "extending",
    ),
    "Reference": ("methods", "tasks", "commands/index", "options/index", "python"),
    "How it works": (
        "architecture", "reliability", "performance", "log", "decisions/index", "contributing", "changelog",
    ),
}  # fmt: skip


def pages() -> dict[str, str]:
    """Return the Markdown of every page of the site by its place, links still as the repository has them."""
    docs = ROOT / "docs"
    written = {
        str(path.relative_to(docs)): path.read_text(encoding="utf-8")
        for path in docs.rglob("*.md")
        if HERE not in path.parents
    }
    outside = {place: (ROOT / source).read_text(encoding="utf-8") for source, place in OUTSIDE.items()}
    found = {**written, **outside, **command_pages.pages(), **option_pages.pages(), **task_pages.pages()}
    found |= {"decisions/index.md": _decisions(written)}
    found |= python_page.pages() | method_pages.pages(found)
    found |= {f"{name}.md": found[f"{name}.md"] + toc for name, toc in _contents().items()}
    return found


def _decisions(written: dict[str, str]) -> str:
    names = sorted(place for place in written if place.startswith("decisions/"))
    toc = site_links.contents((Path(name).stem for name in names), hidden=False)
    return f"# Decisions\n\nChoices that had alternatives, and why they were made.\n{toc}"


def _contents() -> dict[str, str]:
    """Return the tables of contents of pages that are written by hand."""
    chapters = "".join(site_links.contents(names, caption=caption) for caption, names in CHAPTERS.items())
    return {
        "index": chapters,
        "methods": site_links.contents(method_pages.places()),
        "tasks": site_links.contents(task_pages.places()),
    }


def write_sources(folder: Path) -> bool:
    """Put the Markdown of the site together in a folder; a file that stays the same is not touched.

    Return whether the folder held files that are no longer part of the site.
    """
    found = pages()
    targets = site_links.linked_files(ROOT, OUTSIDE, found)
    shown = {site_links.source_page(target): site_links.shown(ROOT, target) for target in targets}
    found = {place: site_links.rewritten(text, ROOT, OUTSIDE, place) for place, text in {**found, **shown}.items()}
    files = {place: text.encode() for place, text in {**found, **option_pages.schemas()}.items()}
    files |= {f"images/{path.name}": path.read_bytes() for path in (ROOT / "docs" / "images").iterdir()}
    for place, content in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    gone = [path for path in folder.rglob("*") if path.is_file() and str(path.relative_to(folder)) not in files]
    for path in gone:
        path.unlink()
    return bool(gone)


def main() -> int:
    """Build the site and return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "site", metavar="DIR")
    out = parser.parse_args().out
    sources, state = out.parent / f"{out.name}-source", out.parent / f"{out.name}-state"
    if write_sources(sources):
        shutil.rmtree(out, ignore_errors=True)  # else a page that is gone would stay, and links to it would hold
        shutil.rmtree(state, ignore_errors=True)
    strict = ["-W", "--keep-going", "-n", "-q"]
    code = build_main([*strict, "-j", "2", "-c", str(HERE), "-d", str(state), "-b", "html", str(sources), str(out)])
    if code == 0:
        wrong = site_check.mistakes(out)
        print("\n".join([*wrong, f"{len(wrong)} links are wrong"]) if wrong else f"site: {out / 'index.html'}")
        code = 1 if wrong else 0
    return int(code)


if __name__ == "__main__":
    sys.exit(main())

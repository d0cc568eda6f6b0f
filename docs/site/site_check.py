"""What Sphinx does not look at: every link of the made HTML leads somewhere, and nothing is loaded from afar."""

import posixpath
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

_LINK = re.compile(r"<(?P<tag>[a-z]+)\b[^>]*?\s(?:href|src)=\"(?P<target>[^\"]*)\"")
_ANCHOR = re.compile(r"\sid=\"([^\"]+)\"")
_FAR_STYLE = re.compile(r"@import|url\(\s*['\"]?(?:https?:)?//")
# Whatever is loaded by these is part of the page; a link is followed by the reader.
_LOADED_BY = {"link", "script", "img", "iframe", "source"}


def mistakes(site: Path) -> list[str]:
    """Return what is wrong with a site, one line each."""
    pages = {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    anchors = {place: {unescape(name) for name in _ANCHOR.findall(text)} for place, text in pages.items()}
    found = []
    for place, text in pages.items():
        for match in _LINK.finditer(text):
            why = _fault(site, anchors, place, match["tag"], unescape(match["target"]))
            if why:
                found.append(f"{place}: {match['target']}: {why}")
    for style in site.rglob("*.css"):
        if _FAR_STYLE.search(style.read_text(encoding="utf-8")):
            found.append(f"{style.relative_to(site)}: loads from a network")
    return sorted(set(found))


def _fault(site: Path, anchors: dict[str, set[str]], place: str, tag: str, target: str) -> str:
    """Return what is wrong with a link, or an empty text."""
    if re.match(r"[a-z]+:|//", target):
        return "loaded from a network" if tag in _LOADED_BY and not target.startswith("data:") else ""
    path, _, anchor = target.partition("#")
    path = unquote(path.partition("?")[0])
    page = posixpath.normpath(posixpath.join(posixpath.dirname(place), path)) if path else place
    if not (site / page).is_file():
        return "there is no such file"
    return "there is no such heading" if anchor and page in anchors and unquote(anchor) not in anchors[page] else ""

"""Links of the Markdown files hold on a code host, relative to the repository; here they are led to pages of the site.

A file of the project that is no page, for instance a module, becomes one that shows its text: so the site is complete
on its own, and says what belongs to its version.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

# Code in a line, or the target of a link.
_SPAN_OR_LINK = re.compile(r"(?P<code>(?P<ticks>`+).+?(?P=ticks))|\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "sh", ".sbatch": "sh"}
Outside = Mapping[str, str]


def linked_files(root: Path, outside: Outside, pages: Mapping[str, str]) -> list[str]:
    """Return the files of the project that pages link to and that are no pages themselves, by their paths."""
    found: set[str] = set()

    def note(place: str) -> Callable[[str], str]:
        def see(target: str) -> str:
            path = _path(root, outside, place, target)
            if path is not None and _page_of(outside, path) is None and (root / path).is_file():
                found.add(path)
            return target

        return see

    for place, text in pages.items():
        _each_link(text, note(place))
    return sorted(found)


def rewritten(text: str, root: Path, outside: Outside, place: str) -> str:
    """Return the Markdown of the page at ``place`` with its links led to pages of the site."""

    def lead(target: str) -> str:
        path = _path(root, outside, place, target)
        if path is None or not (root / path).exists():
            return target  # a page that is made, or a mistake: Sphinx tells the two apart
        page = _page_of(outside, path) or source_page(path)
        _, hash_sign, heading = target.partition("#")
        return posixpath.relpath(page, posixpath.dirname(place) or ".") + hash_sign + heading

    return _each_link(text, lead)


def source_page(path: str) -> str:
    """Return where in the site the text of a file stands."""
    return f"source/{path}.md"


def shown(root: Path, path: str) -> str:
    """Return a page that shows a file."""
    text = (root / path).read_text(encoding="utf-8").rstrip("\n")
    if path.endswith(".md"):
        return f"---\norphan: true\nnosearch: true\n---\n\n{text}\n"
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`{3,}", text)), default=2))
    language = _LANGUAGES.get(Path(path).suffix, "text")
    return f"---\norphan: true\nnosearch: true\n---\n\n# `{path}`\n\n{fence}{language}\n{text}\n{fence}\n"


def contents(names: Iterable[str], *, caption: str = "", hidden: bool = True) -> str:
    """Return a table of contents: places without suffix, or ``title <place>``."""
    options = [*([f":caption: {caption}"] if caption else []), *([":hidden:"] if hidden else [":maxdepth: 1"])]
    return "\n".join(["", "```{toctree}", *options, "", *names, "```", ""])


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _path(root: Path, outside: Outside, place: str, target: str) -> str | None:
    """Return the path in the repository that a link of a page means, or None where it leads elsewhere."""
    name = target.partition("#")[0]
    if not name or "://" in target or target.startswith(("mailto:", "/")):
        return None
    origins = {page: source for source, page in outside.items()}
    origin = origins.get(place, f"docs/{place}")
    if place.startswith("source/"):
        origin = place.removeprefix("source/").removesuffix(".md")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))


def _page_of(outside: Outside, path: str) -> str | None:
    """Return the page of the site that holds a file or a folder, if one does."""
    if path in outside:
        return outside[path]
    if f"{path}/README.md" in outside:
        return outside[f"{path}/README.md"]
    if not path.startswith("docs/"):
        return None
    inner = path.removeprefix("docs/")
    return inner if "." in posixpath.basename(inner) else f"{inner}/index.md"


def _each_link(text: str, change: Callable[[str], str]) -> str:
    """Return a Markdown text with ``change`` applied to the target of every link outside of code."""
    lines, fence = [], None
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (fence is None or line.strip().startswith(fence)):
            fence = None if fence else mark[1]
        elif fence is None:
            line = _SPAN_OR_LINK.sub(lambda m: m[0] if m["code"] else f"]({change(m['target'])})", line)
        lines.append(line)
    return "\n".join(lines)

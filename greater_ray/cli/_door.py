"""The door to the screen: whatever is printed goes through it, and text from models, rows and files is only text there.

A text may hold what a terminal obeys (colours, cursor, title, clipboard) or what changes the order in which it is read.
Such characters are shown as signs of one column. What may steer the terminal is what this package itself draws: rich's
styles, a line that is written anew, and help.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from greater_ray.errors import redacted

if TYPE_CHECKING:
    from rich.console import Console

# Control characters but line end and tab; those of C1, which terminals obey as they do ESC; line separators; marks that
# change the direction of reading; and tags, which nobody sees.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
# What begins a write of a library's progress bar: to the start of the line, or a line up.
_BAR = re.compile("^(?:\r|\x1b\\[A|\x1b\\[K)+")


def shown(text: str) -> str:
    """Return a text as it may stand on a screen: as long, with a sign in place of what would steer a terminal."""
    return text if text.isascii() and text.isprintable() else _STEERS.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def escaped(text: str) -> str:
    """Return JSON in which such characters are written as escapes: the same values, and nothing that steers."""
    return _STEERS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[k : k + 2]):04x}" for k in range(0, len(units), 2))


class _Door(io.TextIOBase):
    """A stream that shows what is written to it; ``raw`` is the stream behind.

    ``messages``: progress bars are written to it, and what goes wrong, which may name keys.
    """

    def __init__(self, raw: IO[str], *, messages: bool) -> None:
        self.raw, self.messages = raw, messages

    def write(self, text: str) -> int:
        start = _BAR.match(text) if self.messages else None
        begin = start.end() if start else 0
        said = redacted(text[begin:]) if self.messages else text
        self.raw.write(text[:begin] + shown(said))
        return len(text)

    def flush(self) -> None:
        self.raw.flush()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def fileno(self) -> int:
        return self.raw.fileno()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def door() -> Iterator[None]:
    """Let everything that is printed inside go through the door."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Door(before[0], messages=False), _Door(before[1], messages=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def past_the_door() -> Iterator[None]:
    """Let what a library draws of our own words, such as help, go past the door."""
    before = sys.stdout
    sys.stdout = cast("Any", behind(before))
    try:
        yield
    finally:
        sys.stdout = before


def behind(stream: IO[str]) -> IO[str]:
    """Return the stream behind the door, or the stream itself where there is no door."""
    return stream.raw if isinstance(stream, _Door) else stream


def hand_out(text: str) -> None:
    """Write a result to standard output: as it is for files and programs, as it may be shown on a terminal."""
    (sys.stdout if sys.stdout.isatty() else behind(sys.stdout)).write(text)


def rewrite_line(text: str) -> None:
    """Write the last line of standard error anew."""
    stream = behind(sys.stderr)
    stream.write(f"\r\x1b[K{shown(text)}")
    stream.flush()


def new_console(stream: IO[str], **settings: Any) -> "Console":
    """Return a console of rich, whose styles reach the stream and whose texts are shown."""
    from rich.console import Console
    from rich.text import Text

    class Shown(Console):
        """Every renderable passes ``render``; texts are replaced there before they are laid out."""

        def render(self, renderable: Any, options: Any = None) -> Any:
            if isinstance(renderable, str):
                renderable = shown(renderable)
            elif isinstance(renderable, Text) and (plain := shown(renderable.plain)) != renderable.plain:
                renderable = renderable.copy()
                renderable.plain = plain
            return super().render(renderable, options)

    return Shown(file=behind(stream), **settings)

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
from greater_ray.shown import visible

if TYPE_CHECKING:
    from rich.console import Console

# What begins a write of a library's progress bar: to the start of the line, or a line up.
_BAR = re.compile("^(?:\r|\x1b\\[A|\x1b\\[K)+")


def shown(text: str) -> str:
    """Return a text as it may stand on a screen: as long, with a sign in place of what would steer a terminal."""
    return visible(text, one_column=True)


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


def guarded(stream: IO[str]) -> IO[str]:
    """Return a stream for messages that shows what is written to it, also where no command runs."""
    return stream if isinstance(stream, _Door) else cast("IO[str]", _Door(stream, messages=True))


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


def console(
    stream: IO[str], no_color: bool = False, width: int | None = None, force_terminal: bool | None = None
) -> "Console":
    """Return a console of rich on a stream, whose styles reach it and whose texts are shown; NO_COLOR is respected."""
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

    return Shown(
        file=behind(stream),
        no_color=no_color or None,
        width=width,
        force_terminal=force_terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )

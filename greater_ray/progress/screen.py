"""What every screen shares: a console on a stream, a bar, and times in words."""

from typing import IO, TYPE_CHECKING

from greater_ray.progress import door

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_PER_SECOND = 4
PLAIN_WIDTH = 110


def clock(seconds: float | None) -> str:
    """Write seconds as h:mm:ss."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def bar(total: int, completed: int) -> "RenderableType":
    """Return a progress bar on a line of its own: alone it does not end its line, and would swallow the next one."""
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar

    return Padding(ProgressBar(total=total, completed=completed), 0)


def console(stream: IO[str], no_color: bool) -> "Console":
    """Return a console on a stream, with a fixed width where nobody has a window; NO_COLOR is respected."""
    return door.console(stream, no_color, None if stream.isatty() else PLAIN_WIDTH)

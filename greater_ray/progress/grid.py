"""A running grid on the screen: a live panel on a terminal, plain lines elsewhere."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from greater_ray.grid.cells import Cell
from greater_ray.grid.run import GridObserver, Progress
from greater_ray.grid.status import GridStatus
from greater_ray.progress.screen import REFRESH_PER_SECOND, bar, clock, console
from greater_ray.progress.stop import Stop

if TYPE_CHECKING:
    from rich.console import RenderableType

_LINE_EVERY = 30.0  # seconds between two lines of figures off a terminal
_SHOWN = 12  # cells and messages shown at most


class GridStop(Stop):
    """The first signal ends the grid politely: whoever runs it looks at ``requested``; the second aborts."""

    def __init__(self) -> None:
        super().__init__()
        self.graceful = True
        self.announce = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = not self.requested
        super()._handle(number, frame)
        if first:
            os.write(2, b"stopping: finished steps are saved; once more aborts at once\n")


class FollowedGrid(GridObserver):
    """Keeps the figures of a running grid, and its ``status.json``; shows nothing itself."""

    def __init__(self, folder: Path) -> None:
        self.figures = GridStatus(folder)

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        """Count the cells of a phase."""
        self.figures.planned(phase, cells, open_cells)

    def started(self, cell: Cell) -> None:
        """Note that a cell runs."""
        self.figures.started(cell)

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """Note how far it is."""
        self.figures.progressed(cell, progress)

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """Count it."""
        self.figures.finished(cell, state)

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """Note what the replicas do."""
        self.figures.pools(stats)


class PlainGrid(FollowedGrid):
    """A line when something happens, and one with all figures every half minute."""

    def __init__(self, stream: IO[str], folder: Path) -> None:
        super().__init__(folder)
        self.stream = stream
        self._lined = time.monotonic()

    def message(self, text: str) -> None:
        """Print the message as a line."""
        self.stream.write(text.replace("\n", " ") + "\n")
        self.stream.flush()

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        """Name the phase."""
        super().planned(phase, cells, open_cells)
        self.message(
            f"{phase}: {self.figures.total} cells, {self.figures.before} done before, {len(open_cells)} to run"
        )

    def started(self, cell: Cell) -> None:
        """Print that a cell runs."""
        super().started(cell)
        self.message(f"started: {cell.title}")

    def progressed(self, cell: Cell, progress: Progress) -> None:
        """Print nothing for a step: the figures come every half minute."""
        super().progressed(cell, progress)
        self._line()

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """Print what came of a cell."""
        super().ended(cell, state, reason)
        self.message(f"{state}: {cell.title}" + (f": {reason}" if reason else ""))

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        """Print the figures when it is time."""
        super().pools(stats)
        self._line()

    def _line(self) -> None:
        if time.monotonic() - self._lined < _LINE_EVERY:
            return
        self._lined = time.monotonic()
        figures = self.figures.snapshot()
        self.message("; ".join([cells_line(figures), *map(pool_line, figures["pools"]), left_line(figures)]))


class LiveGrid(FollowedGrid):
    """A panel that is redrawn in place."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.messages: list[str] = []
        self.text, self.since = "starting", time.monotonic()
        self._begin = self.since

    def message(self, text: str) -> None:
        """Show the message until the next one."""
        self.text, self.since = text, time.monotonic()

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """Count it; a failure stays on the screen."""
        super().ended(cell, state, reason)
        if state != "done":
            self.messages = [*self.messages[1 - _SHOWN :], f"{state}: {cell.title}: {reason}"]

    def closing(self) -> str:
        """Return the one line that stays where the panel was."""
        figures = self.figures.snapshot()
        return f"greater-ray grid, {figures['phase']}: {cells_line(figures)} ({clock(time.monotonic() - self._begin)})"

    def __rich__(self) -> "RenderableType":
        """Draw the panel."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        figures = self.figures.snapshot()
        cells = figures["cells"]
        ended = cells["done"] + cells["failed"] + cells["stopped"]
        lines: list[RenderableType] = [Text(f"{cells_line(figures)}; {left_line(figures)}")]
        if cells["total"]:
            lines.append(bar(cells["total"], ended))
        lines += [Text(pool_line(pool)) for pool in figures["pools"]]
        lines += [Text(cell_line(cell)) for cell in figures["running"][:_SHOWN]]
        if len(figures["running"]) > _SHOWN:
            lines.append(Text(f"... and {len(figures['running']) - _SHOWN} more", style="dim"))
        lines += [Text(text, style="bold red") for text in self.messages]
        lines.append(Text(f"{self.text} ({time.monotonic() - self.since:.0f} s ago)", style="dim"))
        return Panel(Group(*lines), title=Text(f"greater-ray grid, {figures['phase']}"), title_align="left")


def cells_line(figures: dict[str, Any]) -> str:
    """Write the numbers of cells."""
    cells = figures["cells"]
    stopped = f", {cells['stopped']} stopped" if cells["stopped"] else ""
    done = f"{cells['done']} of {cells['total']} done"
    return f"cells: {cells['running']} running, {done}, {cells['failed']} failed{stopped}"


def pool_line(pool: dict[str, Any]) -> str:
    """Write what the replicas of a model do."""
    deaths = f", {pool['deaths']} died" if pool["deaths"] else ""
    # What an older version writes tells neither.
    still = f", {pool['still']} standing still" if pool.get("still") else ""
    twice = pool.get("repeated")
    repeated = f", {twice} call{'s' if twice != 1 else ''} run twice" if twice else ""
    each = f" on {pool['gpus']:g} GPUs each" if pool.get("gpus", 0) > 1 else ""
    return (
        f"{pool['model']}: {pool['loaded']} of {pool['replicas']} replicas{each}{deaths}{still}{repeated}, "
        f"{100 * pool['busy']:.0f} % busy, queue {pool['queue']}, {pool['tokens_per_second']:.0f} tokens/s"
    )


def left_line(figures: dict[str, Any]) -> str:
    """Write the time left."""
    return f"time left {clock(figures['seconds_left'])}"


def cell_line(cell: dict[str, Any]) -> str:
    """Write how far a running cell is."""
    if "step" not in cell:
        return f"  {cell['cell']}: beginning"
    of = f" of {cell['steps']}" if cell["steps"] else ""
    where = f"step {cell['step']}{of}" if cell["phase"] == "search" else cell["phase"]
    best = f", best loss {cell['best_loss']:.4f}" if cell["best_loss"] is not None else ""
    return f"  {cell['cell']}: {where}{best}"


@contextmanager
def grid_display(stream: IO[str], folder: Path, *, no_color: bool) -> Iterator[GridObserver]:
    """Show a grid on a stream: live where it is a terminal that can move its cursor, as plain lines elsewhere."""
    screen = console(stream, no_color)
    plain = not screen.is_terminal or screen.is_dumb_terminal
    shown: PlainGrid | LiveGrid = PlainGrid(stream, folder) if plain else LiveGrid(folder)
    try:
        if isinstance(shown, PlainGrid):
            yield shown
            return
        from rich.live import Live

        with Live(shown, console=screen, refresh_per_second=REFRESH_PER_SECOND, transient=True):
            yield shown
    finally:
        shown.figures.close()

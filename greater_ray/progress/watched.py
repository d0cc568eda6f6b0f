"""Whether and where a call from Python shows its progress: in a notebook, on a terminal, or nowhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from greater_ray.observer import Observer
from greater_ray.progress.door import guarded
from greater_ray.progress.grid import FollowedGrid, LiveGrid, PlainGrid
from greater_ray.progress.notebook import NotebookPanel, Panel, in_notebook
from greater_ray.progress.screen import REFRESH_PER_SECOND, console
from greater_ray.progress.stop import Stop
from greater_ray.progress.trial import LiveDisplay, PlainDisplay


@contextmanager
def watched_trial(progress: bool | Observer | None, heading: str) -> Iterator[Observer]:
    """Return who follows a trial: None shows it where somebody looks on, True everywhere, False nowhere.

    In a notebook it is a panel in the output, on a terminal one on standard error, elsewhere (True) a line per step
    there. ``heading`` names what is run until a trial says it.
    """
    if isinstance(progress, Observer):
        yield progress
    elif progress is False or (progress is None and not _seen_live()):
        yield Observer()
    elif _seen_live():
        live = LiveDisplay(Stop(), heading)
        with _drawn(live):
            yield live
    else:
        yield PlainDisplay(guarded(sys.stderr), Stop())


@contextmanager
def watched_grid(progress: bool | None, folder: Path) -> Iterator[FollowedGrid]:
    """Return who follows a grid, as ``watched_trial``; ``status.json`` in its folder is kept in any case."""
    shown: FollowedGrid
    if progress is False or (progress is None and not _seen_live()):
        shown = FollowedGrid(folder)
    else:
        shown = LiveGrid(folder) if _seen_live() else PlainGrid(guarded(sys.stderr), folder)
    try:
        if isinstance(shown, LiveGrid):
            with _drawn(shown):
                yield shown
        else:
            yield shown
    finally:
        shown.figures.close()


def _seen_live() -> bool:
    """Tell whether somebody looks on where a panel can be drawn in its place."""
    screen = console(sys.stderr, False)
    return in_notebook() or (screen.is_terminal and not screen.is_dumb_terminal)


@contextmanager
def _drawn(panel: Panel) -> Iterator[None]:
    if in_notebook():
        with NotebookPanel(panel):
            yield
        return
    from rich.live import Live

    with Live(panel, console=console(sys.stderr, False), refresh_per_second=REFRESH_PER_SECOND, transient=True):
        yield

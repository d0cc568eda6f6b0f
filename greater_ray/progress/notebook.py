"""A panel in a notebook: one output that is drawn anew in its place, and one line where it was when all is over."""

import contextvars
import html
import io
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from greater_ray.progress.screen import PLAIN_WIDTH
from greater_ray.shown import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Seconds between two drawings: each is a message to the browser.
_EVERY = 1.0
_FRAME = (
    '<pre class="tex2jax_ignore mathjax_ignore" style="white-space:pre;overflow-x:auto;line-height:1.25;'
    "font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace\">{code}</pre>"
)


# Background and text, then black, red, green, yellow, blue, magenta, cyan and white: readable on white and on black.
_COLOURS = (
    (255, 255, 255), (0, 0, 0),
    [(90,) * 3, (213, 94, 0), (0, 158, 115), (190, 140, 0), (0, 114, 178), (204, 121, 167), (86, 180, 233), (160,) * 3],
)  # fmt: skip


class Panel(Protocol):
    """What rich can draw, again and again, and what is left to say at the end."""

    def __rich__(self) -> "RenderableType":
        """Draw it as it is now."""
        ...

    def closing(self) -> str:
        """Return the one line that stays where the panel was."""
        ...


def in_notebook() -> bool:
    """Tell whether this process answers a notebook, whose outputs are drawn by a browser."""
    # Nobody's kernel runs without it, and importing it here would cost everybody else.
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class NotebookPanel:
    """Shows a panel as one output of the running cell while its block runs; after a failure the panel stays."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._ended = threading.Event()
        self._last: dict[str, str] = {}

    def __enter__(self) -> "NotebookPanel":
        from IPython.display import display

        # tqdm, which what loads models imports, asks for widgets that nothing here uses.
        warnings.filterwarnings("ignore", "IProgress not found")
        self._last = self._drawn()
        self._handle = display(self._last, raw=True, display_id=True)
        # The kernel tells by the context which cell an output belongs to.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: Any) -> None:
        self._ended.set()
        self._thread.join()
        if failed is None:
            words = visible(self._panel.closing())
            self._show({"text/html": f'<div style="opacity:.75">{html.escape(words)}</div>', "text/plain": words})
        else:
            self._show(self._drawn())

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            self._show(self._drawn())

    def _show(self, picture: dict[str, str]) -> None:
        if picture != self._last:
            self._last = picture
            self._handle.update(picture, raw=True)

    def _drawn(self) -> dict[str, str]:
        from rich.terminal_theme import TerminalTheme

        plain, coloured = _console(), _console(record=True, force_terminal=True, color_system="truecolor")
        plain.print(self._panel)
        coloured.print(self._panel)
        code = coloured.export_html(theme=TerminalTheme(*_COLOURS), inline_styles=True, code_format=_FRAME)
        return {"text/html": _seen(code), "text/plain": _seen(plain.file.getvalue())}  # type: ignore[attr-defined]


def _seen(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))


def _console(**details: Any) -> "Console":
    from rich.console import Console

    # A stream of its own, so that rich does not look for a notebook itself: there it would print anew each time.
    return Console(
        file=io.StringIO(), width=PLAIN_WIDTH, force_jupyter=False, legacy_windows=False, highlight=False, markup=False,
        emoji=False, **details,
    )  # fmt: skip

"""What all pictures share: the extra they need, colours that everybody tells apart, and texts that nothing obeys.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; hatches do the same on a grey printer, and
marks and dashes for points and lines.
"""

from importlib.util import find_spec
from typing import NamedTuple

from greater_ray.errors import ConfigError
from greater_ray.shown import shortened, visible


class Style(NamedTuple):
    """How points and lines of one thing are told from those of others."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[int, ...]]


BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999",
)  # fmt: skip
# Okabe and Ito (2008), dark to light. Yellow lines are hardly seen on white, so points and lines do without.
_HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo", "--")
_FILLS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)
_LINES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
_DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 3)))


def fill_style(number: int) -> tuple[str, str]:
    """Return colour and hatch of the bars of one thing."""
    return _FILLS[number % len(_FILLS)], _HATCHES[number % len(_HATCHES)]


def line_style(number: int) -> Style:
    """Return how points and lines of one thing are drawn; 63 things have different ones."""
    colour, marker = _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)]
    return Style(colour, marker, _DASHES[number % len(_DASHES)])


def has_matplotlib() -> bool:
    """Whether pictures can be drawn."""
    return find_spec("matplotlib") is not None


def need_matplotlib(setting: str | None = None) -> None:
    """Make sure that pictures can be drawn.

    Raises:
        ConfigError: matplotlib is missing.
    """
    if not has_matplotlib():
        raise ConfigError("pictures need matplotlib: pip install 'greater-ray[plots]'.", setting=setting)


def drawn_text(text: str, most: int = 200) -> str:
    """Return a text of others as matplotlib shows it letter for letter: no formulas, no control characters."""
    return visible(shortened(text, most)).replace("$", r"\$")

"""What the pictures have in common: a new figure, its axes, and a legend of methods."""

from collections.abc import Iterable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from greater_ray.drawing import drawn_text, line_style, need_matplotlib

if TYPE_CHECKING:
    from greater_ray.plots._canvas import Picture

_NAME = 40  # letters of a label
_LETTERS_PER_INCH = 12  # of a heading


def new_figure(width: float, height: float) -> "Picture":
    """Return an empty figure, in inches.

    Raises:
        ConfigError: matplotlib is missing.
    """
    need_matplotlib()
    from greater_ray.plots._canvas import Picture

    return Picture(width, height)


def name(text: str, most: int = _NAME) -> str:
    """Return a label as it is drawn, cut where it is long."""
    return drawn_text(text if len(text) <= most else f"{text[: most - 1]}\u2026", most)


def tidy(axes: Any, title: str = "", x: str = "", y: str = "", grid: str = "both") -> None:
    """Give axes their names, a light grid along one axis or both, and no frame that says nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    if title:
        axes.set_title(title, fontsize=10, loc="left")


def heading(figure: "Picture", text: str) -> None:
    """Write what the whole figure shows above it."""
    lines = wrap(text, int(_LETTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize=11, x=0.01, ha="left")


def percents(axis: Any) -> None:
    """Write the shares of an axis as percentages."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 4):g} %".replace("-", "\u2212")))


def whole_numbers(axis: Any) -> None:
    """Put ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def thousands(axis: Any) -> None:
    """Write large numbers in short: 20k, 1.5M."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(sep=""))


def legend(figure: "Picture", methods: Iterable[str], numbers: dict[str, int]) -> None:
    """Write below the figure how each method is drawn, where there are several; ``methods`` are those in the figure."""
    from matplotlib.lines import Line2D

    signs = []
    for method in methods:
        colour, marker, dash = line_style(numbers[method])
        signs.append(Line2D([], [], color=colour, marker=marker, linestyle=dash, label=name(method), markersize=6))
    if len(numbers) > 1:
        figure.legend(handles=signs, loc="outside lower center", ncols=min(5, len(signs)), fontsize=9, frameon=False)

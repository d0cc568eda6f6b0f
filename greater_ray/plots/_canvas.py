"""A figure that needs no screen and that a notebook shows by itself; the only module that needs matplotlib."""

import io
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DOTS = 100  # per inch of the page; drawn twice as fine
# Where a name may stand beside its mark, best first.
_PLACES = (
    (15, 0, "left"), (-15, 0, "right"), (10, 14, "left"), (10, -14, "left"), (-10, 14, "right"), (-10, -14, "right"),
    (0, 19, "center"), (0, -19, "center"),
)  # fmt: skip


class Picture(Figure):
    """A matplotlib figure apart from pyplot: nothing to be closed, no window, and shown once."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        file = io.BytesIO()
        with warnings.catch_warnings():
            # A prompt may hold letters that the font lacks: they are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            self.savefig(file, format="png", dpi=2 * _DOTS)
        width, height = (round(_DOTS * inches) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}

    def labelled(
        self, axes: Any, marks: Sequence[tuple[float, float, str]], stairs: Sequence[tuple[float, float]]
    ) -> None:
        """Write names beside their marks (x, y, name) where they cover no mark, no other name and no stair."""
        self.draw_without_rendering()
        points = [axes.transData.transform((x, y)) for x, y, _ in marks]
        taken = [(px - 9, py - 9, px + 9, py + 9) for px, py in points]
        corners = [axes.transData.transform(place) for place in stairs]
        for (left, low), (right, high) in pairwise(corners):
            taken += [(left, low - 2, right, low + 2), (right - 2, low, right + 2, high)]
        frame = axes.get_window_extent()
        for (px, py), (x, y, name) in zip(points, marks, strict=True):
            wide, high = 6.0 * len(name) * self.dpi / 100, 11 * self.dpi / 100
            for dx, dy, side in _PLACES:
                left = px + dx - {"left": 0, "right": wide, "center": wide / 2}[side]
                box = (left, py + dy - high / 2, left + wide, py + dy + high / 2)
                outside = box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0 or box[3] > frame.y1
                if not outside and not any(_meet(box, other) for other in taken):
                    break
            taken.append(box)
            axes.annotate(name, (x, y), (dx * 72 / self.dpi, dy * 72 / self.dpi), textcoords="offset points", ha=side,
                          va="center", fontsize=9)  # fmt: skip


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

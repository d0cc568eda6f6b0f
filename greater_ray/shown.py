"""Texts that a model or a user wrote, made fit to be shown: nothing in them is obeyed; and small HTML tables of them.

Tables take their colours from the page around them, so they are readable in light and in dark notebooks.
"""

import html
import re
from collections.abc import Iterable, Sequence

# What terminals obey but line end and tab, line separators, marks that turn the direction of reading, and what stays
# unseen: blanks of no width, tags, half pairs. Joiners are part of many scripts.
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_LINE = "rgba(128,128,128,.35)"
_CELL = "padding:.25em .8em;vertical-align:top;"


def visible(text: str, *, one_column: bool = False) -> str:
    """Put a sign in the place of every such character; ``one_column`` for screens where widths count."""
    if text.isascii() and text.isprintable():
        return text

    def sign(found: re.Match[str]) -> str:
        code = ord(found[0])
        if code < 0x20:
            return chr(0x2400 + code)
        return "\u2421" if code == 0x7F else "\ufffd" if one_column else f"[U+{code:04X}]"

    return _UNSEEN.sub(sign, text)


def escaped(json_text: str) -> str:
    """Return JSON in which such characters are written as escapes: the same values, and nothing that steers."""
    return _UNSEEN.sub(_escape, json_text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[k : k + 2]):04x}" for k in range(0, len(units), 2))


def shortened(text: str, most: int) -> str:
    """Cut a long text and say how much is missing."""
    return text if len(text) <= most else f"{text[:most]} [{len(text) - most:,} more characters]"


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f} %"


def percents(limits: tuple[float, float]) -> str:
    """Write the limits of an interval of shares, in percent."""
    return f"[{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]"


def points(change: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return f"{100 * change:+.1f}".replace("-", "\u2212")


def foreign(text: str, most: int = 300, *, wrap: bool = True) -> str:
    """Return HTML of a text that others wrote: escaped, kept apart from what stands around it, cut where it is long."""
    style = "white-space:pre-wrap;overflow-wrap:break-word" if wrap else "white-space:nowrap"
    return f'<bdi dir="auto" style="{style}">{html.escape(visible(shortened(text, most)))}</bdi>'


def block(*parts: str) -> str:
    """Return HTML that a notebook shows as one output; formulas in it are not typeset."""
    style = "overflow-x:auto;line-height:1.45"
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{style}">{"".join(parts)}</div>'


def line(content: str, *, dim: bool = False) -> str:
    """Return HTML of one line; ``content`` is HTML."""
    return f'<div style="margin:.3em 0{";opacity:.7" if dim else ""}">{content}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Return an HTML table; heads are plain words, cells are HTML, and the first ``words`` columns are no figures."""
    top = "".join(f'<th style="{_style(k, words)}">{html.escape(head)}</th>' for k, head in enumerate(heads))
    body = "".join(
        f'<tr style="background:none;border-top:1px solid {_LINE}">'
        + "".join(f'<td style="{_style(k, words)}">{cell}</td>' for k, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    style = "border-collapse:collapse;margin:.3em 0;color:inherit;font-variant-numeric:tabular-nums"
    return f'<table style="{style}"><thead><tr style="background:none">{top}</tr></thead><tbody>{body}</tbody></table>'


def _style(column: int, words: int) -> str:
    return f"{_CELL}text-align:{'left' if column < words else 'right;white-space:nowrap'}"

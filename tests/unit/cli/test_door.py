"""What is printed: text from models, rows and files steers no terminal, and what is for programs stays as it is."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greater_ray.cli.app import run
from greater_ray.progress.door import console, door, shown
from greater_ray.shown import escaped

RECORDED = Path(__file__).parents[2] / "recorded" / "0.1.0"
# Colour, clear screen, title, clipboard, C1's CSI, overwriting the line, reading backwards, a hidden tag.
HOSTILE = (
    "be \x1b[31m\x1b[2J\x1b]0;title\x07\x1b]52;c;eA==\x07\x9b1m\rbrief \u202e\u2066right\u200f \U000e0041[red]x[/red]"
)
STEERS = [*map(chr, (*range(9), *range(11, 32), *range(127, 160))), *"\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066"]


class Screen(io.StringIO):
    """A terminal, as far as programs can tell."""

    def isatty(self) -> bool:
        return True


def unharmed(text: str) -> bool:
    return not any(sign in text for sign in STEERS)


@pytest.fixture(params=[io.StringIO, Screen], ids=["pipe", "terminal"])
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str, int]]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*args: str) -> tuple[str, str, int]:
        out, err = request.param(), request.param()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = run(list(args))
        assert sys.stdout is out
        return out.getvalue(), err.getvalue(), code

    call.terminal = request.param is Screen  # type: ignore[attr-defined]
    return call


def test_every_sign_that_steers_is_shown_as_long_as_it_was() -> None:
    assert unharmed(shown("".join(STEERS)))
    assert len(shown(HOSTILE)) == len(HOSTILE)
    assert shown("\x1b[31m") == "\u241b[31m"
    assert shown("a\tb\nc é 漢 \u200d\U0001f469 [b]") == "a\tb\nc é 漢 \u200d\U0001f469 [b]"


def test_json_is_escaped_and_the_same() -> None:
    text = escaped(json.dumps([HOSTILE], ensure_ascii=False))
    assert unharmed(text)
    assert "\U000e0041" not in text
    assert json.loads(text) == [HOSTILE]


def hostile_run(folder: Path) -> Path:
    """A finished run whose found prompt, model, task and notes would steer a terminal."""
    shutil.copytree(RECORDED / "greater-finished", folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    record["best"]["full_text"] = record["best"]["text"] = record["initial"]["full_text"] = HOSTILE
    record["config"]["model"]["name"] = record["task"]["task"] = HOSTILE
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("export", "{run}"), ("export", "{run}", "--format", "messages"), ("status", "{run}"),
        ("import", "{file}"), ("import", "{file}", "--settings"), ("import", "{file}", "--json"),
        ("optimize", "--task", HOSTILE), ("grid", HOSTILE), ("evaluate", f"--{HOSTILE}"), ("list", HOSTILE),
        ("export", HOSTILE), ("optimize", "--set", f"method.{HOSTILE}=1"), ("optimize", "--rows", "{rows}"), (HOSTILE,),
    ],
    ids=lambda command: " ".join(command)[:24].encode("ascii", "ignore").decode().replace("\x1b", ""),
)  # fmt: skip
def test_no_command_lets_a_text_steer_a_terminal(command: tuple[str, ...], printed: Any, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(HOSTILE, encoding="utf-8", newline="")
    rows = tmp_path / "rows\x1b[2J\u202e.csv"
    rows.write_text(f'question,answer\n"{HOSTILE}",\x1b[31m\n', encoding="utf-8", newline="")
    places = {"{run}": str(hostile_run(tmp_path / "run")), "{file}": str(tmp_path / "p.txt"), "{rows}": str(rows)}
    out, err, code = printed(*(places.get(word, word) for word in command))
    assert out or err
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert "internal error" not in err
    assert unharmed(err)
    if command[0] in ("export", "import") and code == 0 and not printed.terminal and "--json" not in command:
        assert "\u202e\u2066right" in out  # a file gets what the model said
    else:
        assert unharmed(out)


def test_what_rich_lays_out_is_text_alone() -> None:
    """Tables, panels and styled texts; the styles themselves reach the terminal."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    out = Screen()
    screen = console(out, width=200, force_terminal=True)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    screen.print(HOSTILE, Panel(Text(HOSTILE), title=Text(HOSTILE)), table, Text.assemble("a", (HOSTILE, "red")))
    told = out.getvalue()
    assert "\x1b[1m" in told
    assert told.count("[red]x") >= 6
    for hostile in ("\x1b[2J", "\x1b]0;", "\x1b]52", "\x9b", "\u202e", "\u2066", "\u200f", "\U000e0041", "\x07"):
        assert hostile not in told
    # Borders stand under each other: a sign is as wide as it was counted.
    lines = re.sub("\x1b\\[[0-9;]*m", "", told).splitlines()
    assert len({len(line) for line in lines if line.startswith("│ ") and len(line) < 200}) == 1


def test_a_progress_bar_of_a_library_still_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Screen()
    monkeypatch.setattr(sys, "stderr", err)
    with door():
        sys.stderr.write("\r 50 % \x1b[2J\rmore")
        print("\x1b[31m", file=sys.stderr, end="")
    assert err.getvalue() == "\r 50 % \u241b[2J\u240dmore\u241b[31m"

"""A running trial on the screen: a live panel on a terminal, one plain line per step elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from greater_ray.config import Budget, TrialConfig
from greater_ray.ledger import spent_by_limit
from greater_ray.observer import Observer
from greater_ray.progress.screen import REFRESH_PER_SECOND, bar, clock, console
from greater_ray.progress.stop import SAVING, Stop
from greater_ray.records import StepRecord, TrialRecord

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

CANDIDATE_WIDTH = 60


class Marked(NamedTuple):
    """A prompt cut around its changed token."""

    before: str
    token: str
    after: str

    def plain(self) -> str:
        """Return one line with the token between angle brackets; the whole prompt where no token was changed."""
        if not self.token:
            return self.before.replace("\n", "\\n")
        return f"{self.before}>>{self.token}<<{self.after}".replace("\n", "\\n")


class Figures:
    """What the records of a trial do not say themselves: speed, time left, where the changed token stands.

    ``steps`` is how many the search has at most, None where no number bounds them.
    """

    def __init__(self) -> None:
        self.steps: int | None = None
        self._texts: dict[int, str] = {}
        self._last: tuple[int, float] | None = None
        self.tokens_per_second = 0.0
        self.seconds_left: float | None = None

    def add(self, config: TrialConfig, record: StepRecord) -> None:
        """Take in one step."""
        self._texts |= {c["token"]: c["text"] for c in record.candidates if c["token"] is not None}
        tokens, seconds = record.usage.tokens, record.elapsed_seconds
        before = self._last or (0, 0.0)
        self.tokens_per_second = (tokens - before[0]) / max(seconds - before[1], 1e-6)
        self._last = (tokens, seconds)
        self.seconds_left = time_left(config.budget, self.steps, record)

    def mark(self, config: TrialConfig, record: StepRecord) -> Marked:
        """Cut the prompt around the token at the tuned position."""
        text, prefix = record.prompt_text, config.layout.frozen_prefix
        taken = record.candidates[record.accepted] if record.accepted is not None else {}
        token = str(taken["text"]) if taken.get("token") is not None else ""
        position = record.position or 0
        known = [self._texts.get(i) for i in record.prompt_ids[:position]]
        if None not in known:
            expected = len(prefix) + sum(len(t) for t in known if t is not None)
        else:
            expected = len(prefix) + (len(text) - len(prefix)) * position // max(1, len(record.prompt_ids))
        if not token or token not in text:
            token = token.strip() if token.strip() and token.strip() in text else ""
        places = [i for i in range(len(text)) if text.startswith(token, i)] if token else []
        start = min(places, key=lambda i: abs(i - expected), default=len(text))
        return Marked(text[:start], text[start : start + len(token)], text[start + len(token) :])


def time_left(budget: Budget, steps: int | None, record: StepRecord) -> float | None:
    """Estimate the seconds until the last of ``steps`` or the first limit ends the search; None where neither can."""
    seconds = record.elapsed_seconds
    ledger = spent_by_limit(record.usage, record.optimizer_usage, seconds)
    pairs = [(record.step, steps), *((spent, getattr(budget, name)) for name, spent in ledger.items())]
    estimates = [seconds / spent * max(0, limit - spent) for spent, limit in pairs if limit is not None and spent]
    return min(estimates, default=None)


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _fate(candidate: dict[str, Any], taken: bool) -> str:
    """What became of a candidate; one that was scored and not taken needs no word."""
    status = candidate.get("status", "scored")
    return "taken" if taken else "" if status == "scored" else status


def _has_gradients(record: StepRecord) -> bool:
    """Whether the candidates were ranked by a gradient: methods that change a prompt as a whole have none."""
    return any(c["gradient"] is not None for c in record.candidates)


def _tried(record: StepRecord) -> str:
    """Name every candidate with its figures, and one that was not scored with the reason."""
    if not record.candidates:
        return ""
    graded, parts = _has_gradients(record), []
    for c in record.candidates:
        gradient = [_figure(c["gradient"], "+.3g")] if graded else []
        fate = _fate(c, False)
        parts.append(
            " ".join([repr(c["text"]), *gradient, _figure(c["loss"], ".4f"), *([f"({fate})"] if fate else [])])
        )
    return f"tried ({'gradient, ' if graded else ''}loss): {', '.join(parts)}  "


def _position(record: StepRecord) -> str:
    """Where the tuned token stands; nothing for methods that change a prompt as a whole."""
    return "" if record.position is None else f"position {record.position + 1} of {len(record.prompt_ids)}  "


def step_of(steps: int | None, step: int) -> str:
    """Write ``3 of 105``, or the bare number where no number bounds the steps."""
    return f"{step} of {steps}" if steps is not None else str(step)


def underway(steps: int | None, done: int) -> str:
    """Name the step that runs after ``done`` steps, or say that there is none."""
    over = steps is not None and done >= steps
    return "search finished" if over else f"step {step_of(steps, done + 1)} is running"


def title(config: TrialConfig) -> str:
    """Name what is run; made rows are always called so."""
    made = " (synthetic)" if config.task.data == "synthetic" else ""
    return f"{config.method} on {config.task.name}{made} with {config.model.name}"


class PlainDisplay(Observer):
    """One line per step, and one per evaluation, for files and pipes."""

    def __init__(self, stream: IO[str], stop: Stop) -> None:
        self.stream, self.stop, self.figures = stream, stop, Figures()

    def message(self, text: str) -> None:
        """Print the message as a line."""
        self.stream.write(text.replace("\n", " ") + "\n")
        self.stream.flush()

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Name the run; from here on a signal lets the step end."""
        self.stop.graceful, self.figures.steps = True, steps
        self.message(title(config) + (f", continuing after step {done_steps}" if done_steps else ""))

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Print the step."""
        self.figures.add(config, record)
        self.message(
            f"step {step_of(self.figures.steps, record.step)}  {_position(record)}"
            f"loss {_figure(record.loss, '.4f')}  best {_figure(record.best_loss, '.4f')}  "
            f"{self.figures.tokens_per_second:.0f} tokens/s  "
            f"left {clock(self.figures.seconds_left)}  {_tried(record)}"
            f"prompt: {self.figures.mark(config, record).plain()}"
        )

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Print a line when an evaluation begins."""
        if done == 0:
            self.message(f"evaluating {split}, {which}: {of} rows")

    def finished(self, record: TrialRecord) -> None:
        """Print nothing: the summary follows."""


class LiveDisplay(Observer):
    """A panel that is redrawn in place; ``__rich__`` is asked for it a few times a second.

    ``heading`` names what is run, until a trial says it.
    """

    def __init__(self, stop: Stop, heading: str = "greater-ray") -> None:
        self.stop, self.figures, self.heading = stop, Figures(), heading
        self.config: TrialConfig | None = None
        self.record: StepRecord | None = None
        self.text, self.since = "starting", time.monotonic()
        self._begin = self.since

    def message(self, text: str) -> None:
        """Show the message with the time since it came."""
        self.text, self.since = text, time.monotonic()

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Show the run; from here on a signal lets the step end."""
        self.stop.graceful, self.figures.steps = True, steps
        self.config, self.heading = config, title(config)
        self.message(underway(steps, done_steps))

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Show the step."""
        self.figures.add(config, record)
        self.record = record
        self.message(underway(self.figures.steps, record.step))

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Show how far the evaluation is."""
        self.message(f"evaluating {split}, {which}: {done} of {of} rows")

    def finished(self, record: TrialRecord) -> None:
        """Say how it ended: the summary follows."""
        self.heading = title(record.config)
        self.message(f"{record.steps} {'step' if record.steps == 1 else 'steps'}, ended by {record.stop_reason}")

    def closing(self) -> str:
        """Return the one line that stays where the panel was."""
        return f"{self.heading}: {self.text} ({clock(time.monotonic() - self._begin)})"

    def __rich__(self) -> "RenderableType":
        """Draw the panel."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        lines: list[RenderableType] = []
        if self.config is not None and self.record is not None:
            lines += self._step(self.config, self.record)
        lines.append(Text(f"{self.text} ({time.monotonic() - self.since:.0f} s)", style="dim"))
        if self.stop.requested:
            lines.append(Text(SAVING, style="bold yellow"))
        return Panel(Group(*lines), title=Text(self.heading), title_align="left")

    def _step(self, config: TrialConfig, record: StepRecord) -> "list[RenderableType]":
        from rich.table import Table
        from rich.text import Text

        figures = self.figures
        head = (
            f"step {step_of(figures.steps, record.step)}   {_position(record)} "
            f"best loss {_figure(record.best_loss, '.4f')}   {figures.tokens_per_second:.0f} tokens/s   "
            f"time left {clock(figures.seconds_left)}"
        )
        lines: list[RenderableType] = [Text(head)]
        if figures.steps:
            lines.append(bar(figures.steps, record.step))
        lines.append(self._prompt(figures.mark(config, record)))
        table = Table(box=None, pad_edge=False)
        graded = _has_gradients(record)
        # A whole prompt as a candidate may be longer than the panel.
        table.add_column("candidate", max_width=CANDIDATE_WIDTH, no_wrap=True, overflow="ellipsis")
        for heading in ("gradient", "loss") if graded else ("loss",):
            table.add_column(heading, justify="right")
        table.add_column("")
        for k, c in enumerate(record.candidates):
            taken = k == record.accepted
            gradient = [_figure(c["gradient"], "+.4g")] if graded else []
            cells = (repr(c["text"]), *gradient, _figure(c["loss"], ".4f"), _fate(c, taken))
            table.add_row(*map(Text, cells), style="bold" if taken else "")
        return [*lines, *([table] if record.candidates else []), *(Text(note, style="yellow") for note in record.notes)]

    @staticmethod
    def _prompt(marked: Marked) -> "Text":
        from rich.text import Text

        return Text.assemble(
            ("prompt: ", "dim"), marked.before, (marked.token, "bold reverse green"), marked.after, overflow="fold"
        )


@contextmanager
def display(stream: IO[str], stop: Stop, *, no_color: bool) -> Iterator[Observer]:
    """Show a run on a stream: live where it is a terminal that can move its cursor, as plain lines elsewhere."""
    screen = console(stream, no_color)
    if not screen.is_terminal or screen.is_dumb_terminal:
        yield PlainDisplay(stream, stop)
        return
    from rich.live import Live

    stop.announce = False
    live = LiveDisplay(stop)
    with Live(live, console=screen, refresh_per_second=REFRESH_PER_SECOND, transient=True):
        yield live

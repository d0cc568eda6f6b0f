import io
import signal

import pytest
from rich.console import Console
from rich.text import Text

from greater_ray.config import Budget, TrialConfig
from greater_ray.progress.screen import clock
from greater_ray.progress.stop import Stop
from greater_ray.progress.trial import Figures, LiveDisplay, PlainDisplay, display, time_left
from greater_ray.records import StepRecord
from greater_ray.types import Usage

CONFIG = TrialConfig.model_validate(
    {"model": {"name": "m"}, "task": {"name": "bbh/navigate", "data": "synthetic"}, "budget": {"steps": 4}}
)


def step(
    number: int, position: int, ids: tuple[int, ...], text: str, accepted: tuple[int, str], **kwargs
) -> StepRecord:
    candidate = {"token": accepted[0], "text": accepted[1], "gradient": -1.5, "loss": 2.25}
    other = {"token": 99, "text": " other", "gradient": -0.5, "loss": 3.0}
    return StepRecord(
        step=number, position=position, prompt_ids=ids, prompt_text=text, loss=2.25, best_loss=2.0,
        accepted=0, candidates=(candidate, other), usage=Usage(scored_tokens=100 * number),
        elapsed_seconds=2.0 * number, **kwargs,
    )  # fmt: skip


def test_the_changed_token_is_marked_where_it_stands():
    figures = Figures()
    first = step(1, 0, (5, 6, 5), "Use the big the", (5, " the"))
    figures.add(CONFIG, first)
    assert figures.mark(CONFIG, first).plain() == "Use>> the<< big the"
    second = step(2, 1, (5, 7, 5), "Use the old the", (7, " old"))
    figures.add(CONFIG, second)
    third = step(3, 2, (5, 7, 5), "Use the old the", (5, " the"))
    figures.add(CONFIG, third)
    assert figures.mark(CONFIG, second).plain() == "Use the>> old<< the"
    assert figures.mark(CONFIG, third).plain() == "Use the old>> the<<"


def test_a_token_whose_place_is_unknown_is_looked_for_near_its_position():
    record = step(9, 3, (1, 2, 3, 4), "Use a bit of a rope", (4, " a"))
    assert Figures().mark(CONFIG, record).plain() == "Use a bit of>> a<< rope"
    lost = step(9, 3, (1, 2, 3, 4), "Use words", (4, "\ufffd"))
    assert Figures().mark(CONFIG, lost).plain() == "Use words"


def test_speed_is_that_of_the_last_step_and_the_nearest_end_is_the_time_left():
    figures = Figures()
    figures.steps = 4
    figures.add(CONFIG, step(1, 0, (5,), "Use a", (5, " a")))
    figures.add(CONFIG, step(2, 0, (5,), "Use a", (5, " a")))
    assert figures.tokens_per_second == pytest.approx(50)
    assert figures.seconds_left == pytest.approx(4)
    record = step(2, 0, (5,), "Use a", (5, " a"))
    assert time_left(Budget(tokens=300), 4, record) == pytest.approx(2)
    assert time_left(Budget(seconds=5), 4, record) == pytest.approx(1)
    assert time_left(Budget(steps=1000), 3, record) == pytest.approx(2), "the method itself ends before its budget"
    assert time_left(Budget(patience=3), None, record) is None
    assert (clock(None), clock(3725)) == ("-", "1:02:05")


def test_a_plain_line_per_step():
    stream = io.StringIO()
    with display(stream, Stop(), no_color=False) as screen:
        assert isinstance(screen, PlainDisplay)
        screen.started(CONFIG, 0, 4)
        screen.stepped(CONFIG, step(1, 0, (5, 6), "Use a\nb", (5, " a")))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "greater on bbh/navigate (synthetic) with m"
    assert len(lines) == 2
    for part in (
        "step 1 of 4",
        "position 1 of 2",
        "loss 2.2500",
        "best 2.0000",
        "50 tokens/s",
        "left 0:00:06",
        "' a' -1.5 2.2500",
        "' other' -0.5 3.0000",
        "prompt: Use>> a<<\\nb",
    ):
        assert part in lines[1]


@pytest.mark.parametrize("color", [False, True])
def test_the_panel_shows_the_step(color: bool):
    stop = Stop()
    live = LiveDisplay(stop)
    console = Console(file=io.StringIO(), width=100, no_color=not color, force_terminal=color)
    console.print(live)
    live.started(CONFIG, 0, 4)
    live.stepped(CONFIG, step(1, 0, (5, 6), "Use a [b]", (5, " a"), notes=("few candidates",)))
    live.evaluating("test", "after", 3, 8)
    stop.requested = True
    console.print(live)
    screen = Text.from_ansi(console.file.getvalue()).plain
    for part in (
        "greater on bbh/navigate (synthetic)",
        "step 1 of 4",
        "best loss 2.0000",
        "prompt: Use a [b]",
        "' other'",
        "-1.5",
        "taken",
        "few candidates",
        "evaluating test, after: 3 of 8 rows",
        "once more aborts",
    ):
        assert part in screen


def test_a_method_that_ends_itself_is_shown_by_its_own_number_of_steps():
    stream, live = io.StringIO(), LiveDisplay(Stop())
    config = CONFIG.model_copy(update={"budget": Budget(steps=1000)})
    with display(stream, Stop(), no_color=False) as screen:
        for shown in (screen, live):
            shown.started(config, 0, 2)
            shown.stepped(config, step(1, 0, (5, 6), "Use a b", (5, " a")))
    assert "step 1 of 2" in stream.getvalue()
    assert "left 0:00:02" in stream.getvalue()
    assert live.text == "step 2 of 2 is running"
    live.stepped(config, step(2, 0, (5, 6), "Use a b", (5, " a")))
    assert live.text == "search finished"


@pytest.mark.parametrize(("steps", "text"), [(0, "search finished"), (None, "step 1 is running")])
def test_what_runs_first(steps: int | None, text: str):
    live = LiveDisplay(Stop())
    live.started(CONFIG, 0, steps)
    assert live.text == text


def rewritten(number: int, **changes) -> StepRecord:
    """A step of a method that changes the prompt as a whole: no position, no gradients, candidates without a loss."""
    scored = {
        "token": None,
        "text": "Think twice, and " + "slowly " * 40,
        "gradient": None,
        "loss": 0.25,
        "status": "scored",
    }
    failed = {"token": None, "text": "", "gradient": None, "loss": None, "status": "unreadable"}
    values = {
        "step": number, "position": None, "prompt_ids": (5, 6), "prompt_text": " Think\ntwice", "loss": 0.25,
        "best_loss": 0.25, "accepted": 0, "candidates": (scored, failed), "usage": Usage(scored_tokens=50, calls=4),
        "optimizer_usage": Usage(calls=2, scored_tokens=30), "elapsed_seconds": 2.0,
    }  # fmt: skip
    return StepRecord(**values | changes)


def plain(record: StepRecord) -> str:
    stream = io.StringIO()
    with display(stream, Stop(), no_color=False) as screen:
        screen.stepped(CONFIG, record)
    return stream.getvalue()


def panel(record: StepRecord) -> str:
    live = LiveDisplay(Stop())
    live.started(CONFIG, 0, 4)
    live.stepped(CONFIG, record)
    console = Console(file=io.StringIO(), width=100, no_color=True, force_terminal=False)
    console.print(live)
    return console.file.getvalue()


def test_a_step_without_position_and_gradients_is_shown():
    line, screen = plain(rewritten(1)), panel(rewritten(1))
    assert "position" not in line + screen
    assert "gradient" not in line + screen
    assert "tried (loss): 'Think twice, and slowly" in line
    assert "0.2500, '' - (unreadable)  prompt:  Think\\ntwice" in line
    assert "unreadable" in screen
    (candidate,) = (text for text in screen.splitlines() if "0.2500" in text and "twice, and" in text)
    assert "…" in candidate, "a long prompt takes one line"
    assert "taken" in candidate


def test_a_step_that_scored_nothing_is_shown():
    nothing = rewritten(
        1, loss=None, best_loss=None, accepted=None, candidates=(), notes=("no proposal could be used",)
    )
    line, screen = plain(nothing), panel(nothing)
    assert "loss -  best -" in line
    assert "tried" not in line
    assert "candidate" not in screen
    assert "no proposal could be used" in screen


def test_limits_of_the_ledger_tell_the_time_left():
    for budget, seconds in (
        ({"calls": 8}, 2.0), ({"tokens": 75}, 1.0), ({"optimizer_calls": 5}, 3.0), ({"optimizer_tokens": 60}, 2.0),
        ({"forward_tokens": 75}, 1.0), ({"seconds": 5.0}, 3.0), ({"prompt_tokens": 9}, None),
        ({"optimizer_tokens": 60, "tokens": 75}, 1.0), ({"backward_tokens": 9}, None), ({"calls": 3}, 0.0),
    ):  # fmt: skip
        assert time_left(Budget(**budget), None, rewritten(1)) == (
            None if seconds is None else pytest.approx(seconds)
        ), budget


def test_signals_first_finish_then_abort(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        stop.graceful = True
        signal.raise_signal(signal.SIGINT)
        assert stop.should_stop()
        assert "saved" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    with Stop() as stop, pytest.raises(KeyboardInterrupt):  # nothing runs that could be finished
        signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 143

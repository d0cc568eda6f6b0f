"""Whoever follows a run: the screen, a log or a tracker."""

from greater_ray.config import TrialConfig
from greater_ray.records import StepRecord, TrialRecord


class Observer:
    """Follows one trial and shows nothing; derive from it and override what is to be shown.

    Its methods are called between units of work, and must not raise.
    """

    def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
        """Begin, or continue after ``done_steps`` of at most ``steps`` steps; None where no number bounds them."""

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Report one finished step."""

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        """Report how many rows of an evaluation are done."""

    def message(self, text: str) -> None:
        """Report what is being waited for."""

    def finished(self, record: TrialRecord) -> None:
        """Report the end."""

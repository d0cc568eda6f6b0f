"""The end of a trial: choose among finalists, and measure start and result. Only here are test rows answered."""

from collections.abc import Callable
from dataclasses import dataclass, field

from greater_ray.assembly import Parts
from greater_ray.demonstrations import evaluation_demonstrations, fitting
from greater_ray.evaluation import evaluate
from greater_ray.files import Lines
from greater_ray.protocols import MethodState, rows_of
from greater_ray.records import EvaluationRecord
from greater_ray.types import Example, Shown, TokenIds, Usage


@dataclass
class Ending:
    """The chosen prompt, the splits whose scores chose it, and every evaluation by split, prompt and demonstrations.

    ``searched`` is the task model's cost of the search, the choice among finalists included; ``usage`` that of all
    other evaluations. ``shown_before`` stood in front of the questions under the start prompt, ``shown_after`` under
    the chosen one and all finalists.
    """

    best: TokenIds
    searched: Usage
    shown_before: Shown = field(default_factory=Shown)
    shown_after: Shown = field(default_factory=Shown)
    chosen_by: tuple[str, ...] = ()
    evaluations: dict[tuple[str, TokenIds, Shown], EvaluationRecord] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


def evaluate_finalists(
    parts: Parts,
    state: MethodState,
    initial: TokenIds,
    searched: Usage,
    lines: Lines,
    *,
    on_rows: Callable[[str, str, int, int], None],
    check: Callable[[], None],
    message: Callable[[str], None],
) -> Ending:
    """Choose by dev accuracy where the config says so, then measure the start and the chosen prompt on every split.

    Whatever is measured here is measured with the config's demonstrations, in front of the start prompt too. Where the
    method brings its own, they stand with its result alone.
    ``searched`` is the task model's cost of the search so far. ``lines`` and ``check`` are those of
    ``evaluation.evaluate``; ``on_rows`` gets the split and the prompt's role too.
    """
    settings, selects_by = parts.config.evaluation, parts.method.selects_by
    ranked = [ids for _, ids in state.best[: settings.dev_select_top]]
    finalists = ranked or [state.result]
    ending = Ending(finalists[0], searched)
    rows = evaluated_rows(parts)
    if own := Shown(state.demonstrations, state.nearest):
        if settings.demonstrations or settings.nearest:
            message("the method shows demonstrations of its own: those of the evaluation are left out")
        ending.shown_after = fitting(parts.model, own, finalists, rows, message)
    else:
        asked = evaluation_demonstrations(parts.config, parts.task)
        ending.shown_after = fitting(parts.model, asked, [initial, *finalists], rows, message)
        ending.shown_before = ending.shown_after

    def measure(split: str, prompt: TokenIds, which: str) -> Usage:
        shown = ending.shown_before if which == "before" else ending.shown_after
        key = (split, prompt, shown)
        if key in ending.evaluations or not (rows := rows_of(parts.task, split)):
            return Usage()
        ending.evaluations[key], usage = evaluate(
            parts.task,
            parts.model.showing(shown, prompt),
            split,
            rows,
            prompt,
            lines,
            on_rows=lambda done, of: on_rows(split, which, done, of),
            check=check,
        )
        return usage

    # Where no prompt was scored, none was chosen.
    chosen_by = [selects_by if parts.task.dev() else "train"] if state.best else []
    if len(finalists) > 1:
        # A part of the search, as other methods go by dev rows in their steps; no limit cuts it off.
        for rank, prompt in enumerate(finalists):
            ending.searched += measure("dev", prompt, f"finalist {rank + 1}")
        found = {ids: e for (split, ids, shown), e in ending.evaluations.items() if split == "dev"}
        scored = [p for p in finalists if p in found]
        ending.best = max(scored, key=lambda p: found[p].accuracy, default=ending.best)
        chosen_by += ["dev"] if scored else []
    for split in settings.splits:
        ending.usage += measure(split, initial, "before") + measure(split, ending.best, "after")
    ending.chosen_by = tuple(dict.fromkeys(chosen_by))
    return ending


def evaluated_rows(parts: Parts) -> list[Example]:
    """Return the rows that the end will answer, whatever the search finds."""
    settings = parts.config.evaluation
    selecting = ["dev"] if settings.dev_select_top > 1 else []
    return [row for split in dict.fromkeys([*selecting, *settings.splits]) for row in rows_of(parts.task, split)]

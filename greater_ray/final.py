"""The end of a trial: choose among finalists, and measure start and result. Only here are test rows answered."""

from collections.abc import Callable
from dataclasses import dataclass, field

from greater_ray.assembly import Parts
from greater_ray.evaluation import evaluate
from greater_ray.protocols import MethodState, rows_of
from greater_ray.records import EvaluationRecord
from greater_ray.store import Lines
from greater_ray.types import TokenIds, Usage


@dataclass
class Ending:
    """The chosen prompt, the splits whose scores chose it, and every evaluation by split and prompt.

    ``searched`` is the task model's cost of the search, the choice among finalists included; ``usage`` that of all
    other evaluations.
    """

    best: TokenIds
    searched: Usage
    chosen_by: tuple[str, ...] = ()
    evaluations: dict[tuple[str, TokenIds], EvaluationRecord] = field(default_factory=dict)
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
) -> Ending:
    """Choose by dev accuracy where the config says so, then measure the start and the chosen prompt on every split.

    ``searched`` is the task model's cost of the search so far. ``lines`` and ``check`` are those of
    ``evaluation.evaluate``; ``on_rows`` gets the split and the prompt's role too.
    """
    settings, selects_by = parts.config.evaluation, parts.method.selects_by
    ranked = [ids for _, ids in state.best[: settings.dev_select_top]]
    finalists = ranked or [state.result]
    ending = Ending(finalists[0], searched)

    def measure(split: str, prompt: TokenIds, which: str) -> Usage:
        if (split, prompt) in ending.evaluations or not (rows := rows_of(parts.task, split)):
            return Usage()
        ending.evaluations[split, prompt], usage = evaluate(
            parts.task,
            parts.model,
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
        scored = [p for p in finalists if ("dev", p) in ending.evaluations]
        ending.best = max(scored, key=lambda p: ending.evaluations["dev", p].accuracy, default=ending.best)
        chosen_by += ["dev"] if scored else []
    for split in settings.splits:
        ending.usage += measure(split, initial, "before") + measure(split, ending.best, "after")
    ending.chosen_by = tuple(dict.fromkeys(chosen_by))
    return ending

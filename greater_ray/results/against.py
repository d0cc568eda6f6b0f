"""One method of a grid against all others, on the rows of the final evaluation: paired, over tasks and seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from greater_ray.errors import ConfigError, unknown_name
from greater_ray.results.cells import Results
from greater_ray.results.frames import Frame, answer_frame, cell_frame
from greater_ray.statistics.comparison import Compared, compare_over_tasks
from greater_ray.statistics.tables import ALPHA, holm

# By task: scores and losses of the label, each of shape (seeds, rows).
Tables = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
# The start prompt of the method in question stands in the tables under this name.
START = "(its start prompt)"


class Rival(NamedTuple):
    """What the method in question is compared with; differences are the method's minus this one's.

    Attributes:
        name: the method's label.
        accuracy, loss: means over tasks, seeds and rows: share of right answers, and nats of the label.
        by_task: mean accuracy over seeds and rows, by task.
        scores, losses: the comparison of the means over tasks; None for the method itself, and of losses where a model
            tells none.
        p_value: of the scores, adjusted by Holm for all rivals; None for the method itself.
        tokens: median tokens of the task model in a search.
    """

    name: str
    accuracy: float
    loss: float
    by_task: dict[str, float]
    scores: Compared | None
    losses: Compared | None
    p_value: float | None
    tokens: int


class Against(NamedTuple):
    """A method, its rivals by falling accuracy, itself among them, and its own change by task.

    ``changes`` compares the found prompts with the start prompt, by task: scores, then losses of the label.
    """

    method: str
    split: str
    rivals: list[Rival]
    changes: dict[str, tuple[Compared, Compared | None]]


def against(results: Results, method: str, split: str = "test") -> Against:
    """Compare a method with every other one that has finished the same tasks of a grid with one model.

    Raises:
        ConfigError: there is no such method, none of its cells has finished, or there are several models.
    """
    names = list(dict.fromkeys(cell.labels["method"] for cell in results.cells))
    if method not in names:
        raise unknown_name("method", method, names)
    searches = cell_frame(results).drop_duplicates("trial_id")
    return compare(answer_frame(results), searches.groupby("method")["search_tokens"].median(), method, split)


def compare(answers: Frame, spent: Mapping[str, float], method: str, split: str = "test") -> Against:
    """Compare a method with the others in a frame of answers; ``spent`` is what a search cost in tokens, by method.

    Raises:
        ConfigError: there is no answer of the method, or there are several models.
    """
    # Prompts that were carried over to another model are no search of their own.
    answers = answers[(answers["split"] == split) & answers["source"].isna()]
    if len(models := list(dict.fromkeys(answers["model"]))) > 1:
        why = f"methods are compared on one model, and there are {', '.join(models)}."
        raise ConfigError(why, setting="model", value=models)
    own = answers[answers["method"] == method]
    if own.empty:
        raise ConfigError(f"no cell of '{method}' has finished on the {split} rows.", setting="method", value=method)
    names = list(dict.fromkeys(answers["method"]))
    tasks = list(dict.fromkeys(own["task"]))
    found = {name: _tables(answers[answers["method"] == name], ("after", "both"), tasks) for name in names}
    found[START] = _tables(own, ("before", "both"), tasks)
    complete = {name: tables for name, tables in found.items() if set(tables) == set(tasks)}
    mine = complete[method]
    rivals = [name for name in complete if name != method]
    compared = {name: _compared(complete[name], mine, tasks) for name in rivals}
    adjusted = dict(zip(rivals, holm([compared[name][0].p_value for name in rivals]), strict=True))
    rows = []
    for name, tables in complete.items():
        scores, losses = compared.get(name, (None, None))
        accuracy, loss = (_mean(tables[task][k] for task in tasks) for k in (0, 1))
        by_task = {task: float(np.mean(tables[task][0])) for task in tasks}
        tokens = int(spent.get(name, 0))
        rows.append(Rival(name, accuracy, loss, by_task, scores, losses, adjusted.get(name), tokens))
    changes = {task: _compared(complete[START], mine, [task]) for task in tasks}
    return Against(method, split, sorted(rows, key=lambda row: -row.accuracy), changes)


def _compared(before: Tables, after: Tables, tasks: Sequence[str]) -> tuple[Compared, Compared | None]:
    """Compare scores, and losses where the model tells them."""
    scores, losses = (([before[t][k] for t in tasks], [after[t][k] for t in tasks]) for k in (0, 1))
    known = all(np.isfinite(table).all() for side in losses for table in side)
    return compare_over_tasks(*scores), compare_over_tasks(*losses) if known else None


def _tables(answers: Frame, when: tuple[str, ...], tasks: Iterable[str]) -> Tables:
    """Return scores and losses of shape (seeds, rows) by task, rows in one order."""
    tables: Tables = {}
    for task in tasks:
        own = answers[(answers["task"] == task) & answers["when"].isin(when)]
        if not own.empty:
            scores, losses = (
                own.pivot(index="seed", columns="row", values=name).sort_index(axis=1).to_numpy(float, na_value=np.nan)
                for name in ("score", "label_ce")
            )
            tables[task] = scores, losses
    return tables


def _mean(tables: Iterable[NDArray[np.float64]]) -> float:
    return float(np.mean([table.mean() for table in tables]))


def markdown(found: Against) -> str:
    """Return the comparison as two tables with a sentence on how to read them."""
    own = next(row for row in found.rivals if row.name == found.method)
    tasks = [task.partition("/")[2] or task for task in own.by_task]
    lines = [
        f"| method | accuracy | {' | '.join(tasks)} | {found.method} is ahead by | p (Holm) | label loss | tokens |",
        f"| --- | ---: | {'---: | ' * len(tasks)}--- | ---: | ---: | ---: |",
    ]
    for row in found.rivals:
        ahead = "" if row.scores is None else _points(row.scores)
        p_value = "" if row.p_value is None else f"{row.p_value:.2g}{' *' if row.p_value < ALPHA else ''}"
        means = " | ".join(f"{100 * value:.1f}" for value in row.by_task.values())
        tokens = "" if row.name == START else f"{row.tokens:,}"
        loss = "" if math.isnan(row.loss) else f"{row.loss:.3f}"
        lines.append(f"| {row.name} | {100 * row.accuracy:.1f} % | {means} | {ahead} | {p_value} | {loss} | {tokens} |")
    lines += [
        "",
        "| task | points ahead of the start | p | change of the label's loss | p |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for task, (scores, losses) in found.changes.items():
        change, p_value = "", ""
        if losses is not None:
            change = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*losses.difference)
            p_value = f"{losses.p_value:.2g}"
        lines.append(f"| {task} | {_points(scores)} | {scores.p_value:.2g} | {change} | {p_value} |")
    seeds = min(scores.seeds[1] for scores, _ in found.changes.values())
    lines += [
        "",
        f"{found.split.capitalize()} rows, {seeds} seeds. Means over tasks of equal weight, seeds and rows. "
        "Differences in points with 95 % intervals: rows paired, rows and seeds random, tasks fixed. The p-values of "
        f"the first table are adjusted by Holm, * below {ALPHA}. Tokens: of the task model in a search, median.",
    ]
    return "\n".join(lines) + "\n"


def _points(compared: Compared) -> str:
    estimate, low, high = (100 * value for value in compared.difference)
    return f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"

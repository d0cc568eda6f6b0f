"""What a grid will cost, from a short probe: one step and a few answers per method and model, scaled by rows and steps.

An order of magnitude, not a promise: rows of other tasks are longer or shorter, and small batches are slower per row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from greater_ray.api import Models, run_config
from greater_ray.config import TrialConfig
from greater_ray.errors import GreaterRayError
from greater_ray.grid.cells import Cell

PROBE_ROWS = 4
# The plan of a grid needs numbers of rows, and those of a task are the same for all its cells.
_Sizes = tuple[int, int, int]


class Estimate(NamedTuple):
    """Cost of one cell on one replica; ``note`` says why there is none."""

    tokens: float
    seconds: float
    note: str | None = None


def estimate(cells: Sequence[Cell], models: Models) -> list[Estimate]:
    """Return one estimate per cell; a model is loaded and probed once per method.

    A limit of the ledger in the budget bounds the search.
    """
    probes: dict[tuple[str, str], Any] = {}
    sizes: dict[str, _Sizes] = {}
    result = []
    for cell in cells:
        key = (cell.method, cell.config.model.model_dump_json())
        if key not in probes:
            try:
                probes[key] = run_config(_probe(cell.config), models=models)
            except GreaterRayError as error:
                probes[key] = error
        probe = probes[key]
        if isinstance(probe, GreaterRayError):
            result.append(Estimate(0, 0, str(probe)))
            continue
        result.append(_scaled(cell.config, probe, sizes))
    return result


def _probe(config: TrialConfig) -> TrialConfig:
    few = dict.fromkeys(("train_size", "dev_size", "test_size"), PROBE_ROWS)
    return config.model_copy(
        update={
            "task": config.task.model_copy(update=few),
            "budget": config.budget.model_copy(update={"steps": min(1, config.budget.steps or 1)}),
            "evaluation": config.evaluation.model_copy(update={"splits": ("test",), "dev_select_top": 0}),
        }
    )


def _scaled(config: TrialConfig, probe: Any, sizes: dict[str, _Sizes]) -> Estimate:
    train, dev, test = _rows(config, sizes)
    budget = config.budget
    rows = {"train": train, "dev": dev, "test": test}
    search, final = probe.optimization_usage, probe.evaluation_usage
    steps = 0 if not probe.steps else budget.steps if budget.steps is not None else 10**9
    factor = steps * (train + dev) / (2 * PROBE_ROWS)
    for limit, spent in ((budget.tokens, search.tokens), (budget.seconds, search.seconds)):
        if limit is not None and spent:
            factor = min(factor, limit / spent)
    prompts = 1 if not probe.steps else 2
    probed = sum(e.num_examples for e in probe.evaluations)
    answers = prompts * sum(rows[split] for split in config.evaluation.splits) / max(1, probed)
    return Estimate(
        search.tokens * factor + final.tokens * answers,
        search.seconds * factor + final.seconds * answers,
    )


def _rows(config: TrialConfig, sizes: dict[str, _Sizes]) -> _Sizes:
    from greater_ray.tasks._registry import load_task

    key = config.task.model_dump_json()
    if key not in sizes:
        task = load_task(config.task)
        sizes[key] = len(task.train()), len(task.dev()), len(task.test())
    return sizes[key]

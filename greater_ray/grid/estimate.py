"""What a grid will cost, from a short probe: one step and a few answers per method and model, scaled by rows and steps.

An order of magnitude, not a promise: rows of other tasks are longer or shorter, and small batches are slower per row.
For GReaTer the probe tells only how long questions, prompts and reasoning are, and the cost model (``prediction``) how
long that takes in batches of the cell's own size, where model and machine are known to it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from greater_ray.assembly import Models, load_method
from greater_ray.config import Budget, GivenDemonstration, ModelConfig, TrialConfig
from greater_ray.demonstrations import evaluation_demonstrations
from greater_ray.errors import ConfigError, GreaterRayError
from greater_ray.grid.cells import Cell
from greater_ray.ledger import spent_by_limit
from greater_ray.prediction import Known, Load, per_row, predict
from greater_ray.records import TrialRecord
from greater_ray.runs import run_config
from greater_ray.trial import steps_at_most

PROBE_ROWS = 4


class Rows(NamedTuple):
    """Numbers of rows of a task's splits."""

    train: int
    dev: int
    test: int


class Estimate(NamedTuple):
    """Cost of one cell on one replica, the model that writes included; ``note`` says why there is none."""

    tokens: float
    seconds: float
    note: str | None = None
    by_model: bool = False


# From a model and the seconds that a cell takes by the probe to what the cost model needs, where it is known.
Knows = Callable[[ModelConfig, float], Known | None]


def estimate(cells: Sequence[Cell], models: Models, knows: Knows = lambda *_: None) -> list[Estimate]:
    """Return one estimate per cell; a model is loaded once, and probed once per method and settings.

    The search is bounded by a limit of the ledger in the budget, and where a method ends by itself. Where ``knows``
    tells what the cost model needs, seconds are the cost model's (``by_model``).
    """
    probes: dict[str, TrialRecord | GreaterRayError] = {}
    sizes: dict[str, Rows] = {}
    result = []
    for cell in cells:
        rows = _rows(cell.config, sizes)
        try:
            config = _probe(cell.config, rows)
        except ConfigError as error:
            result.append(Estimate(0, 0, str(error)))
            continue
        # Cells that differ only in their task's name or seed share a probe, whichever rows are shown.
        unlike: Any = {"task": {"name"}, "seed": True, "budget": True, "evaluation": {"demonstrations"}}
        key = config.model_dump_json(exclude=unlike) + repr(cell.config.evaluation.demonstrations)
        if key not in probes:
            try:
                probes[key] = run_config(config, models=models)
            except GreaterRayError as error:
                probes[key] = error
        probe = probes[key]
        result.append(
            Estimate(0, 0, str(probe)) if isinstance(probe, GreaterRayError) else _best(cell.config, probe, rows, knows)
        )
    return result


def _probe(config: TrialConfig, rows: Rows) -> TrialConfig:
    """Return one step on few rows, with as many dev rows to a training row as the cell has."""
    few = {
        "train_size": min(PROBE_ROWS, rows.train),
        "dev_size": round(PROBE_ROWS * rows.dev / rows.train),
        "test_size": PROBE_ROWS,
    }
    return config.model_copy(
        update={
            "task": config.task.model_copy(update=few),
            "budget": Budget(steps=min(1, config.budget.steps if config.budget.steps is not None else 1)),
            "evaluation": config.evaluation.model_copy(
                update={"splits": ("test",), "dev_select_top": 0, "demonstrations": _shown(config)}
            ),
        }
    )


def _shown(config: TrialConfig) -> int | tuple[GivenDemonstration, ...]:
    """Return the cell's own demonstrations: few rows may be fewer than are to be drawn, and their length counts."""
    from greater_ray.tasks import load_task

    if config.evaluation.demonstrations == 0 and not config.evaluation.nearest:
        return 0
    shown = evaluation_demonstrations(config, load_task(config.task))
    return tuple(GivenDemonstration(question=d.question, answer=d.label, rationale=d.rationale) for d in shown.rows)


def _load(config: TrialConfig, probe: TrialRecord, rows: Rows) -> Load | None:
    """Return what a step of a cell computes, with the lengths of a probe; None where formulas do not count it.

    That is, for methods but GReaTer, for demonstrations (which many rows share) and for labels that are compared.
    """
    final = probe.evaluation_usage
    method = config.method_config
    plain = config.evaluation.demonstrations == 0 and not config.evaluation.nearest
    if config.method != "greater" or not plain or method.get("label_loss", "ce") != "ce" or not final.calls:
        return None
    prompt = len(probe.initial.ids)
    told = [example.reasoning_tokens for evaluation in probe.evaluations for example in evaluation.examples]
    reasoning = max(1, round(sum(told) / max(1, len(told))))
    read = round(final.prefill_tokens / final.calls)
    scored = max(2, round(final.scored_tokens / final.calls))
    return Load(
        rows=rows.train,
        question=round(final.prefix_tokens / final.calls),
        prompt=prompt,
        reasoning=reasoning,
        candidates=int(method.get("num_evaluated", 3)),
        shard_size=config.shard_size,
        suffix=max(0, read - 1 - prompt),
        extractor=scored - 1,
        label=1,
        answer=max(1, round(final.generated_tokens / final.calls) - reasoning),
    )


def _best(config: TrialConfig, probe: TrialRecord, rows: Rows, knows: Knows) -> Estimate:
    """Return an estimate by the cost model, or where that does not apply, by scaling."""
    scaled, load = _scaled(config, probe, rows), _load(config, probe, rows)
    known = knows(config.model, scaled.seconds) if load is not None and scaled.note is None else None
    if load is None or known is None:
        return scaled
    said = predict(known.shape, known.hardware, load)
    answer, _ = per_row(known.shape, known.hardware, load)
    once = said.questions + said.reasoning if config.budget.steps != 0 else 0.0
    found = _scaled(config, probe, rows, said.step, answer)
    return found._replace(seconds=once + found.seconds, by_model=True)


def _scaled(
    config: TrialConfig, probe: TrialRecord, rows: Rows, step: float | None = None, answer: float | None = None
) -> Estimate:
    """Scale a probe's step by training rows and steps, and its final evaluation by evaluated rows, finalists' included.

    What is asked of the writer in a step hardly grows with the rows. ``step`` and ``answer`` are seconds of a step and
    of an answered row, where another than the probe knows them.
    """
    search, writer, final = probe.optimization_usage, probe.optimizer_usage, probe.evaluation_usage
    times = rows.train / min(PROBE_ROWS, rows.train)
    tokens, seconds = search.tokens * times + writer.tokens, search.seconds * times + writer.seconds
    if step is not None:
        seconds = step + writer.seconds
    spent = {
        name: value if name.startswith("optimizer_") else value * times
        for name, value in spent_by_limit(search, writer, 0).items()
    } | {"seconds": seconds}
    most = steps_at_most(config.budget, *load_method(config), rows.train)
    bounds = [float(most)] if most is not None else []
    limits = {name: getattr(config.budget, name) for name in spent}
    bounds += [limits[name] / value for name, value in spent.items() if value and limits[name] is not None]
    if probe.steps and not bounds:
        return Estimate(0, 0, "only patience ends its search")
    steps = min(bounds) if probe.steps else 0
    prompts = 2 if probe.steps else len({(e.prompt_ids, e.demonstrations) for e in probe.evaluations})
    probed = sum(e.num_examples for e in probe.evaluations)
    answered = prompts * sum(getattr(rows, split) for split in config.evaluation.splits)
    if probe.steps and config.evaluation.dev_select_top > 1:
        answered += config.evaluation.dev_select_top * rows.dev
    answers = answered / max(1, probed)
    answering = final.seconds * answers if answer is None else answer * answered
    return Estimate(tokens * steps + final.tokens * answers, seconds * steps + answering)


def _rows(config: TrialConfig, sizes: dict[str, Rows]) -> Rows:
    from greater_ray.tasks import load_task

    key = config.task.model_dump_json()
    if key not in sizes:
        task = load_task(config.task)
        sizes[key] = Rows(len(task.train()), len(task.dev()), len(task.test()))
    return sizes[key]

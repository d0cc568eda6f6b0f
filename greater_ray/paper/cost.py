"""What is missing will cost: by a probe with the models themselves (``grid.estimate``), or supposed from counts.

Hours of this machine are the cost model's (``prediction``), for the same counts.

Counted is how many rows one step of a method gives to the task model for every training row, how many of them
backwards, and how many texts it asks of the writer (``costs.yaml``, measured by ``benchmarks/paper_costs.py`` at the
settings of every scale). What a row and a text take is supposed (``settings.yaml``).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from greater_ray.assembly import load_method
from greater_ray.config import Config, ModelConfig, TrialConfig, parse
from greater_ray.grid.cells import Cell
from greater_ray.grid.estimate import Estimate, Rows
from greater_ray.paper.catalog import scale, shared
from greater_ray.prediction import Known, Load, per_row
from greater_ray.trial import steps_at_most

SMALL = 0.135  # billions of parameters of a model that nobody has told the size of: the built-in one


_ENDPOINT = "openai/"
_PROMPT = 8  # tokens, of those that are read


def is_endpoint(model: ModelConfig) -> bool:
    """Tell whether others compute a model."""
    return model.name.startswith(_ENDPOINT)


class Counts(Config):
    """Of one step of a method: rows given to the task model and rows differentiated, both per training row; texts.

    ``written`` tells that the search lets the task model write.
    """

    rows: float
    backward: float = 0.0
    texts: float = 0.0
    written: bool = True


class Total(NamedTuple):
    """Cost of some cells: tokens, hours of one GPU (or of one replica where probed), and cells without an estimate."""

    tokens: float
    hours: float
    unknown: int


@cache
def counts(size: str) -> dict[str, Counts]:
    """Return the counts of every method that has some at a scale, by its own name."""
    text = files("greater_ray.paper").joinpath("costs.yaml").read_text(encoding="utf-8")
    return {name: parse(Counts, value) for name, value in yaml.safe_load(text)[size].items()}


def rows_of(config: TrialConfig) -> Rows:
    """Return how many rows a task has at most, without reading them: configured sizes, else what is known of it."""
    known = shared().rows
    family = config.task.split or config.task.name.partition("/")[0]
    train, dev, test = known.get(family, known["default"])
    task = config.task
    sizes = (
        task.train_size if task.train_size is not None else train,
        task.dev_size if task.dev_size is not None else dev,
        task.test_size if task.test_size is not None else test,
    )
    return Rows(*sizes)


def supposed(cell: Cell, size: str) -> Estimate:
    """Return what a cell of a scale costs, by counts; ``note`` says why that is not known."""
    work, given = counted(cell, size), scale(size).supposed
    if isinstance(work, str):
        return Estimate(0, 0, work)
    config = cell.config
    answers, scored, backward, texts = work
    parameters, writer = _billions(config.model.name), _billions((config.optimizer_model or config.model).name)
    written = min(given.written_tokens, config.decoding.max_reasoning_tokens)
    read = given.answer_tokens - given.written_tokens
    tokens = (answers + backward) * (read + written) + scored * read + texts * given.writer_tokens
    seconds = parameters * ((answers + scored) * read + 3 * backward * (read + written)) / given.read_per_second
    seconds += writer * texts * (given.writer_tokens - given.writer_written_tokens) / given.read_per_second
    seconds += parameters * answers * written / given.written_per_second
    seconds += writer * texts * given.writer_written_tokens / given.written_per_second
    return Estimate(tokens, seconds)


def here(cell: Cell, size: str, known: Callable[[ModelConfig], Known | str]) -> float | str:
    """Return the seconds that a cell takes on this machine, by the cost model with the same counts; or what lacks.

    ``known`` tells sizes and rates for a model, or what lacks. What an endpoint computes takes no time of ours.
    """
    work, given = counted(cell, size), scale(size).supposed
    if isinstance(work, str):
        return work
    config = cell.config
    answers, scored, backward, texts = work
    written = min(given.written_tokens, config.decoding.max_reasoning_tokens)
    row = Load(
        rows=config.shard_size,
        question=given.answer_tokens - given.written_tokens - _PROMPT,
        prompt=_PROMPT,
        reasoning=max(1, written),
        candidates=1,
        shard_size=config.shard_size,
    )
    text = Load(
        rows=1,
        question=given.writer_tokens - given.writer_written_tokens,
        prompt=0,
        reasoning=given.writer_written_tokens,
        candidates=1,
    )
    seconds = 0.0
    if not is_endpoint(config.model):
        found = known(config.model)
        if isinstance(found, str):
            return found
        answer, gradient = per_row(*found, row)
        score, _ = per_row(*found, replace(row, reasoning=1, answer=0))
        seconds += answers * answer + backward * gradient + scored * score
    writer = config.optimizer_model or config.model
    if texts and not is_endpoint(writer):
        found = known(writer)
        if isinstance(found, str):
            return found
        seconds += texts * per_row(*found, text)[0]
    return seconds


class Counted(NamedTuple):
    """What a cell computes: rows that are answered, scored only, and differentiated, and texts of the writer."""

    answers: float
    scored: float
    backward: float
    texts: float


def counted(cell: Cell, size: str) -> Counted | str:
    """Return how much a cell of a scale computes, or why that is not known."""
    config, rows = cell.config, rows_of(cell.config)
    measured = rows.test * sum(split == "test" for split in config.evaluation.splits)
    prompts = 1 if config.method in ("fixed", "zero-shot-cot") and not config.method_config.get("reference") else 2
    answers, scored = float(measured * prompts), 0.0
    if config.evaluation.dev_select_top > 1:
        answers += config.evaluation.dev_select_top * rows.dev
    backward = texts = 0.0
    if config.method not in ("fixed", "zero-shot-cot"):
        known = counts(size).get(config.method)
        steps = steps_at_most(config.budget, *load_method(config), rows.train)
        if known is None or steps is None:
            return "its steps are not known" if known else "its counts are not known"
        searched = known.rows * rows.train * steps
        answers, scored = (answers + searched, 0.0) if known.written else (answers, searched)
        backward, texts = known.backward * rows.train * steps, known.texts * steps
    return Counted(answers, scored, backward, texts)


def transferred(cell: Cell) -> Cell:
    """Return a cell that costs what it does to measure the prompt that a cell finds, and the one it began with.

    The target is as large as the source to this estimate.
    """
    measuring = {"method": "fixed", "method_config": {"prompt": "-", "reference": "-"}}
    return replace(cell, config=cell.config.model_copy(update=measuring))


def total(estimates: Sequence[Estimate]) -> Total:
    """Return the sum of some estimates."""
    known = [found for found in estimates if found.note is None]
    return Total(
        sum(found.tokens for found in known),
        sum(found.seconds for found in known) / 3600,
        len(estimates) - len(known),
    )


def _billions(name: str) -> float:
    """Return the size of a model; 0 for an endpoint, whose hours are others'."""
    if name.startswith(_ENDPOINT):
        return 0.0
    return next(
        (float(m["billions"]) for m in shared().models.values() if m["name"] == name and "billions" in m), SMALL
    )

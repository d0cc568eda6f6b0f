"""Worked examples in front of the question, as turns: which ones, for which prompt, and how many of them fit."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from greater_ray.config import TrialConfig, given
from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.sharding import ShardedModel
from greater_ray.types import Demonstration, Example, TokenIds
from greater_ray.work import CheckPrompts, EncodePrompt, PromptRoom


def evaluation_demonstrations(config: TrialConfig, task: Task) -> tuple[Demonstration, ...]:
    """Return what ``evaluation.demonstrations`` asks for: training rows drawn by the trial's seed, or those given.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn.
    """
    wanted = config.evaluation.demonstrations
    if not isinstance(wanted, int):
        return given(wanted)
    rows = task.train() if wanted else []
    if wanted > len(rows):
        why = f"{wanted} training rows cannot be drawn from {len(rows)}."
        raise ConfigError(why, setting="evaluation.demonstrations", value=wanted)
    return tuple(row.shown for row in random.Random(f"{config.seed}:demonstrations").sample(rows, wanted))


def refuse_unusable(config: TrialConfig, task: Task, model: ShardedModel) -> None:
    """Tell before the search what would only show behind it.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn.
        DataError: a demonstration contains chat markup of this model.
    """
    showing(model, evaluation_demonstrations(config, task), ()).ask(EncodePrompt(" "))


def showing(model: ShardedModel, shown: Sequence[Demonstration], prompt: TokenIds) -> ShardedModel:
    """Return the model that sees demonstrations, each asked under ``prompt``; without any the very same model."""
    if not shown:
        return model
    assert model.layout is not None
    (check,) = model.ask(CheckPrompts([prompt]))
    layout = replace(model.layout, demonstrations=tuple(shown), demonstrated=check.text)
    return ShardedModel(model.executor, layout, model.shard_size)


def fitting(
    model: ShardedModel,
    shown: Sequence[Demonstration],
    prompts: Collection[TokenIds],
    rows: Sequence[Example],
    message: Callable[[str], None] = lambda text: None,
) -> tuple[Demonstration, ...]:
    """Return the first demonstrations that fit the context window under every prompt on every row.

    The last one is left out first, and ``message`` is told.
    """

    def fits(prompt: TokenIds, some: Sequence[Demonstration]) -> bool:
        room = showing(model, some, prompt).ask(PromptRoom(rows))
        return room is None or len(prompt) <= room

    left = tuple(shown)
    while left and rows and not all(fits(prompt, left) for prompt in dict.fromkeys(prompts)):
        message(f"demonstration '{left[-1].id}' is left out: with it, a row does not fit the model's context window")
        left = left[:-1]
    return left

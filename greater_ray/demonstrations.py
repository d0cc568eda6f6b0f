"""Worked examples in front of the question, as turns: which ones, for which prompt, and how many of them fit."""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from greater_ray.config import TrialConfig, given
from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.sharding import ShardedModel
from greater_ray.types import Example, Shown, TokenIds
from greater_ray.work import CheckPrompts, EncodePrompt, PromptRoom


def evaluation_demonstrations(config: TrialConfig, task: Task) -> Shown:
    """Return what ``evaluation.demonstrations`` asks for: training rows drawn by the trial's seed, or those given.

    With ``evaluation.nearest`` they are a pool; where none are asked for, all training rows are.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn.
    """
    wanted, nearest = config.evaluation.demonstrations, config.evaluation.nearest
    if not isinstance(wanted, int):
        return Shown(given(wanted), nearest)
    rows = task.train() if wanted or nearest else []
    if nearest and not wanted:
        return Shown(tuple(row.shown for row in rows), nearest)
    if wanted > len(rows):
        why = f"{wanted} training rows cannot be drawn from {len(rows)}."
        raise ConfigError(why, setting="evaluation.demonstrations", value=wanted)
    drawn = random.Random(f"{config.seed}:demonstrations").sample(rows, wanted)
    return Shown(tuple(row.shown for row in drawn), nearest)


def refuse_unusable(config: TrialConfig, task: Task, model: ShardedModel) -> None:
    """Tell before the search what would only show behind it.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn.
        DataError: a demonstration contains chat markup of this model.
    """
    showing(model, evaluation_demonstrations(config, task), ()).ask(EncodePrompt(" "))


def showing(model: ShardedModel, shown: Shown, prompt: TokenIds) -> ShardedModel:
    """Return the model that sees demonstrations, each asked under ``prompt``; without any the very same model."""
    if not shown:
        return model
    assert model.layout is not None
    (check,) = model.ask(CheckPrompts([prompt]))
    layout = replace(model.layout, demonstrations=shown.rows, nearest=shown.nearest, demonstrated=check.text)
    return ShardedModel(model.executor, layout, model.shard_size)


def fitting(
    model: ShardedModel,
    shown: Shown,
    prompts: Collection[TokenIds],
    rows: Sequence[Example],
    message: Callable[[str], None] = lambda text: None,
) -> Shown:
    """Return the first demonstrations that fit the context window under every prompt on every row.

    The last one is left out first, of those that are chosen by the question the farthest. ``message`` is told.
    """

    def fits(prompt: TokenIds, some: Shown) -> bool:
        room = showing(model, some, prompt).ask(PromptRoom(rows))
        return room is None or len(prompt) <= room

    left = shown
    while left and rows and not all(fits(prompt, left) for prompt in dict.fromkeys(prompts)):
        farthest = f"the farthest of the {left.count} nearest demonstrations"
        which = farthest if left.nearest else f"demonstration '{left.rows[-1].id}'"
        message(f"{which} is left out: with it, a row does not fit the model's context window")
        left = left.fewer()
    return left

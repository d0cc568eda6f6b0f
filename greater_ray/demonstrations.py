"""Worked examples in front of the question, as turns: which ones, for which prompt, and how many of them fit."""

import random
from collections.abc import Callable, Collection, Sequence

from greater_ray.config import TrialConfig, given
from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.sharding import ShardedModel
from greater_ray.types import Demonstration, Example, Shown, TokenIds
from greater_ray.work import EncodePrompt, PromptRoom


def evaluation_demonstrations(config: TrialConfig, task: Task) -> Shown:
    """Return what ``evaluation.demonstrations`` asks for: training rows drawn by the trial's seed, or those given.

    With ``evaluation.nearest`` they are a pool; where none are asked for, all training rows are.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn, or demonstrations than are to be chosen.
    """
    shown, nearest = _asked_for(config, task), config.evaluation.nearest
    if nearest > len(shown):
        why = f"{nearest} cannot be chosen from {len(shown)} demonstrations."
        raise ConfigError(why, setting="evaluation.nearest", value=nearest)
    return Shown(shown, nearest)


def _asked_for(config: TrialConfig, task: Task) -> tuple[Demonstration, ...]:
    wanted = config.evaluation.demonstrations
    if not isinstance(wanted, int):
        return given(wanted)
    if not wanted:
        return tuple(row.shown for row in task.train()) if config.evaluation.nearest else ()
    rows = task.train()
    if wanted > len(rows):
        why = f"{wanted} training rows cannot be drawn from {len(rows)}."
        raise ConfigError(why, setting="evaluation.demonstrations", value=wanted)
    return tuple(row.shown for row in random.Random(f"{config.seed}:demonstrations").sample(rows, wanted))


def refuse_unusable(config: TrialConfig, task: Task, model: ShardedModel) -> None:
    """Tell before the search what would only show behind it.

    Raises:
        ConfigError: there are fewer training rows than are to be drawn, or demonstrations than are to be chosen.
        DataError: a demonstration contains chat markup of this model.
    """
    model.showing(evaluation_demonstrations(config, task), ()).ask(EncodePrompt(" "))


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
        room = model.showing(some, prompt).ask(PromptRoom(rows))
        return room is None or len(prompt) <= room

    left = shown
    while left and rows and not all(fits(prompt, left) for prompt in dict.fromkeys(prompts)):
        farthest = f"the farthest of the {left.count} nearest demonstrations"
        which = farthest if left.nearest else f"demonstration '{left.rows[-1].id}'"
        message(f"{which} is left out: with it, a row does not fit the model's context window")
        left = left.fewer()
    return left

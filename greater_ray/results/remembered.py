"""Loss and hits of prompts on training rows, from what a search has remembered: one measure for all methods.

A method's own criterion is no such measure: GReaTer's holds a term of fluency, that of most others is a share of
mistakes.
"""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from greater_ray.files import Lines
from greater_ray.types import Rollout, TokenIds
from greater_ray.work.memory import ANSWERS, ROLLOUTS

# Larger files are not read: a report or a picture is to be made in seconds.
LARGEST_FILE = 256 * 2**20
# How a line of remembered results begins: with the prompt that they are of.
_BEGINNING = b'{"key": ['


class OnRows(NamedTuple):
    """A prompt on so many training rows.

    ``loss`` is the mean cross-entropy of the label (nats), ``hits`` the share of rows whose label is the likeliest
    text, token by token; None where a model does not tell.
    """

    rows: int
    loss: float | None
    hits: float | None


def on_training_rows(folder: Path, prompts: Iterable[TokenIds]) -> dict[TokenIds, OnRows]:
    """Return what a run folder remembers of these prompts without demonstrations, each with its own reasoning.

    A prompt that was scored on fewer rows than another cannot be compared with it and is left out.

    Raises:
        StoreError: a line is broken; with file and line.
    """
    wanted = set(prompts)
    # By kind and by rows: what is remembered under two settings of the loss counts once.
    found: dict[TokenIds, dict[str, dict[str, Sequence[Rollout]]]] = defaultdict(lambda: defaultdict(dict))
    for kind, prompt, rows, rollouts in _remembered(folder, wanted):
        if prompt in wanted:
            found[prompt][kind].setdefault(rows, rollouts)
    counted = {prompt: _on_rows(kinds.values()) for prompt, kinds in found.items()}
    most = max((measured.rows for measured in counted.values()), default=0)
    return {prompt: measured for prompt, measured in counted.items() if measured.rows == most}


def too_large(folder: Path) -> bool:
    """Tell whether a file of remembered results is too large to be read."""
    return any(_size(folder, kept.name) > LARGEST_FILE for kept in (ROLLOUTS, ANSWERS))


def _size(folder: Path, name: str) -> int:
    path = folder / f"{name}.jsonl"
    return path.stat().st_size if path.exists() else 0


def _remembered(folder: Path, prompts: Collection[TokenIds]) -> Iterator[tuple[str, TokenIds, str, Sequence[Rollout]]]:
    """Return what is remembered, of these prompts at least: kind, prompt, rows or row, and rollouts."""
    written = {json.dumps(prompt).encode() for prompt in prompts}

    def wanted(line: bytes) -> bool:
        """Tell it from the first bytes: most lines are of candidates that were not taken, with all their reasoning."""
        if not line.startswith(_BEGINNING):
            return True
        return line[len(_BEGINNING) : line.find(b"]") + 1] in written

    if _size(folder, ROLLOUTS.name) <= LARGEST_FILE:
        for context, (shard_key, rollouts) in Lines(folder / f"{ROLLOUTS.name}.jsonl").read_as(ROLLOUTS.read, wanted):
            if shard_key.reasoning_of is None and not context:
                yield ROLLOUTS.name, shard_key.prompt, shard_key.shard, rollouts
    if _size(folder, ANSWERS.name) <= LARGEST_FILE:
        for context, (row_key, answer) in Lines(folder / f"{ANSWERS.name}.jsonl").read_as(ANSWERS.read, wanted):
            if not context:
                yield ANSWERS.name, row_key.prompt, row_key.row, [answer.rollout]


def _on_rows(kinds: Iterable[dict[str, Sequence[Rollout]]]) -> OnRows:
    # Rollouts and answers of a prompt are of the same rows: the kind that has more of them tells more.
    rollouts = max(([r for part in kind.values() for r in part] for kind in kinds), key=len)
    losses = [r.label_ce for r in rollouts if r.label_ce is not None]
    hits = [r.label_hit for r in rollouts if r.label_hit is not None]
    num = len(rollouts)
    return OnRows(
        num,
        math.fsum(losses) / num if num and len(losses) == num else None,
        sum(hits) / num if num and len(hits) == num else None,
    )

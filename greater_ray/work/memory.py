"""Results that are kept, so that nothing is computed twice. They belong to the checkpoint of a run."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from greater_ray.config import fingerprint
from greater_ray.types import Answer, Example, Rollout, Shard, TokenIds

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Kept(Generic[KeyT, ValueT]):
    """One kind of results that are kept: the name of their file in a run folder, and a line of it from and to JSON."""

    name: str
    to_json: Callable[[KeyT, ValueT], dict[str, Any]]
    from_json: Callable[[Mapping[str, Any]], tuple[KeyT, ValueT]]

    def read(self, line: Mapping[str, Any]) -> tuple[str, tuple[KeyT, ValueT]]:
        """Return the part of the memory that a saved line belongs to, and its key and value."""
        return str(line.get("context", "")), self.from_json(line)


class Memory:
    """What is known of every kept kind; ``fresh`` tells what is not yet saved.

    Results under other demonstrations are kept apart: ``within`` gives their part of the same memory, by a name.
    """

    def __init__(self) -> None:
        self.context = ""
        self._known: dict[tuple[str, str], dict[Any, Any]] = {}
        self._fresh: dict[str, list[tuple[str, Any, Any]]] = {}
        # Tokens that fit beside given rows: asked of the model once, and not saved, since it costs nothing.
        self.rooms: dict[Shard, int | None] = {}

    def within(self, context: str) -> "Memory":
        """Return the part of this memory for results under other demonstrations, named by ``context``."""
        part = copy(self)
        part.context, part.rooms = context, {}
        return part

    def of(self, kept: Kept[KeyT, ValueT]) -> Mapping[KeyT, ValueT]:
        """Return all that is known of one kind, in the order in which it came."""
        return self._known.setdefault((kept.name, self.context), {})

    def add(self, kept: Kept[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
        """Remember a result that was just computed."""
        self._known.setdefault((kept.name, self.context), {})[key] = value
        self._fresh.setdefault(kept.name, []).append((self.context, key, value))

    def fresh(self, kept: Kept[Any, Any]) -> list[dict[str, Any]]:
        """Return the lines of all parts that are not yet saved; they count as saved from now on."""
        lines = self._fresh.pop(kept.name, [])
        return [kept.to_json(key, value) | ({"context": name} if name else {}) for name, key, value in lines]

    def restore(self, kept: Kept[KeyT, ValueT], lines: Iterable[tuple[str, tuple[KeyT, ValueT]]]) -> None:
        """Take saved results back: the name of the part, key and value of every line."""
        for context, (key, value) in lines:
            self._known.setdefault((kept.name, context), {})[key] = value


class RolloutKey(NamedTuple):
    """What a shard's rollouts depend on. ``reasoning_of`` is the prompt whose reasoning was taken over, if any.

    ``label_loss`` tells which label term was computed.
    """

    prompt: TokenIds
    shard: str
    ce_temperature: float
    reasoning_of: TokenIds | None
    label_loss: str = "ce"


class AnswerKey(NamedTuple):
    """What an answer depends on: the prompt and the row."""

    prompt: TokenIds
    row: str


def row_key(example: Example) -> str:
    """Identify a row by its content: changed rows never meet old results."""
    return fingerprint([example.id, example.question, example.label])


def shard_key(shard: Iterable[Example]) -> str:
    """Identify a shard by the content of its rows."""
    return fingerprint([[example.id, example.question, example.label] for example in shard])


def _rollout(value: Mapping[str, Any]) -> Rollout:
    return Rollout(**{**value, "reasoning": tuple(value["reasoning"])})


def _rollouts(line: Mapping[str, Any]) -> tuple[RolloutKey, list[Rollout]]:
    prompt, shard, temperature, reasoning_of, *label_loss = line["key"]  # version 0.1.0 knew one label term only
    taken_over = None if reasoning_of is None else tuple(reasoning_of)
    return RolloutKey(tuple(prompt), shard, temperature, taken_over, *label_loss), list(map(_rollout, line["rollouts"]))


def _answer(line: Mapping[str, Any]) -> tuple[AnswerKey, Answer]:
    prompt, row = line["key"]
    value = line["answer"]
    nlls = value.get("choice_nlls")
    rest = {"rollout": _rollout(value["rollout"]), "choice_nlls": None if nlls is None else tuple(nlls)}
    return AnswerKey(tuple(prompt), row), Answer(**{**value, **rest})


ROLLOUTS: Kept[RolloutKey, list[Rollout]] = Kept(
    "rollouts", lambda key, value: {"key": list(key), "rollouts": [asdict(r) for r in value]}, _rollouts
)
ANSWERS: Kept[AnswerKey, Answer] = Kept(
    "answers", lambda key, value: {"key": list(key), "answer": asdict(value)}, _answer
)
TEXT_EMBEDDINGS: Kept[str, list[float]] = Kept(
    "embeddings", lambda key, value: {"text": key, "embedding": value}, lambda line: (line["text"], line["embedding"])
)
# Every kind that is kept, in the order in which a checkpoint writes them.
KEPT: tuple[Kept[Any, Any], ...] = (ROLLOUTS, ANSWERS, TEXT_EMBEDDINGS)

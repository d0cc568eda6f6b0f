"""What all kinds of work share: how it is cut, carried and answered."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from greater_ray.config import fingerprint
from greater_ray.errors import UnsupportedError
from greater_ray.types import Example, Layout, Shard, Usage
from greater_ray.work.memory import Memory

LETTERS = 4  # of a token, roughly

ResultT = TypeVar("ResultT")
T = TypeVar("T")
P = ParamSpec("P")


class Asking(Protocol):
    """What a kind may use while it is cut into units and joined again: the model that it is asked of."""

    memory: Memory

    def shards(self, examples: Sequence[Example]) -> list[Shard]:
        """Cut rows into shards of the fixed size."""
        ...

    def ask(self, work: "Work[T]") -> T:
        """Have other work done first."""
        ...


@dataclass(frozen=True)
class Work(Generic[ResultT]):
    """Something that a model can be asked for, with the type of its result.

    The same class says all of the work, as an optimizer asks for it, and one unit of it: the part that one replica
    computes in one piece. A unit's result is a pure function of its fields and the layout.
    """

    kind: ClassVar[str] = "work"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """Name the kind for people."""
        return cls.kind.replace("_", " ")

    @property
    def shard(self) -> Shard:
        """The rows whose questions a unit reads; their prefixes are metered once. Empty for work without rows."""
        return ()

    def home(self, layout: Layout | None) -> str | None:
        """Name what the replica that ran a unit may still hold for the next one like it.

        None marks small work, which goes before all other.
        """
        if not self.shard or layout is None:
            return None
        around = [layout.joint, layout.frozen_prefix, layout.placement, layout.system, layout.thinking]
        shown = [layout.demonstrated, layout.nearest, layout.demonstrations]
        return fingerprint([*around, *shown, [example.question for example in self.shard]])

    def size(self, layout: Layout | None) -> int:
        """Guess how many tokens a unit may take: a measure for how long it may, by which nothing is counted."""
        if layout is None:
            return 1 + len(self.shard)
        room = layout.max_reasoning_tokens + layout.max_answer_tokens
        shown = layout.demonstrations[: layout.nearest or None]
        room += sum(len(d.question) + len(d.rationale or "") for d in shown) // LETTERS
        return 1 + sum(len(example.question) // LETTERS + room for example in self.shard)

    def units(self, model: Asking) -> list[Self]:
        """Return what is not known yet, cut for replicas: the same units, whoever computes them."""
        return [self]

    def remember(self, result: ResultT, memory: Memory) -> None:
        """Keep of a unit's result what may be asked for again."""

    def joined(self, results: Sequence[ResultT], model: Asking) -> ResultT:
        """Return the result of all of the work, given those of its units in their order."""
        (result,) = results
        return result


class Unit(NamedTuple):
    """What goes to a replica: one unit of work, and the text around the prompt where the kind needs it."""

    work: Work[Any]
    layout: Layout | None = None

    @property
    def home(self) -> str | None:
        """See ``Work.home``."""
        return self.work.home(self.layout)

    @property
    def size(self) -> int:
        """See ``Work.size``."""
        return self.work.size(self.layout)

    @property
    def title(self) -> str:
        """Name the unit for people: its kind, and its first rows where there are any."""
        rows = ", ".join(example.id for example in self.work.shard[:3])
        return f"'{self.work.kind}'" + (f" of rows {rows}, ..." if rows else "")


def computes(
    kind: type[Work[ResultT]],
) -> Callable[[Callable[P, tuple[ResultT, Usage]]], Callable[P, tuple[ResultT, Usage]]]:
    """Mark the method of an engine that computes units of a kind: ``method(work, layout) -> (result, cost)``."""

    def mark(method: Callable[P, tuple[ResultT, Usage]]) -> Callable[P, tuple[ResultT, Usage]]:
        method.__dict__["computes"] = kind
        return method

    return mark


class BaseEngine:
    """What one replica holds: a model that computes units, each with the method that is marked with its kind.

    Derive from it to bring a model of one's own; it need not know every kind. ``facts`` describe the model in records,
    ``weights`` among them identifies it; ``hardware`` names what it computes on, None stands for this machine's
    processor. ``concurrency`` is how many units may be asked of it at the same time, each by a thread of its own;
    ``shard_size`` the rows of a unit where that is no matter of the config, because it computes no two rows together.
    """

    facts: dict[str, Any]
    hardware: str | None = None
    concurrency: int = 1
    shard_size: int | None = None
    _methods: ClassVar[dict[type[Work[Any]], str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {method.__dict__["computes"]: name for name, method in vars(cls).items() if _is_marked(method)}
        cls._methods = {**cls._methods, **own}

    @classmethod
    def all_kinds(cls) -> frozenset[type[Work[Any]]]:
        """Return the kinds of work that such models can do at best."""
        return frozenset(cls._methods)

    @property
    def kinds(self) -> frozenset[type[Work[Any]]]:
        """The kinds of work that this model can do."""
        return self.all_kinds()

    def contact(self) -> None:
        """Make sure that the model answers; one that is loaded does."""

    def limit_prefix_memory(self, num_bytes: int) -> None:
        """Keep at most so many bytes of questions' keys and values; an engine that keeps none does nothing."""

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        """Compute one unit; return its result and what it cost.

        Raises:
            UnsupportedError: this model cannot do this kind of work.
        """
        kind = type(unit.work)
        if kind not in self.kinds:
            raise UnsupportedError(
                f"'{self.facts.get('name')}' cannot give {kind.title()}; "
                f"it can give: {', '.join(sorted(kind.title() for kind in self.kinds))}.",
                setting="model.name",
            )
        result: tuple[Any, Usage] = getattr(self, self._methods[kind])(unit.work, unit.layout)
        return result


def _is_marked(method: Any) -> bool:
    return "computes" in getattr(method, "__dict__", {})

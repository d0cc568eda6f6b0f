"""Which replicas fit side by side, and on which node each of them belongs.

Ray places replicas one after the other and moves none, so small ones that came first may leave no room for a large
one. Here all of them are known beforehand, and large ones come first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TINY = 1e-6  # what sums of fractions may be wrong by


@dataclass(frozen=True)
class Demand:
    """What ``count`` replicas of a model need: ``cpus`` and ``gpus`` each; ``count`` None means as many as fit."""

    model: str
    count: int | None
    cpus: float
    gpus: float

    @property
    def size(self) -> tuple[float, float]:
        """What one replica needs, to compare by: GPUs first, as they are scarce."""
        return self.gpus, self.cpus

    def sentence(self) -> str:
        """Say what is needed."""
        where = " of one machine" if self.gpus > 1 else ""
        each = f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU{where}" if self.gpus else "")
        number = self.count or 1
        return f"{number} replica{'s' if number > 1 else ''} of '{self.model}' with {each} each"


def first_short(demands: Sequence[Demand], nodes: Sequence[Mapping[str, float]]) -> Demand | None:
    """Put all replicas side by side on nodes with these resources; return the first demand that does not fit."""
    return _short(demands, arranged(demands, nodes))


def arranged(demands: Sequence[Demand], nodes: Sequence[Mapping[str, float]]) -> list[list[int]]:
    """Return for every demand the nodes of its replicas, as places in ``nodes``; fewer than ``count`` if no more fit.

    Those that are not counted get one replica, then one more each in turns as long as there is room.
    """
    spread = _arranged(demands, nodes, spread=True)
    return spread if _short(demands, spread) is None else _arranged(demands, nodes, spread=False)


def _short(demands: Sequence[Demand], places: Sequence[Sequence[int]]) -> Demand | None:
    short = [d for d, found in zip(demands, places, strict=True) if len(found) < (d.count or 1)]
    return max(short, key=lambda d: d.size, default=None)


def _arranged(demands: Sequence[Demand], nodes: Sequence[Mapping[str, float]], *, spread: bool) -> list[list[int]]:
    """Arrange on the nodes with the fewest replicas (``spread``), or on the first ones that have room."""
    free = [(node.get("CPU", 0.0), _parts(node.get("GPU", 0.0))) for node in nodes]
    held = [0] * len(nodes)
    places: list[list[int]] = [[] for _ in demands]

    def put(number: int) -> bool:
        demand = demands[number]
        room = [n for n, (cpus, gpus) in enumerate(free) if cpus + _TINY >= demand.cpus and _without(gpus, demand.gpus)]
        if not room:
            return False
        node = min(room, key=held.__getitem__) if spread else room[0]
        cpus, gpus = free[node]
        free[node] = cpus - demand.cpus, _without(gpus, demand.gpus) or []
        held[node] += 1
        places[number].append(node)
        return True

    order = sorted(range(len(demands)), key=lambda number: demands[number].size, reverse=True)
    for number in order:
        for _ in range(demands[number].count or 1):
            if not put(number):
                break
    growing = [number for number in order if demands[number].count is None]
    while growing:
        growing = [number for number in growing if put(number)]
    return places


def _parts(gpus: float) -> list[float]:
    """Return the free part of every GPU, given their sum: what others use is taken for as few GPUs as possible."""
    whole, rest = divmod(gpus + _TINY, 1)
    return [1.0] * int(whole) + [rest]


def _without(gpus: list[float], need: float) -> list[float] | None:
    """Return the free parts of GPUs once one replica more is there, on one of them or on whole ones; None without room.

    As Ray does, it takes the one with the least room that is enough, so that whole ones stay whole.
    """
    rest = sorted(gpus)
    if need > 1:
        free = [part for part in rest if part + _TINY >= 1]
        return rest[: len(rest) - round(need)] if len(free) >= round(need) else None
    place = next((n for n, part in enumerate(rest) if part + _TINY >= need), None)
    return None if place is None else [*rest[:place], rest[place] - need, *rest[place + 1 :]]

"""The coordinators of a wave: which cell runs in which of them, what they tell, and what is done when one dies.

A cell that kills its process takes its neighbours' steps in flight with it. So cells whose coordinator has died go on
among fewer, and at last alone: then the one to blame is known, and the others are done.
"""

import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from greater_ray.cluster.coordinator import News
from greater_ray.cluster.lost import reason_of
from greater_ray.config import ModelConfig
from greater_ray.errors import PoolError
from greater_ray.grid.cells import Cell
from greater_ray.grid.run import GridObserver

# Cells side by side in one coordinator, by how often they were in one that died; what dies once more is given up.
CELLS = (16, 4, 1)
_STARTING = 2  # coordinators per core that start at the same time; more would only keep each other from being up
_LOOK = 0.5  # seconds between two looks at whether to stop
_ENDING = 5.0  # seconds that coordinators which were ended are waited for
_FAILED = 3  # coordinators in a row that may die before they are up


class InProgress(NamedTuple):
    """A cell that runs, a number that grows with its news, and the process that it is in, on this machine."""

    cell: Cell
    news: int
    pid: int


@dataclass(eq=False)
class Member:
    """A coordinator, and what is waited for from it: that it is up (no ``pid`` yet), then news.

    ``room`` is how many cells it takes, all of which were in ``deaths`` that died.
    """

    actor: Any
    asked: Any
    deaths: int
    room: int
    pid: int | None = None
    cells: set[int] = field(default_factory=set)

    @property
    def free(self) -> int:
        """How many more cells it takes."""
        return self.room - len(self.cells)


class Crew:
    """Runs cells, ``most`` at once, in coordinators that ``launch`` returns and ``end`` ends.

    ``note`` writes an event down.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        most: int,
        observer: GridObserver,
        launch: Callable[[], Any],
        end: Callable[[Any], None],
        note: Callable[..., None],
    ) -> None:
        self.cells, self.most, self.observer = cells, most, observer
        self.launch, self.end, self.note = launch, end, note
        # As many coordinators as are needed share the cells evenly.
        first = math.ceil(most / math.ceil(most / CELLS[0]))
        self._rooms = (first, *CELLS[1:])
        self._waiting: list[deque[int]] = [deque(range(len(cells))), *(deque[int]() for _ in CELLS[1:])]
        self._running: dict[int, InProgress] = {}
        self._left = set(range(len(cells)))
        self._deaths: Counter[int] = Counter()
        self._members: list[Member] = []
        self._failed = 0
        self.stopped = 0  # cells that something else than they themselves has ended

    def needed(self) -> set[ModelConfig]:
        """Return the models that cells which have not ended may still call; asked by another thread."""
        return {model for number in list(self._left) for model in self.cells[number].models}

    def running(self) -> dict[int, InProgress]:
        """Return the cells in progress by their number; asked by another thread."""
        return dict(self._running)

    def starting(self) -> list[Member]:
        """Return the coordinators that are not up yet; asked by another thread."""
        return [member for member in list(self._members) if member.pid is None]

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Run all cells to their end, or until ``should_stop`` says so; then no coordinator is left.

        Raises:
            PoolError: no coordinator comes up.
        """
        try:
            while self._left and not should_stop():
                self._staff()
                self._hand_out()
                asked = {member.asked: member for member in self._members}
                if ray.wait([*asked], timeout=_LOOK)[0]:
                    for ready in ray.wait([*asked], num_returns=len(asked), timeout=0)[0]:
                        self._listen(asked[ready])
        finally:
            for member in self._members:
                self.end(member.actor)
            # One that lives on for a moment would still hold the locks of its run folders.
            if asked := {member.asked: member for member in self._members}:
                ray.wait([*asked], num_returns=len(asked), timeout=_ENDING)

    # -- who runs what -------------------------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Launch coordinators for cells that wait, and end those for which none is left that they could take."""
        starting = sum(member.pid is None for member in self._members)
        for deaths, waiting in self._latest_first():
            wanted = min(len(waiting), self.most - len(self._running))
            wanted -= sum(member.free for member in self._of(deaths))
            while wanted > 0 and starting < _STARTING * (os.cpu_count() or 1):
                actor = self.launch()
                self._members.append(Member(actor, actor.up.remote(), deaths, self._rooms[deaths]))
                wanted, starting = wanted - self._rooms[deaths], starting + 1
            for member in self._of(deaths):
                if deaths and not waiting and not member.cells:
                    self._members.remove(member)
                    self.end(member.actor)

    def _latest_first(self) -> list[tuple[int, deque[int]]]:
        """Return the cells that wait by how often their coordinator died: those that have lost most come first."""
        return list(enumerate(self._waiting))[::-1]

    def _of(self, deaths: int) -> list[Member]:
        return [member for member in self._members if member.deaths == deaths]

    def _hand_out(self) -> None:
        """Begin cells wherever there is room, in turns."""
        for deaths, waiting in self._latest_first():
            while waiting and len(self._running) < self.most:
                up = [member for member in self._of(deaths) if member.pid is not None and member.free]
                if not up:
                    break
                self._begin(max(up, key=lambda member: member.free), waiting.popleft())

    def _begin(self, member: Member, number: int) -> None:
        assert member.pid is not None
        cell = self.cells[number]
        member.cells.add(number)
        member.actor.begin.remote(number, cell)
        self._running[number] = InProgress(cell, 0, member.pid)
        self.observer.started(cell)

    # -- what they tell ------------------------------------------------------------------------------------------------

    def _listen(self, member: Member) -> None:
        try:
            answer = ray.get(member.asked)
        except RayError as error:
            self._lose(member, reason_of(error))
            return
        if member.pid is None:
            member.pid, self._failed = answer, 0
        else:
            self._hear(member, answer)
        member.asked = member.actor.news.remote()

    def _hear(self, member: Member, told: Iterable[News]) -> None:
        for news in told:
            cell, before = self.cells[news.number], self._running[news.number]
            if news.state is None:
                self._running[news.number] = before._replace(news=before.news + 1)
                self.observer.progressed(cell, news.progress)
            else:
                member.cells.discard(news.number)
                self._end(news.number, news.state, news.reason)

    def _end(self, number: int, state: str, reason: str | None) -> None:
        self._running.pop(number, None)
        self._left.discard(number)
        self.stopped += state == "stopped"
        self.observer.ended(self.cells[number], state, reason)

    def _lose(self, member: Member, reason: str) -> None:
        """Let the cells of a coordinator that died go on in others."""
        self._members.remove(member)
        # One that only could not be reached would go on writing.
        self.end(member.actor)
        self._failed += member.pid is None
        if self._failed == _FAILED:
            raise PoolError(f"{_FAILED} processes for cells in a row died before they were up: {reason}")
        if member.cells:
            titles = [self.cells[number].title for number in sorted(member.cells)]
            self.note("coordinator died", cells=titles, why=reason)
        for number in sorted(member.cells, reverse=True):
            self._deaths[number] += 1
            del self._running[number]
            if self._deaths[number] == len(CELLS):
                # The cell itself can go on.
                self._end(number, "stopped", "its coordinator died three times")
            else:
                self._waiting[self._deaths[number]].appendleft(number)

"""What waits for the replicas of a pool: who gets what, and in which order."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from greater_ray.types import Usage
from greater_ray.work import Unit

_HOMES = 10_000  # shards whose replica is remembered: more than replicas have memory for


@dataclass
class Job:
    """One unit of work on its way; ``home`` names what a slot may still hold for it, None marks small work.

    It may be ``queued`` while replicas are ``running`` it: the first result counts. ``attempts`` replicas have died
    over it, ``overdue`` of them because they did not answer in time.
    """

    unit: Unit
    future: "asyncio.Future[tuple[Any, Usage]]"
    number: int
    home: str | None
    size: int = 1
    queued: bool = False
    running: int = 0
    attempts: int = 0
    overdue: int = 0


class WorkQueue:
    """Waiting jobs, oldest first, each found at once by the slot that prefers it.

    A free slot takes, in this order: what is urgent (small work without rows, work whose replica has died), work whose
    questions it holds, work that no slot holds, the oldest of the rest whose own slot is not free as well, and what it
    was offered although another slot runs it. So preference never leaves a replica idle that could help, and never
    changes a result.
    """

    def __init__(self) -> None:
        self._urgent: deque[Job] = deque()
        self._all: OrderedDict[int, Job] = OrderedDict()
        self._by_home: dict[int | None, OrderedDict[int, Job]] = {}
        self._home: OrderedDict[str, int] = OrderedDict()
        self._homes_of: dict[int, int | None] = {}
        self._free: set[int] = set()
        self._offers: dict[int, Job] = {}
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._all) + len(self._urgent)

    @property
    def free(self) -> list[int]:
        """The slots that wait for work and were offered none."""
        return [slot for slot in self._free if slot not in self._offers]

    async def offer(self, job: Job, slot: int) -> None:
        """Let a free slot run what another one runs already, unless it finds something better."""
        async with self._changed:
            self._offers[slot] = job
            job.queued = True
            self._changed.notify_all()

    async def put(self, jobs: Sequence[Job], *, first: bool = False) -> None:
        """Add jobs; ``first`` puts those that were begun before in front of all."""
        async with self._changed:
            for job in jobs:
                job.queued = True
                if first:
                    self._urgent.appendleft(job)
                elif job.home is None:
                    self._urgent.append(job)
                else:
                    home = self._home.get(job.home)
                    self._homes_of[job.number] = home
                    self._all[job.number] = self._by_home.setdefault(home, OrderedDict())[job.number] = job
            self._changed.notify_all()

    async def take(self, slot: int) -> Job:
        """Wait for work and take what suits the slot best."""
        async with self._changed:
            self._free.add(slot)
            try:
                job = await self._changed.wait_for(lambda: self._first(slot))
            finally:
                self._free.discard(slot)
                # What this slot was left to do may be for others now.
                self._changed.notify_all()
            assert job is not None, "only a job ends the waiting"
            offered = self._offers.pop(slot, None)
            if offered is not None:
                offered.queued = False
            job.queued = False
            if self._urgent:
                self._urgent.popleft()
            elif job is not offered:
                del self._all[job.number]
                del self._by_home[self._homes_of.pop(job.number)][job.number]
            self._settle_in(job, slot)
            return job

    def _first(self, slot: int) -> Job | None:
        """Return what a free slot takes now."""
        if self._urgent:
            return self._urgent[0]
        for home in (slot, None):
            if own := self._by_home.get(home):
                return next(iter(own.values()))
        others = (job for number, job in self._all.items() if self._homes_of[number] not in self._free)
        return next(others, self._offers.get(slot))

    def _settle_in(self, job: Job, slot: int) -> None:
        """Remember which slot holds the questions from now on."""
        if job.home is None:
            return
        self._home[job.home] = slot
        self._home.move_to_end(job.home)
        if len(self._home) > _HOMES:
            self._home.popitem(last=False)

    def forget(self, slot: int) -> None:
        """A slot has lost what it held: its waiting work is nobody's, each piece in its turn."""
        for shard in [shard for shard, home in self._home.items() if home == slot]:
            del self._home[shard]
        for number in self._by_home.pop(slot, ()):
            self._homes_of[number] = None
        nobodys = [number for number in self._all if self._homes_of[number] is None]
        self._by_home[None] = OrderedDict((number, self._all[number]) for number in nobodys)

    def drain(self) -> list[Job]:
        """Take everything out."""
        jobs = [*self._urgent, *self._all.values()]
        self._urgent.clear()
        self._all.clear()
        self._by_home.clear()
        self._homes_of.clear()
        self._offers.clear()
        return jobs

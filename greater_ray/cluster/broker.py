"""The broker of one pool: hands shards to replicas, replaces replicas that die, and knows what is going on.

One asyncio actor per model. Every slot of the pool is one loop: launch a replica, load it, take work until it dies.
Beside them one more looks at what takes too long (``patience``): work of a replica that stands still or is slow is run
elsewhere as well, and a replica that does not answer at all is ended, which its loop takes for a death.
Nothing but the work in flight is kept here, so that memory does not grow with the grid.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayError, RayTaskError

from greater_ray.cluster.lost import Lost, is_answer, lost, reason_of
from greater_ray.cluster.patience import LOADING, AwakeClock, Call, Patience
from greater_ray.cluster.slots import Running, Slot
from greater_ray.cluster.work_queue import Job, WorkQueue
from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError, DataError, GreaterRayError, PoolError, SetAsideError, WrongModelError
from greater_ray.types import Usage
from greater_ray.work import Unit

# A shard that ends this many replicas is set aside; a model that ends this many while loading stops its pool.
ATTEMPTS = 3
# What a load may say that it would say on every node.
_SETTING = (ConfigError, WrongModelError, DataError)
_EVENTS = 200  # events kept until the driver fetches them
_LOOK = 0.5  # seconds between two looks at what the replicas do
_STEP = 5.0  # seconds that one look may be late before the broker itself is taken to have been asleep


class Broker:
    """Serves one model on ``count`` slots.

    ``launch`` returns the handle of a new, empty replica actor; ``end`` ends one that does not answer any more.
    ``patience`` says how long one is waited for.
    """

    def __init__(
        self,
        model: ModelConfig,
        count: int,
        launch: Callable[[], Any],
        end: Callable[[Any], None],
        patience: Patience,
    ) -> None:
        self.model, self.launch, self.end, self.patience = model, launch, end, patience
        self.slots = [Slot() for _ in range(count)]
        self.queue = WorkQueue()
        self.facts: dict[str, Any] | None = None
        self.hardware: list[str] = []
        self.error: GreaterRayError | None = None
        self._ready = asyncio.Event()
        self._number = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._running: dict[int, Running] = {}
        # Why slots last could not load, those that have not loaded since.
        self._reasons: dict[int, str] = {}
        # Callers with calls that wait, and those that had some since the last look at the figures.
        self._waiting: Counter[str] = Counter()
        self._active: set[str] = set()
        loop = asyncio.get_running_loop()
        # The loop's own clock is monotonic: neither a changed date nor a daylight saving hour is noticed.
        self._now = loop.time
        self._clock = AwakeClock(self._now(), _STEP)
        self._loops = [loop.create_task(self._guarded(self._serve(k))) for k in range(count)]
        self._watch = loop.create_task(self._guarded(self._look_after()))

    # -- what coordinators and the driver call -------------------------------------------------------------------------

    async def ready(self) -> tuple[dict[str, Any], str]:
        """Wait until the first replica has loaded and return its model's facts and its hardware.

        Raises:
            PoolError: the model cannot be loaded.
        """
        await self._ready.wait()
        if self.error is not None:
            raise self.error
        assert self.facts is not None
        return self.facts, self.hardware[0]

    async def run(self, units: Sequence[Unit], caller: str = "") -> list[tuple[Any, Usage]]:
        """Compute every unit on some replica; results are aligned with the units. ``caller`` shows up in ``stats``.

        Raises:
            PoolError: the pool has stopped.
            SetAsideError: a unit ended three replicas.
            GreaterRayError: what the engine raised.
        """
        if self.error is not None:
            raise self.error
        loop = asyncio.get_running_loop()
        jobs = []
        for unit in units:
            jobs.append(Job(unit, loop.create_future(), self._number, unit.home, unit.size))
            self._number += 1
        await self.queue.put(jobs)
        if self.error is not None:
            # It came while these jobs were on their way into the queue, after all others had been told.
            self._turn_away()
        self._waiting[caller] += 1
        try:
            return [await job.future for job in jobs]
        except BaseException:
            for job in jobs:
                job.future.cancel()
            raise
        finally:
            self._active.add(caller)
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    async def stats(self) -> dict[str, Any]:
        """Return what the slots do and have done, the length of the queue, and events since the last call.

        ``active`` are the callers that wait for results or have had some since then.
        """
        now, active = self._now(), {*self._active, *self._waiting}
        self._active.clear()
        starting = [now - s.since if s.state == "starting" else 0.0 for s in self.slots]
        events = [self._events.popleft() for _ in range(len(self._events))]
        slots = [
            {**asdict(s), "busy_seconds": s.busy_seconds + (now - s.since if s.state == "busy" else 0.0)}
            for s in self.slots
        ]
        return {
            "model": self.model.name,
            "slots": slots,
            "starting_seconds": starting,
            "queue": len(self.queue),
            "events": events,
            "active": sorted(active),
            "ready": self._ready.is_set(),
            "error": str(self.error) if self.error is not None else None,
        }

    # -- one slot ----------------------------------------------------------------------------------------------------

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - what ended in silence would leave calls waiting for ever
            self._stop(f"model: '{self.model.name}': internal error: {type(error).__name__}: {error}")

    async def _serve(self, index: int) -> None:
        slot, failed, overdue = self.slots[index], 0, 0
        while self.error is None:
            slot.state, slot.since, slot.host = "starting", self._now(), "-"
            actor = self.launch()
            dead = await self._load(actor, index, overdue)
            if dead is None:
                failed = overdue = 0
                await self._work(actor, index)
            else:
                failed += not dead.preempted
                overdue += dead.overdue
            # One that only could not be reached would keep its GPU.
            self.end(actor)
            self.patience.forget(index)
            if failed == ATTEMPTS:
                assert dead is not None
                self._give_up(index, dead)
                return

    def _give_up(self, index: int, dead: Lost) -> None:
        """Leave a slot on which no replica comes up to the others, or stop the pool where there are none."""
        slot = self.slots[index]
        how = "died while loading, as when memory runs out"
        how = "did not load in time" if dead.overdue else "could not load" if dead.answered else how
        why = f"{ATTEMPTS} replicas in a row {how}: {dead.reason}"
        slot.state = "given up"
        if all(other.state == "given up" for other in self.slots):
            self._stop(f"model: '{self.model.name}': {why}")
        else:
            self._event("slot given up", why=f"{self._name(index)}: {why}")

    def _could_not_load(self, index: int, error: RayTaskError) -> Lost:
        """Take in why a model was not loaded: one GPU or node may be to blame, or it would be the same everywhere.

        The pool stops where it is the model or a setting, or where no replica has loaded and each has failed.
        """
        reason = reason_of(error)
        self._event("could not load", why=f"{self._name(index)}: {reason}")
        self._reasons[index] = reason
        if self.facts is None and (isinstance(error.cause, _SETTING) or len(self._reasons) == len(self.slots)):
            others = [other for other in dict.fromkeys(self._reasons.values()) if other != reason]
            also = f" (others: {'; '.join(others)})" if others and not isinstance(error.cause, _SETTING) else ""
            self._stop(f"model: '{self.model.name}' cannot be served: {reason}{also}")
        return Lost(reason, answered=True)

    @contextmanager
    def _watched(self, index: int, running: Running) -> Iterator[None]:
        """Have it looked after while a replica is waited for; an answer is a measure for further ones."""
        self._running[index], slot = running, self.slots[index]
        try:
            yield
            took = self._clock.look(self._now()) - running.since
            self.patience.learn(index, running.call, took)
            if slot.still:
                self._event("answers again", why=f"{self._name(index)} after {took:.0f} s")
        finally:
            del self._running[index]
            slot.still = False

    async def _load(self, actor: Any, index: int, overdue: int) -> Lost | None:
        """Load the model; return why the replica was lost."""
        slot, running = self.slots[index], Running(actor, LOADING, 0.0, before=overdue)
        try:
            # Room that others hold is waited for as long as it takes.
            slot.host = await actor.up.remote()
            running.since = self._clock.look(self._now())
            with self._watched(index, running):
                facts = await actor.load.remote(self.model)
        except RayError as error:
            if is_answer(error):
                return self._could_not_load(index, error)
            slot.deaths += 1
            dead = lost(error, running.overdue)
            self._event("died while loading", why=f"{self._name(index)}: {dead.reason}")
            return dead
        model = facts["model"]
        if self.facts is None:
            self.facts = model
        elif model.get("weights") != self.facts.get("weights"):
            what = "has other weights, another tokenizer or another chat template"
            self._stop(f"model: '{self.model.name}' {what} on {slot.host} than on the first replica.")
            return None
        if self.hardware and facts["hardware"] not in self.hardware:
            why = f"{slot.host} computes on {facts['hardware']}, others on {self.hardware[0]}: last bits may differ"
            self._event("mixed hardware", why=why)
        self.hardware = [*dict.fromkeys([*self.hardware, facts["hardware"]])]
        self._ready.set()
        return None

    async def _work(self, actor: Any, index: int) -> None:
        """Take work until the replica dies."""
        slot = self.slots[index]
        while self.error is None:
            slot.state = "idle"
            job = await self.queue.take(index)
            if job.future.done():
                continue
            slot.state, slot.since = "busy", self._now()
            slot.repeated += job.running > 0
            job.running += 1
            call, since = Call(job.unit.work.kind, job.size), self._clock.look(slot.since)
            running = Running(actor, call, since, job, job.overdue)
            counts = True
            try:
                with self._watched(index, running):
                    result = await actor.run.remote(job.unit)
                    tokens = result[1].tokens
            except RayError as error:
                if not is_answer(error):
                    # One that can compute nothing more is lost too: always free first, it would fail cell after cell.
                    slot.deaths += 1
                    slot.state = "starting"
                    self.queue.forget(index)
                    await self._retry(job, index, lost(error, running.overdue))
                    return
                # An error of the engine itself would come again: it belongs to the cell.
                cause = error.cause if isinstance(error.cause, GreaterRayError) else error
                counts = self._settle(job, error=cause)
            except Exception as error:  # noqa: BLE001 - an engine of one's own that returns something else
                counts = self._settle(job, error=error)
            else:
                counts = self._settle(job, result=result)
                slot.tokens += tokens if counts else 0
            finally:
                job.running -= 1
                slot.busy_seconds += self._now() - slot.since
                slot.calls += counts

    @staticmethod
    def _settle(job: Job, result: Any = None, error: BaseException | None = None) -> bool:
        """Give a job its end, and tell whether it had none: of several results the first one counts."""
        if job.future.done():
            return False
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
        return True

    async def _retry(self, job: Job, index: int, dead: Lost) -> None:
        """Put a job whose replica was lost in front of the queue or aside, unless it is on its way elsewhere."""
        job.attempts += not dead.preempted
        job.overdue += dead.overdue
        what, others = job.unit.title, job.running - 1
        reason = f"{self._name(index)} died during {what}: {dead.reason}"
        self._event("replica died", attempt=job.attempts, preempted=dead.preempted, why=reason)
        if job.future.done() or others:
            return
        if self.error is not None:
            self._settle(job, error=self.error)
        elif job.attempts >= ATTEMPTS:
            message = f"set aside after it ended {job.attempts} replicas: {what} of '{self.model.name}'. Last: {reason}"
            self._event("set aside", why=message)
            self._settle(job, error=SetAsideError(message))
        elif not job.queued:
            await self.queue.put([job], first=True)
            if self.error is not None:
                self._turn_away()

    # -- what takes too long -------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        # Calls in flight keep their limits when the pool has stopped.
        while self.error is None or self._running:
            await asyncio.sleep(_LOOK)
            now = self._clock.look(self._now())
            for index, running in list(self._running.items()):
                if now - running.since >= self.patience.seconds:
                    await self._urge(index, running, now - running.since)
            await self._help_out(now)

    async def _urge(self, index: int, running: Running, elapsed: float) -> None:
        """Tell of a replica that stands still and have its work run elsewhere as well, or end it."""
        limits = self.patience.limits(index, running.call, running.before)
        slot, job = self.slots[index], running.job
        what = "loading" if job is None else f"computing {job.unit.title}"
        if elapsed >= limits.end:
            if running.overdue is None:
                running.overdue = elapsed
                self._event("ended", why=f"{self._name(index)} did not end {what} within {elapsed:.0f} s")
                self.end(running.actor)
        elif elapsed >= limits.still and not slot.still:
            slot.still = True
            again = job is not None and self.error is None and self._alone(job)
            then = f"{'that is run elsewhere as well, and ' if again else ''}it is ended after {limits.end:.0f} s"
            self._event("stands still", why=f"{self._name(index)} has been {what} for {elapsed:.0f} s; {then} in all")
            if job is not None and again:
                await self.queue.put([job], first=True)

    async def _help_out(self, now: float) -> None:
        """Let idle replicas run what slow ones have begun, the fastest first."""
        # What is not worth it on the fastest is so on none.
        idle = deque(sorted(self.queue.free, key=self.patience.pace))
        for index, running in list(self._running.items()):
            job, call = running.job, running.call
            if not idle:
                return
            if job is None or not self._alone(job):
                continue
            if self.patience.worth_repeating(index, call, now - running.since, idle[0]):
                await self.queue.offer(job, idle.popleft())

    @staticmethod
    def _alone(job: Job) -> bool:
        """Tell whether one replica alone is at work on a job that is waited for, and another may try it."""
        alone = job.running == 1 and not job.queued and not job.future.done()
        return alone and job.attempts + job.running < ATTEMPTS

    # -- words and ends ------------------------------------------------------------------------------------------------

    def _name(self, index: int) -> str:
        return f"replica {index} on {self.slots[index].host}"

    def _event(self, kind: str, **facts: Any) -> None:
        self._events.append({"event": kind, **facts})

    def _stop(self, reason: str) -> None:
        """Stop the pool: everybody who waits gets the reason, at once."""
        if self.error is None:
            self.error = PoolError(reason if reason.endswith(".") else f"{reason}.")
        self._ready.set()
        self._turn_away()

    def _turn_away(self) -> None:
        """Give everybody who waits the reason why the pool has stopped."""
        for job in self.queue.drain():
            self._settle(job, error=self.error)

"""The queue of a broker and its slots: who gets what, and that nobody waits in vain. No Ray is needed for it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from greater_ray.cluster.broker import ATTEMPTS, Broker
from greater_ray.cluster.lost import reason_of
from greater_ray.cluster.patience import Patience
from greater_ray.cluster.work_queue import Job, WorkQueue
from greater_ray.config import ModelConfig
from greater_ray.errors import (
    ConfigError,
    DataError,
    DeviceError,
    ModelError,
    PoolError,
    SetAsideError,
    WrongModelError,
)
from greater_ray.types import Example, Layout, LossSpec, Usage
from greater_ray.work import CheckPrompts, Generate, Proposals, Rollouts, TokenTexts, Unit

SLOTS = 4


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def job(number: int, shard: str | None) -> Job:
    return Job(Unit(TokenTexts([1])), asyncio.get_running_loop().create_future(), number, shard)


async def numbers(queue: WorkQueue, *slots: int) -> list[int]:
    return [(await queue.take(slot)).number for slot in slots]


async def homes(queue: WorkQueue, **slots: int) -> None:
    """Let slots become the homes of shards."""
    for k, (shard, slot) in enumerate(slots.items()):
        await queue.put([job(-1 - k, shard)])
        await queue.take(slot)


def test_work_is_taken_oldest_first():
    async def work() -> None:
        queue = WorkQueue()
        await queue.put([job(k, f"s{k}") for k in range(5)])
        assert len(queue) == 5
        assert await numbers(queue, 0, 1, 2, 0, 1) == [0, 1, 2, 3, 4]
        assert len(queue) == 0

    run(work)


def test_a_slot_takes_small_work_then_its_own_then_nobodys_then_anybodys():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0, b=1)
        await queue.put([job(1, "b"), job(2, "new"), job(3, "a"), job(4, None), job(5, "b"), job(6, "a")])
        assert await numbers(queue, 0, 0, 0, 0, 0, 0) == [4, 3, 6, 2, 1, 5]

    run(work)


def test_work_waits_for_the_slot_that_holds_its_questions_when_that_one_is_free_too():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=2, b=0, c=1)
        taken: dict[int, list[int]] = {slot: [] for slot in range(3)}

        async def serve(slot: int) -> None:
            while True:
                taken[slot].append((await queue.take(slot)).number)
                await asyncio.sleep(0.05)

        slots = [asyncio.create_task(serve(slot)) for slot in range(3)]
        for number, shard in enumerate("abc", 1):
            await asyncio.sleep(0.01)
            await queue.put([job(number, shard)])
        await asyncio.sleep(0.2)
        assert taken == {0: [2], 1: [3], 2: [1]}
        await queue.put([job(4, "a"), job(5, "a"), job(6, None)])
        await asyncio.sleep(0.2)
        assert {number for numbers in taken.values() for number in numbers} == {1, 2, 3, 4, 5, 6}
        assert all(len(numbers) == 2 for numbers in taken.values()), "nobody is left idle for preference's sake"
        for task in slots:
            task.cancel()

    run(work)


def test_a_slot_that_helps_out_becomes_the_home():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0)
        await queue.put([job(1, "a")])
        assert await numbers(queue, 1) == [1], "preference never leaves a slot idle"
        await queue.put([job(2, "a"), job(3, "new"), job(4, "a")])
        assert await numbers(queue, 1, 1, 1) == [2, 4, 3]

    run(work)


def test_work_that_was_begun_before_goes_in_front():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0)
        await queue.put([job(1, "a"), job(2, "new"), job(3, "other")])
        await queue.put([job(4, "a")], first=True)
        await queue.put([job(5, "new")], first=True)
        assert await numbers(queue, 1, 1, 1) == [5, 4, 2], "whoever is free takes it, and becomes its home"
        await queue.put([job(6, "third"), job(7, "a")])
        assert await numbers(queue, 0, 1) == [1, 7]

    run(work)


def test_a_slot_that_has_lost_what_it_held_is_nobodys_home():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0, b=1)
        queue.forget(0)
        await queue.put([job(1, "new"), job(2, "a"), job(3, "b")])
        assert await numbers(queue, 0, 0, 0) == [1, 2, 3], "in order, but what another slot holds comes last"
        queue.forget(3)

    run(work)


def test_work_that_waits_for_a_slot_that_has_lost_it_is_taken_in_its_turn():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0, b=1)
        await queue.put([job(1, "a"), job(2, "new"), job(3, "b"), job(4, "a"), job(5, "new")])
        queue.forget(0)
        assert await numbers(queue, 1, 1, 1, 1, 1) == [3, 1, 2, 4, 5], "its own, then nobody's from the oldest on"

    run(work)


def test_those_who_wait_get_work_as_soon_as_there_is_any():
    async def work() -> None:
        queue = WorkQueue()
        waiting = [asyncio.create_task(queue.take(slot)) for slot in range(SLOTS)]
        await asyncio.sleep(0)
        await queue.put([job(k, f"s{k}") for k in range(2)])
        done, pending = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.ALL_COMPLETED)
        assert sorted(task.result().number for task in done) == [0, 1]
        await queue.put([job(2, None), job(3, "x")], first=True)
        assert sorted([(await task).number for task in pending]) == [2, 3]

    run(work)


def test_what_another_slot_runs_is_taken_by_the_slot_it_was_offered_to_where_nothing_else_waits():
    async def work() -> None:
        queue = WorkQueue()
        running = job(1, "a")
        waiting = [asyncio.create_task(queue.take(slot)) for slot in (0, 1)]
        await asyncio.sleep(0)
        assert sorted(queue.free) == [0, 1]
        await queue.offer(running, 1)
        assert queue.free == [0]
        assert await waiting[1] is running
        assert not running.queued
        # What comes first is better than any offer, which is then void.
        late = asyncio.create_task(queue.take(1))
        await asyncio.sleep(0)
        await queue.put([job(2, None), job(3, None)])
        await queue.offer(running, 1)
        assert {(await late).number, (await waiting[0]).number} == {2, 3}
        assert not running.queued
        assert len(queue) == 0

    run(work)


def test_draining_takes_everything_out():
    async def work() -> None:
        queue = WorkQueue()
        await homes(queue, a=0)
        await queue.put([job(1, "a"), job(2, None), job(3, "b")])
        assert sorted(found.number for found in queue.drain()) == [1, 2, 3]
        assert len(queue) == 0
        await queue.put([job(4, "a")])
        assert await numbers(queue, 0) == [4]

    run(work)


def test_nothing_is_left_of_many_jobs_and_they_go_quickly():
    async def work() -> None:
        queue, many = WorkQueue(), 20_000
        taken = []

        async def slot(index: int) -> None:
            for _ in range(many // SLOTS):
                taken.append((await queue.take(index)).number)
                if index == 0 and len(taken) % 500 == 0:
                    queue.forget(index)

        slots = [asyncio.create_task(slot(k)) for k in range(SLOTS)]
        for start in range(0, many, 100):
            await queue.put(
                [job(k, f"s{k % 77}" if k % 5 else None) for k in range(start, start + 100)], first=start % 3 == 0
            )
        await asyncio.gather(*slots)
        assert sorted(taken) == list(range(many))
        assert not queue._urgent
        assert not queue._all
        assert not queue._homes_of
        assert len(queue._home) <= 77
        assert len(queue._by_home) <= SLOTS + 1
        assert not any(queue._by_home.values())

    begin = time.process_time()
    run(work)
    assert time.process_time() - begin < 5


def test_a_long_queue_is_as_quick_as_a_short_one():
    async def seconds(many: int) -> float:
        queue = WorkQueue()
        await homes(queue, **{f"s{k}": k % SLOTS for k in range(50)})
        await queue.put([job(k, f"s{k % 50}") for k in range(many)])
        begin = time.process_time()
        for k in range(1000):
            await queue.take(k % SLOTS)
        return time.process_time() - begin

    async def work() -> None:
        short = min([await seconds(1000) for _ in range(3)])
        long = min([await seconds(20_000) for _ in range(3)])
        assert long < 5 * short + 0.01

    run(work)


def test_remembered_homes_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("greater_ray.cluster.work_queue._HOMES", 10)

    async def work() -> None:
        queue = WorkQueue()
        for k in range(50):
            await queue.put([job(k, f"s{k}")])
            await queue.take(0)
        assert list(queue._home) == [f"s{k}" for k in range(40, 50)]

    run(work)


# -- replicas that fail, by a broker whose actors are plain objects ------------------------------------------------


class Method:
    """Stands for an actor's method: ``remote`` gives something to wait for."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    async def remote(self, *args: Any) -> Any:
        return self.call(*args)


class Actor:
    def __init__(self, load: Callable[..., Any], run: Callable[..., Any]) -> None:
        self.load, self.run = Method(load), Method(run)
        self.up = Method(lambda: "far")


def broker_of(count: int, launch: Callable[[], Any], end: Callable[[Any], None] = lambda actor: None) -> Broker:
    return Broker(ModelConfig(name="m"), count, launch, end, Patience(300.0))


LOADED = {"model": {"weights": "w"}, "hardware": "h"}


def raises(error: Exception) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        raise error

    return call


def test_calls_that_lose_their_replica_after_the_pool_has_stopped_get_the_reason():
    async def work() -> None:
        begun, stopped = asyncio.Event(), asyncio.Event()

        async def dying(unit: Unit) -> Any:
            begun.set()
            await stopped.wait()
            raise RayActorError()

        actor = Actor(lambda model: LOADED, lambda call: None)
        actor.run.remote = dying  # type: ignore[method-assign]
        broker = broker_of(1, lambda: actor)
        waiting = asyncio.create_task(broker.run([Unit(TokenTexts([1]))]))
        await begun.wait()
        broker._stop("enough")
        stopped.set()
        with pytest.raises(PoolError, match="enough"):
            await waiting

    run(work)


def test_a_slot_on_which_nothing_loads_is_given_up_while_another_serves():
    async def work() -> None:
        loads = iter([lambda model: LOADED, *[raises(RayActorError())] * ATTEMPTS])
        ended: list[Any] = []
        broker = broker_of(2, lambda: Actor(next(loads), lambda call: ("done", Usage())), ended.append)
        while broker.slots[1].state != "given up":
            await asyncio.sleep(0)
        assert await broker.run([Unit(TokenTexts([1]))]) == [("done", Usage())]
        assert len(ended) == ATTEMPTS
        assert [event["event"] for event in (await broker.stats())["events"]][-1] == "slot given up"

    run(work)


GONE = RayTaskError("run", "Traceback ...", DeviceError("nothing more: CUDA error: an illegal memory access."))


def refused(error: Exception) -> Callable[..., Any]:
    return raises(RayTaskError("load", "Traceback ...", error))


FULL = ModelError("'m' does not fit into the memory of cuda:0; try model.dtype=bfloat16.")


async def loading(count: int, *loads: Callable[..., Any]) -> tuple[Broker, list[str]]:
    """Let a pool load until nothing is left to be waited for; return it with what was told."""
    left = iter(loads)
    broker = broker_of(count, lambda: Actor(next(left), lambda call: ("done", Usage())))
    while broker.error is None and any(slot.state not in ("idle", "given up") for slot in broker.slots):
        await asyncio.sleep(0)
    return broker, [f"{event['event']}: {event['why']}" for event in (await broker.stats())["events"]]


def test_a_gpu_on_which_nothing_fits_does_not_stop_a_pool_although_it_fails_first():
    async def work() -> None:
        others = asyncio.Event()

        async def slow(model: Any) -> Any:
            await others.wait()
            return LOADED

        full, fine = (
            Actor(refused(FULL), lambda call: None),
            Actor(lambda model: LOADED, lambda call: ("done", Usage())),
        )
        fine.load.remote = slow  # type: ignore[method-assign]
        actors = iter([*[full] * ATTEMPTS, fine, fine])
        broker = broker_of(3, lambda: next(actors))
        while broker.slots[0].state != "given up":
            await asyncio.sleep(0)
        assert broker.error is None
        others.set()
        assert await broker.run([Unit(TokenTexts([1]))]) == [("done", Usage())]

    run(work)


def test_a_slot_on_which_nothing_loads_is_given_up_with_host_and_reason_before_any_other_has_loaded():
    async def work() -> None:
        broker, told = await loading(2, *[refused(FULL)] * ATTEMPTS, lambda model: LOADED)
        assert [slot.state for slot in broker.slots] == ["given up", "idle"]
        assert told[-1] == (
            "slot given up: replica 0 on far: 3 replicas in a row could not load: 'm' does not fit into the memory "
            "of cuda:0; try model.dtype=bfloat16"
        )
        assert told[0] == "could not load: replica 0 on far: " + str(FULL).rstrip(".")

    run(work)


def test_a_pool_stops_at_once_where_every_slot_has_failed_to_load():
    async def work() -> None:
        other = ModelError("'/models/m' cannot be read here.")
        broker, told = await loading(2, *[refused(FULL)] * ATTEMPTS, *[refused(other)] * ATTEMPTS)
        assert [line.startswith("could not load") for line in told].count(True) == ATTEMPTS + 1
        with pytest.raises(PoolError, match=r"cannot be read here \(others: 'm' does not fit into the memory"):
            await broker.ready()

    run(work)


@pytest.mark.parametrize(
    "error",
    [
        WrongModelError("there is no folder 'm'.", setting="model.name"),
        ConfigError("'cuda:7' is not available.", setting="model.device"),
        DataError("a text of the tokenizer."),
    ],
)
def test_a_pool_stops_at_once_where_a_setting_or_the_model_is_wrong(error: Exception):
    async def work() -> None:
        never = Actor(lambda model: LOADED, lambda call: None)
        never.load.remote = asyncio.Event().wait  # type: ignore[method-assign]
        actors = iter([Actor(refused(error), lambda call: None), never, never])
        broker = broker_of(3, lambda: next(actors))
        with pytest.raises(PoolError, match="cannot be served") as stopped:
            await broker.ready()
        assert str(error).rstrip(".") in str(stopped.value)

    run(work)


def test_a_pool_whose_slots_are_all_given_up_for_different_reasons_stops():
    async def work() -> None:
        broker, told = await loading(2, refused(FULL), *[raises(RayActorError())] * (2 * ATTEMPTS - 1))
        assert sum(line.startswith("slot given up") for line in told) == 1
        with pytest.raises(PoolError, match="3 replicas in a row"):
            await broker.ready()

    run(work)


def test_a_replica_whose_device_is_broken_is_ended_and_its_work_done_by_another():
    async def work() -> None:
        runs = iter([raises(GONE), *[lambda call: ("done", Usage())] * 2])
        launched: list[Actor] = []
        ended: list[Any] = []

        def launch() -> Actor:
            launched.append(Actor(lambda model: LOADED, next(runs)))
            return launched[-1]

        broker = broker_of(1, launch, ended.append)
        assert await broker.run([Unit(TokenTexts([k])) for k in range(3)]) == [("done", Usage())] * 3
        assert ended == launched[:1]
        assert broker.slots[0].deaths == 1
        (event,) = (await broker.stats())["events"]
        assert event["event"] == "replica died"
        assert "illegal memory access" in event["why"]

    run(work)


def test_work_that_breaks_the_device_of_every_replica_is_set_aside_alone():
    async def work() -> None:
        broken = Unit(TokenTexts([13]))
        broker = broker_of(
            1, lambda: Actor(lambda model: LOADED, lambda unit: raises(GONE)() if unit == broken else ("done", Usage()))
        )
        with pytest.raises(SetAsideError, match="illegal memory access"):
            await broker.run([broken])
        assert broker.slots[0].deaths == ATTEMPTS
        assert await broker.run([Unit(TokenTexts([1]))]) == [("done", Usage())]

    run(work)


def test_an_error_of_the_engine_is_the_cells_and_the_replica_goes_on():
    async def work() -> None:
        wrong = RayTaskError("run", "Traceback ...", ModelError("out of memory with a single row."))
        runs = iter([raises(wrong), lambda call: ("done", Usage())])
        ended: list[Any] = []
        broker = broker_of(1, lambda: Actor(lambda model: LOADED, lambda unit: next(runs)(unit)), ended.append)
        with pytest.raises(ModelError, match="a single row"):
            await broker.run([Unit(TokenTexts([1]))])
        assert await broker.run([Unit(TokenTexts([1]))]) == [("done", Usage())]
        assert not ended

    run(work)


def test_an_engine_that_returns_something_else_fails_its_call_and_not_the_slot():
    async def work() -> None:
        results = iter(["no usage", ("fine", Usage())])
        broker = broker_of(1, lambda: Actor(lambda model: LOADED, lambda call: next(results)))
        with pytest.raises(AttributeError):
            await broker.run([Unit(TokenTexts([1]))])
        assert await broker.run([Unit(TokenTexts([1]))]) == [("fine", Usage())]

    run(work)


def test_an_engine_without_a_hash_of_weights_is_served_on_every_slot():
    async def work() -> None:
        facts = {"model": {"name": "one's own"}, "hardware": "h"}
        broker = broker_of(2, lambda: Actor(lambda model: facts, lambda call: ("done", Usage())))
        while any(slot.state != "idle" for slot in broker.slots):
            await asyncio.sleep(0)
        assert (await broker.ready())[0] == {"name": "one's own"}

    run(work)


def test_replicas_of_different_models_stop_the_pool():
    async def work() -> None:
        loads = iter([LOADED, {"model": {"weights": "v"}, "hardware": "h"}])
        broker = broker_of(2, lambda: Actor(lambda model: next(loads), lambda call: None))
        while broker.error is None:
            await asyncio.sleep(0)
        with pytest.raises(PoolError, match=r"'m' has other weights, .* on far than on the first replica"):
            await broker.run([Unit(TokenTexts([1]))])

    run(work)


def test_facts_that_cannot_be_used_stop_the_pool_with_a_reason():
    async def work() -> None:
        broker = broker_of(1, lambda: Actor(lambda model: {"hardware": "h"}, lambda call: None))
        with pytest.raises(PoolError, match="internal error: KeyError: 'model'"):
            await broker.ready()

    run(work)


# -- names and reasons -------------------------------------------------------------------------------------------------


def shard(*questions: str) -> tuple[Example, ...]:
    return tuple(Example(str(k), question, "Yes", "Yes") for k, question in enumerate(questions))


def test_a_shard_is_known_by_what_its_cached_questions_depend_on():
    layout = Layout("so the answer is")
    rollouts = Rollouts(shard("a", "b"), [(1,)], LossSpec())
    home = Unit(rollouts, layout).home
    assert home is not None
    same = Layout("another extractor", max_reasoning_tokens=3)
    assert Unit(Proposals(shard("a", "b"), (2,), 0, 5, "none"), same).home == home
    others = [
        Unit(replace(rollouts, examples=shard("a", "c")), layout),
        Unit(replace(rollouts, examples=shard("a")), layout),
        Unit(rollouts, Layout("so", joint="\n")),
        Unit(rollouts, Layout("so", frozen_prefix="")),
    ]
    assert len({home, *(unit.home for unit in others)}) == 5
    assert Unit(CheckPrompts([(1,)]), layout).home is None, "small work"
    seeds = [Unit(Generate([], [k], 4, 0.0)).home for k in (1, 2, 1)]
    assert seeds[0] == seeds[2] != seeds[1]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RayTaskError("run", "Traceback ...", ValueError("the rope is short.\nmore")), "the rope is short"),
        (
            RuntimeError("  \n first\nThe actor died: node 10.0.0.1 was lost.\nlast"),
            "The actor died: node 10.0.0.1 was lost",
        ),
        (RuntimeError("a\nWorker exit detail: killed by signal 9\nnode"), "Worker exit detail: killed by signal 9"),
        (RuntimeError(""), "RuntimeError"),
        (RuntimeError("x" * 1000), "x" * 300),
        (RayActorError(), "The actor experienced an error before finishing this task"),
    ],
)
def test_a_reason_is_one_short_line(error: Exception, reason: str):
    assert reason_of(error) == reason

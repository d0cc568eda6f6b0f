"""How long a replica is waited for: the policy in plain numbers, and a broker that follows it in simulated time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks.virtual_time import FOREVER, Seconds, WaitingReplica, run_virtually
from greater_ray.cluster.broker import Broker
from greater_ray.cluster.patience import LOADING, AwakeClock, Call, Patience, Stillness
from greater_ray.config import ModelConfig
from greater_ray.errors import PoolError, SetAsideError
from greater_ray.types import Conversation, Example, Layout, LossSpec, Message
from greater_ray.work import Answers, Generate, Rollouts, TextEmbeddings, TokenTexts, Unit

ROLLOUTS = Call("rollouts", 1000)


def patience(*seconds: float, call: Call = ROLLOUTS, replica: int = 0, least: float = 10.0) -> Patience:
    """Return the patience of one who has seen such calls."""
    found = Patience(least)
    for took in seconds:
        found.learn(replica, call, took)
    return found


# -- limits ------------------------------------------------------------------------------------------------------------


def test_quick_calls_get_the_least_limit_and_long_ones_many_times_the_longest():
    assert patience(0.1, 0.2).limits(0, ROLLOUTS) == (10.0, 30.0)
    assert patience(5.0, 60.0, 7.0).limits(0, ROLLOUTS) == (480.0, 1440.0)


def test_the_first_calls_of_a_replica_get_more_and_those_that_nobody_has_ended_are_not_ended_soon():
    found = patience(0.1)
    assert found.limits(1, ROLLOUTS) == (20.0, 60.0), "known on another replica: this one may warm up"
    assert found.limits(0, Call("gradients", 1)) == (20.0, 120.0), "nobody knows what a gradient takes"
    found.forget(0)
    assert found.limits(0, ROLLOUTS) == (20.0, 60.0), "a new replica warms up again"


def test_a_larger_call_gets_more_in_proportion_and_a_smaller_one_not_less():
    found = patience(60.0, call=Call("rollouts", 64))
    assert found.limits(0, Call("rollouts", 4 * 64)).still == 4 * 480
    assert found.limits(0, Call("rollouts", 1)).still == 480
    assert found.limits(0, Call("answers", 64)).still == 20, "another kind of work"


def test_every_replica_that_was_ended_over_the_same_doubles_what_the_next_one_gets():
    found = patience(0.1)
    assert [found.limits(0, ROLLOUTS, ended) for ended in range(3)] == [(10, 30), (20, 60), (40, 120)]


def test_weights_may_have_to_be_fetched():
    assert patience().limits(0, LOADING).end == 240.0
    assert patience(100.0, call=LOADING).limits(1, LOADING).end == 2400.0


def test_long_ago_is_forgotten():
    found = patience(60.0, *[0.1] * 100)
    assert found.limits(0, ROLLOUTS).still == 10.0


# -- slow replicas -----------------------------------------------------------------------------------------------------


def paced(**paces: float) -> Patience:
    """Return what is known after replicas 0 to 3 took 10 s for each of many calls, and some took longer."""
    found = Patience(300.0)
    for _ in range(8):
        for replica in range(4):
            found.learn(replica, ROLLOUTS, 10.0 * paces.get(f"r{replica}", 1.0))
    return found


def test_a_replica_is_slow_where_it_takes_clearly_more_than_the_usual_time():
    found = paced(r3=3.0, r1=1.2)
    assert [found.pace(replica) for replica in range(5)] == [1.0, 1.0, 1.0, 3.0, 1.0]
    for took in (10.0, 25.0):
        found.learn(4, ROLLOUTS, took)
    assert found.pace(4) == 1.0, "one such call is an accident"
    found.learn(5, ROLLOUTS, 100.0)
    found.learn(5, ROLLOUTS, 100.0)
    assert found.pace(5) > 5.0, "unless it took very long, and not only while warming up"
    found.forget(3)
    assert found.pace(3) == 1.0, "a new replica is not blamed for its forerunner"


@pytest.mark.parametrize(
    ("replica", "elapsed", "idle", "again"),
    [
        (3, 0.5, 0, True),  # 29.5 s to go there, 10 s here
        (3, 19.0, 0, True),
        (3, 21.0, 0, False),  # it has 9 s to go
        (0, 0.5, 1, False),  # of equal speed: what it has begun it ends first
        (0, 39.0, 1, False),
        (0, 41.0, 1, True),  # usual calls have ended long ago
        (0, 41.0, 3, False),  # the slow one would take 30 s
        (3, 0.5, 3, False),
    ],
)
def test_work_is_repeated_where_that_ends_sooner(replica: int, elapsed: float, idle: int, again: bool):
    assert paced(r3=3.0).worth_repeating(replica, ROLLOUTS, elapsed, idle) is again


def test_nothing_is_repeated_before_it_is_known_what_is_usual():
    assert not patience(1.0, 1.0).worth_repeating(0, ROLLOUTS, 1e6, 1)


# -- clocks, and what ought to move ------------------------------------------------------------------------------------


def test_a_clock_of_the_awake_does_not_count_a_sleep():
    clock = AwakeClock(100.0, most=5.0)
    assert [clock.look(now) for now in (101.0, 104.0, 7304.0, 7305.0)] == [1.0, 4.0, 9.0, 10.0]
    assert clock.look(7000.0) == 10.0, "nor one that goes backwards"
    assert clock.look(7001.0) == 11.0


def test_what_does_not_move_is_told_once_and_ended_later_and_later():
    still = Stillness(10.0)
    told: list[tuple[float, str]] = []
    for now in range(0, 400, 5):
        if now == 0:
            still.moved("a", now)
        still.moved("b", now)
        begun, over = still.look(now)
        told += [*((now, f"{name} stands still") for name in begun), *((now, f"{name} is ended") for name in over)]
    assert told == [(20, "a stands still"), (60, "a is ended"), (100, "a stands still"), (180, "a is ended"),
                    (260, "a stands still")]  # fmt: skip
    still.gone("a")
    assert still.look(1e6)[1].keys() == {"b"}


# -- how large a unit is -----------------------------------------------------------------------------------------------


def test_a_unit_is_as_large_as_what_it_may_read_and_write():
    rows = [Example(str(k), "word " * 40, "1", "1") for k in range(5)]
    short, long = Layout("so", max_reasoning_tokens=100), Layout("so", max_reasoning_tokens=1000)
    one, three = (Rollouts(rows, [(k,) for k in range(n)], LossSpec()) for n in (1, 3))
    assert Unit(three, short).size == 3 * Unit(one, short).size > 5 * 100
    assert Unit(one, long).size > 5 * Unit(one, short).size
    assert Unit(Answers(rows[:1], [(1,)]), short).size < Unit(one, short).size
    conversation: Conversation = (Message("user", "x" * 400),)
    assert Unit(Generate([conversation] * 2, [1, 2], 50, 0.0)).size == pytest.approx(2 * (100 + 50), abs=2)
    assert Unit(TextEmbeddings(["x" * 400] * 3)).size == pytest.approx(300, abs=2)
    assert Unit(TokenTexts([1])).size == 1


# -- a broker in simulated time ----------------------------------------------------------------------------------------


class Simulated:
    """A broker whose replicas, numbered as they are launched, take the seconds that a function says."""

    def __init__(
        self,
        count: int,
        seconds: Seconds,
        loading: Callable[[int], float] = lambda number: 20.0,
        patience: float = 300.0,
    ) -> None:
        self.replicas: list[WaitingReplica] = []
        self.ended: list[int] = []
        self.events: list[dict[str, Any]] = []

        def launch() -> WaitingReplica:
            number = len(self.replicas)
            self.replicas.append(WaitingReplica(number, loading(number), seconds))
            return self.replicas[-1]

        def end(replica: WaitingReplica) -> None:
            self.ended.append(replica.number)
            replica.kill()

        self.broker = Broker(ModelConfig(name="m"), count, launch, end, Patience(patience))

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def work(self, *names: str) -> list[int]:
        """Have rows answered, each a unit of its own; return which replica's answer counted."""
        found = await self.broker.run([unit(name) for name in names])
        return [number for number, _ in found]

    async def told(self) -> list[str]:
        self.events += (await self.broker.stats())["events"]
        return [event["event"] for event in self.events]


def unit(name: str) -> Unit:
    return Unit(Answers([Example(name, f"What is {name}?", "1", "1")], [(1,)]), Layout("so"))


def hangs(*replicas: int, on: str = "", usual: float = 10.0) -> Seconds:
    """Return times of replicas of which some never answer, or only a row never."""
    return lambda number, unit: FOREVER if number in replicas and on in unit.work.shard[0].id else usual


def hangs_once(on: str) -> Seconds:
    """Return times of replicas of which the first one that is asked for a row never answers."""
    asked: list[int] = []

    def seconds(number: int, unit: Unit) -> float:
        if unit.work.shard[0].id == on and not asked:
            asked.append(number)
            return FOREVER
        return 10.0

    return seconds


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtually(test)


def test_work_of_a_replica_that_stands_still_is_run_elsewhere_and_the_replica_is_replaced():
    async def test() -> None:
        pool = Simulated(2, hangs_once(on="bad"))
        assert set(await pool.work(*(f"r{k}" for k in range(8)))) == {0, 1}
        begin = pool.now
        good, same = await pool.work("bad", "r9")
        assert good == same, "the first result counts"
        bad = 1 - good
        # Usual calls take 10 s, so an idle replica has not even waited for the limit.
        assert pool.now - begin < 60
        assert await pool.told() == []
        await asyncio.sleep(400)
        assert await pool.told() == ["stands still"]
        assert (await pool.broker.stats())["slots"][bad]["still"] is True
        assert f"replica {bad} on host-{bad} has been computing 'answers' of rows bad" in pool.events[0]["why"]
        await asyncio.sleep(600)
        assert await pool.told() == ["stands still", "ended", "replica died"]
        assert set(pool.ended) == {bad}
        assert [slot.state for slot in pool.broker.slots] == ["idle", "idle"]
        assert [slot.still for slot in pool.broker.slots] == [False, False]
        assert set(await pool.work("r10", "r11")) == {good, 2}, "the new one works"
        # What was computed twice is counted once.
        stats = await pool.broker.stats()
        assert sum(slot["tokens"] for slot in stats["slots"]) == 8 + 2 + 2
        assert sum(slot["repeated"] for slot in stats["slots"]) == 1

    virtually(test)


def test_a_single_replica_that_stands_still_is_replaced_and_its_work_done():
    async def test() -> None:
        pool = Simulated(1, hangs(0, on="bad"))
        await pool.work("r0", "r1")
        begin = pool.now
        assert await pool.work("bad") == [1]
        assert 900 <= pool.now - begin < 900 + 20 + 10 + 2, "the further limit, then loading and the work itself"
        assert await pool.told() == ["stands still", "ended", "replica died"]

    virtually(test)


def test_work_on_which_every_replica_hangs_is_set_aside_after_three():
    async def test() -> None:
        pool = Simulated(2, hangs(*range(10), on="bad"))
        await pool.work("r0", "r1")
        with pytest.raises(SetAsideError, match=r"set aside after it ended 3 replicas.*no answer within \d+ s"):
            await pool.work("bad")
        assert await pool.work("r2", "r3") != []
        assert pool.now < 4 * 3600

    virtually(test)


def test_work_that_is_only_slow_comes_to_its_end():
    async def test() -> None:
        pool = Simulated(1, lambda number, unit: 5000.0)
        assert await pool.work("slow") == [1], "the second attempt has twice the time"
        assert await pool.work("another") == [1], "and by then it is known what such work takes"
        assert set(pool.ended) == {0}

    virtually(test)


def test_a_replica_that_answers_after_all_is_kept():
    async def test() -> None:
        pool = Simulated(1, lambda number, unit: 400.0 if unit.work.shard[0].id == "long" else 1.0)
        assert await pool.work("r0", "long", "r1") == [0, 0, 0]
        assert await pool.told() == ["stands still", "answers again"]
        assert pool.ended == []

    virtually(test)


def test_a_replica_that_never_ends_loading_is_replaced_and_a_model_that_never_loads_stops_its_pool():
    async def test() -> None:
        pool = Simulated(2, hangs(), loading=lambda number: FOREVER if number == 0 else 20.0)
        assert await pool.work("r0") == [1], "nobody waits for it"
        await asyncio.sleep(3 * 3600)
        assert await pool.told() == ["stands still", "ended", "died while loading"]
        assert [slot.state for slot in pool.broker.slots] == ["idle", "idle"]
        never = Simulated(1, hangs(), loading=lambda number: FOREVER, patience=10.0)
        with pytest.raises(PoolError, match=r"3 replicas in a row did not load in time: no answer within 960 s"):
            await never.broker.ready()

    virtually(test)


def test_calls_on_a_replica_that_hangs_get_an_end_when_the_pool_has_stopped():
    async def test() -> None:
        pool = Simulated(1, hangs(0))
        waiting = asyncio.create_task(pool.work("r0"))
        await asyncio.sleep(60)
        pool.broker._stop("enough")
        with pytest.raises(PoolError, match="enough"):
            await waiting
        assert pool.now < 4000

    virtually(test)


def test_a_broker_that_was_stopped_itself_blames_no_replica():
    async def test() -> None:
        pool = Simulated(1, lambda number, unit: 7200.0 if unit.work.shard[0].id == "asleep" else 1.0)
        await pool.work("r0")
        waiting = asyncio.create_task(pool.work("asleep"))
        await asyncio.sleep(10)
        # The machine sleeps: when it wakes up, the clock has gone on for everybody.
        asyncio.get_running_loop().now += 7190.0  # type: ignore[attr-defined]
        assert await waiting == [0]
        assert await pool.told() == []

    virtually(test)


def test_the_last_shards_do_not_wait_for_a_slow_replica_longer_than_running_them_elsewhere_takes():
    async def test() -> None:
        # Replica 3 has a third of the others' speed.
        pool = Simulated(4, lambda number, unit: 30.0 if number == 3 else 10.0)
        await pool.work(*(f"r{k}" for k in range(100)))
        begin = pool.now
        # Each takes one. After 10 s the fast ones are idle, and the slow one has 20 s to go.
        assert await pool.work("s0", "s1", "s2", "s3") in ([0, 1, 2, k] for k in range(3))
        assert pool.now - begin < 10 + 10 + 1
        assert sum(slot.repeated for slot in pool.broker.slots) == 1

    virtually(test)


def test_callers_are_active_while_they_wait_and_once_more_after_it():
    async def test() -> None:
        pool = Simulated(1, hangs())
        waiting = asyncio.create_task(pool.broker.run([unit("r0")], "7"))
        seen = []
        for _ in range(3):
            await asyncio.sleep(16)
            seen.append((await pool.broker.stats())["active"])
        await waiting
        assert seen == [["7"], ["7"], []]

    virtually(test)

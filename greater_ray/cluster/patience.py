"""How long a replica is waited for, and when its work is run elsewhere as well: times in, decisions out.

Nothing here waits, reads a clock or knows Ray. What a call may take follows from what such calls took: those of the
same kind, the larger ones by their size. Nothing is known of the first calls, and a replica's first call of a kind may
compile, tune or fill caches; so these get more. Every replica that was ended over the same work doubles what the next
one gets, so that work that is only slow comes to an end.
"""

from collections import deque
from collections.abc import Hashable
from statistics import median
from typing import NamedTuple

_MANY = 8  # times the longest such call, after which a replica stands still
_WARMING = 2  # times the least limit, for a call that nothing is known of
_END = 3  # times the limit, after which a replica that stands still is ended
_END_UNKNOWN = 6  # the same where no such call has ended yet: all of them may be long
_END_LOADING = 24  # times the least limit: weights may have to be fetched first
_KEPT = 100  # times of a kind and size, and
_KEPT_PACE = 30  # of a replica: a replica that recovers is soon believed
_ENOUGH = 3  # times that make a usual one
_SLOW = 1.5  # times the usual time, from which on a replica counts as slow, and
_SLOW_AT_ONCE = 3.0  # where it has answered few calls
_OVERRUN = 3  # times the usual time by which a call that ought to have ended may be late


class Call(NamedTuple):
    """What a replica is asked for: a kind of work, and how large it is (``Work.size``)."""

    kind: str
    size: int


LOADING = Call("load", 1)


class Limits(NamedTuple):
    """Seconds after which a replica stands still, and after which it is ended."""

    still: float
    end: float


class AwakeClock:
    """Seconds during which this process was running.

    A machine that slept, or a process that was stopped with all its like, would find that everything had taken too
    long. So no step from one look to the next counts for more than ``most`` seconds.
    """

    def __init__(self, now: float, most: float) -> None:
        self._last, self._most, self._passed = now, most, 0.0

    def look(self, now: float) -> float:
        """Return the seconds so far; ``now`` is any clock that goes on by itself."""
        self._passed += min(max(now - self._last, 0.0), self._most)
        self._last = now
        return self._passed


class Patience:
    """What the calls of one pool took, and what follows from it. ``seconds`` is the least that any call may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Sizes within a factor of two are alike.
        self._took: dict[tuple[str, int], deque[float]] = {}
        self._paces: dict[int, deque[float]] = {}
        self._warm: dict[int, set[str]] = {}

    def learn(self, replica: int, call: Call, seconds: float) -> None:
        """Take in that a replica has answered a call."""
        usual, warm = self.usual(call), self._warm.setdefault(replica, set())
        if usual and call.kind in warm:
            self._paces.setdefault(replica, deque(maxlen=_KEPT_PACE)).append(seconds / usual)
        warm.add(call.kind)
        self._took.setdefault((call.kind, call.size.bit_length()), deque(maxlen=_KEPT)).append(seconds)

    def forget(self, replica: int) -> None:
        """A new replica takes the place: nothing is known of it."""
        self._paces.pop(replica, None)
        self._warm.pop(replica, None)

    def limits(self, replica: int, call: Call, ended: int = 0) -> Limits:
        """Return the limits of a call, after ``ended`` replicas were ended over the same."""
        longest = self._longest(call)
        still = max(self.seconds, _MANY * longest)
        if not longest or call.kind not in self._warm.get(replica, ()):
            still = max(still, _WARMING * self.seconds)
        end = still * (_END if longest else _END_UNKNOWN)
        if call.kind == LOADING.kind:
            end = max(end, _END_LOADING * self.seconds)
        return Limits(still * 2**ended, end * 2**ended)

    def _longest(self, call: Call) -> float:
        """Return the longest such call, smaller ones in proportion to their size; 0 where none has ended."""
        own = call.size.bit_length()
        return max(
            (max(took) * 2.0 ** max(0, own - size) for (kind, size), took in self._took.items() if kind == call.kind),
            default=0.0,
        )

    def usual(self, call: Call) -> float | None:
        """Return what such a call takes on a replica of usual speed, or None where too few have ended."""
        took = self._took.get((call.kind, call.size.bit_length()), ())
        return median(took) if len(took) >= _ENOUGH else None

    def pace(self, replica: int) -> float:
        """Return how many times the usual time a replica takes; 1 unless it is clearly slow."""
        paces = self._paces.get(replica)
        if not paces:
            return 1.0
        pace = median(paces)
        return pace if pace > (_SLOW if len(paces) >= _ENOUGH else _SLOW_AT_ONCE) else 1.0

    def worth_repeating(self, replica: int, call: Call, elapsed: float, idle: int) -> bool:
        """Tell whether an idle replica would probably end a call sooner that another one has begun.

        That is so while the slow one has longer to go than the idle one would take from the start, and where a call
        is late by several times that: a usual call would have ended long ago.
        """
        usual = self.usual(call)
        if usual is None:
            return False
        here, there = self.pace(replica) * usual, self.pace(idle) * usual
        return here - elapsed > there or elapsed - here > _OVERRUN * there


class Stillness:
    """Processes that ought to move, by name: which are to be told as standing still, and which to be ended.

    ``seconds`` is as in ``Patience``; what moves is never ended, however slow.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[Hashable, float] = {}
        self._told: set[Hashable] = set()
        self._ended: dict[Hashable, int] = {}

    def moved(self, name: Hashable, now: float) -> None:
        """It did something, or is waiting for something that is watched elsewhere."""
        self._since[name] = now
        self._told.discard(name)

    def gone(self, name: Hashable) -> None:
        """It has come to its end."""
        self._since.pop(name, None)
        self._told.discard(name)
        self._ended.pop(name, None)

    def look(self, now: float) -> tuple[dict[Hashable, float], dict[Hashable, float]]:
        """Return what has begun to stand still, and what has done so for too long, with the seconds."""
        told, over = {}, {}
        for name, since in self._since.items():
            still, more = now - since, 2 ** self._ended.get(name, 0)
            if still >= _WARMING * _END * self.seconds * more:
                over[name] = still
            elif still >= _WARMING * self.seconds * more and name not in self._told:
                told[name] = still
        self._told |= told.keys()
        for name in over:
            self._ended[name] = self._ended.get(name, 0) + 1
            self.moved(name, now)
        return told, over

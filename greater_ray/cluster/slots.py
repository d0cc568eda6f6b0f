"""What the broker of a pool knows of its places for replicas."""

from dataclasses import dataclass
from typing import Any

from greater_ray.cluster.patience import Call
from greater_ray.cluster.work_queue import Job


@dataclass
class Slot:
    """One place for a replica: what it does now, and what it has done.

    ``calls`` and ``tokens`` are those of results that counted; ``repeated`` calls were begun beside another replica.
    """

    state: str = "starting"
    host: str = "-"
    busy_seconds: float = 0.0
    since: float = 0.0
    calls: int = 0
    tokens: int = 0
    deaths: int = 0
    repeated: int = 0
    still: bool = False


@dataclass
class Running:
    """What a replica was asked for and has not answered yet; no ``job`` while it loads.

    ``since`` is on the broker's clock, ``before`` tells how many replicas were ended over the same, and ``overdue`` how
    long this one was waited for when it was ended.
    """

    actor: Any
    call: Call
    since: float
    job: Job | None = None
    before: int = 0
    overdue: float | None = None

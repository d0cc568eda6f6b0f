"""Why a replica is not there any more, as one short line."""

from typing import NamedTuple, TypeGuard

from ray.exceptions import RayActorError, RayError, RayTaskError

from greater_ray.errors import DeviceError

_LENGTH = 300  # characters


class Lost(NamedTuple):
    """A replica that was lost: why, and whether its node was taken away, or it did not answer in time, or it told."""

    reason: str
    preempted: bool = False
    overdue: bool = False
    answered: bool = False


def is_answer(error: RayError) -> TypeGuard[RayTaskError]:
    """Tell whether a replica goes on after an error: one that its engine raised, unless its device is at fault."""
    return isinstance(error, RayTaskError) and not isinstance(error.cause, DeviceError)


def lost(error: RayError, overdue: float | None = None) -> Lost:
    """Read the error of a call; ``overdue`` are the seconds after which the replica was ended, if it was."""
    if overdue is None:
        return Lost(reason_of(error), isinstance(error, RayActorError) and error.preempted)
    return Lost(f"no answer within {overdue:.0f} s (replicas.patience gives more time)", overdue=True)


def reason_of(error: BaseException) -> str:
    """Return the first telling line of a Ray error."""
    cause = getattr(error, "cause", None)
    text = str(cause if cause is not None else error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if "Worker exit detail" in line or "death cause" in line or "node" in line.lower()
    ]
    return (telling or lines or [type(error).__name__])[0][:_LENGTH].rstrip(".")

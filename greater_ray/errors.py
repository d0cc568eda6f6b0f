"""The errors a user can cause or meet, each one sentence that names the option, the value and what is allowed."""

import difflib
from collections.abc import Iterable


class GreaterRayError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(GreaterRayError):
    """A setting is wrong: nothing has been computed or written."""


class DataError(GreaterRayError):
    """Rows are missing, empty, broken or too few."""


class ModelError(GreaterRayError):
    """A model cannot be found, loaded or used for what was asked."""


class MethodError(GreaterRayError):
    """A method breaks the contract of ``protocols.Method``: its author has to mend it."""


class StoreError(GreaterRayError):
    """A run folder cannot be written, or holds something else than expected."""


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_name(option: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not among those allowed."""
    names = sorted(allowed)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return ConfigError(f"{option}: '{value}' is unknown; allowed: {shown}.{did_you_mean(value, names)}")


class BudgetSpent(GreaterRayError):  # noqa: N818 - an end, not an error
    """A limit of the ledger is reached: the step in progress is given up; the message is the name of the limit."""


class Interrupted(GreaterRayError):  # noqa: N818 - the user's wish, not an error
    """The user asked to stop: everything finished so far is saved, and the same command continues."""


class PoolError(GreaterRayError):
    """A pool of replicas cannot go on: no cell is to blame, and the same command tries again."""


class SetAsideError(GreaterRayError):
    """A shard ended the process of every replica that tried it, so it is not tried again."""

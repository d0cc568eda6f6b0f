"""The errors a user can cause or meet. Each is one clear sentence and knows what it is about.

An error has fields: the *setting* by its key in the config (``task.name``, ``budget.steps``) or the name of an argument
(``out``, ``prompt``), the *value* that is wrong, what is *allowed*, and the *place* in a file. Whoever shows it says
the setting in the words of its own face: ``str(error)`` for Python, ``greater_ray.cli`` for the command line, where a
key becomes the option that the user wrote, or file and line of a YAML file.

A sentence that speaks of other settings marks their keys with ``§``: ``"give §budget.steps or §budget.tokens."``
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# A key that stands in a sentence.
_KEY = re.compile(r"§([a-z_]+(?:\.[a-z_]+)*)")
# Who is named in front of a host: a user with a password, or a key.
_USER_IN_URL = re.compile(r"(?<=://)[^/\s'\"@]+@")
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_SHORTEST_SECRET = 8  # a shorter value is likelier a switch, or a word that a text may well hold


def redacted(text: str) -> str:
    """Return a text without passwords in addresses, and without the keys that the environment holds.

    What libraries and servers say of an error may name the address or echo the key that they were given.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return _USER_IN_URL.sub("***@", text) if "://" in text else text


class Place(NamedTuple):
    """Where in a file something stands; lines count from 1, None means the file as a whole."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"'{self.file}'" + (f", line {self.line}" if self.line is not None else "")


class GreaterRayError(Exception):
    """Base of every error that the command line prints without a traceback.

    Args:
        why: what is wrong, with the value and what is allowed; ``setting`` and ``place`` are put in front of it.
        setting, value, allowed, place: what it is about, for programs.
    """

    def __init__(
        self,
        why: str,
        *,
        setting: str | None = None,
        value: Any = None,
        allowed: Iterable[str] = (),
        place: Place | None = None,
    ) -> None:
        why = redacted(why)
        super().__init__(why)
        self.why, self.setting, self.value, self.place = why, setting, value, place
        self.allowed = tuple(allowed)

    def __str__(self) -> str:
        """Say it in Python's words: settings by their keys."""
        return self.told(lambda key: key)

    def told(self, name: Callable[[str], str], heading: Callable[[str], str] | None = None) -> str:
        """Return the sentence with every setting as ``name`` calls it, and the one it is about as ``heading`` does."""
        front = [(heading or name)(self.setting)] if self.setting is not None else []
        front += [str(self.place)] if self.place is not None else []
        return ": ".join([*front, _KEY.sub(lambda key: name(key[1]), self.why)])

    def renamed(self, section: str, to: str) -> "GreaterRayError":
        """Return the same error with the settings of one section as those of another of the same form."""
        if self.setting is None or not self.setting.startswith(f"{section}."):
            return self
        why = self.why.replace(f"§{section}.", f"§{to}.")
        return self.about(to + self.setting.removeprefix(section), why)

    def about(self, setting: str, why: str | None = None) -> "GreaterRayError":
        """Return the same error as one of another setting."""
        return type(self)(why or self.why, setting=setting, value=self.value, allowed=self.allowed, place=self.place)


class ConfigError(GreaterRayError):
    """A setting is wrong: nothing has been computed or written."""


class DataError(GreaterRayError):
    """Rows are missing, empty, broken or too few."""


class MarkupError(DataError):
    """A prompt holds text that is markup of the model: it would end the user's turn, or begin another."""


class ModelError(GreaterRayError):
    """A model cannot be found, loaded or used for what was asked."""


class WrongModelError(ModelError):
    """What was given as a model is none, is damaged, or is of a kind that cannot be used: another must be given."""


class UnsupportedError(ModelError):
    """A model does not know this kind of work; another one may."""


class EndpointError(ModelError):
    """A server does not answer as it should: no trial is to blame, and the same command goes on."""


class MethodError(GreaterRayError):
    """A method breaks the contract of ``protocols.Method``: its author has to mend it."""


class StoreError(GreaterRayError):
    """A run folder cannot be written, or holds something else than expected."""


class DiskError(StoreError):
    """A disk takes no more, or is gone: no trial is to blame, and once that is mended the same command goes on."""


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def shortened(text: str, most: int = 600) -> str:
    """Return a text without its middle where it is too long for a sentence that somebody reads."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def unknown_name(setting: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not among those allowed."""
    names = sorted(allowed)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    why = f"'{value}' is unknown; allowed: {shown}.{did_you_mean(value, names)}"
    return ConfigError(why, setting=setting, value=value, allowed=names)


class BudgetSpent(GreaterRayError):  # noqa: N818 - an end, not an error
    """A limit of the ledger is reached: the step in progress is given up; the message is the name of the limit."""


class Interrupted(GreaterRayError):  # noqa: N818 - the user's wish, not an error
    """The user asked to stop: everything finished so far is saved, and the same command continues."""


class PoolError(GreaterRayError):
    """A pool of replicas cannot go on: no cell is to blame, and the same command tries again."""


class DeviceError(PoolError):
    """A process can compute nothing more on its GPU; another process can do the same work."""


class SetAsideError(GreaterRayError):
    """A shard ended the process of every replica that tried it, so it is not tried again."""

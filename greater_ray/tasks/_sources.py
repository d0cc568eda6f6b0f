"""Where rows come from: the hub or a local folder. Every problem is one sentence for a user."""

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from greater_ray.errors import ConfigError, DataError, did_you_mean

OFFLINE_CHOICES = "without a network set §task.data to synthetic or a folder, or give §task.rows"
PROBE_SECONDS = 3.0
SHORT_FLOATS = ("float32", "float16")
_MOST_DIGITS = 400  # a number beyond is left as it is written


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: ``index`` counts rows from 0, ``line`` counts lines of a file from 1 (0: no file)."""

    index: int
    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Rows and where they are from, as JSON for a record."""

    rows: tuple[Row, ...]
    origin: dict[str, Any]


def check_data_option(data: str) -> None:
    """Check where rows are to come from before anything is read.

    Raises:
        ConfigError: neither ``hub`` nor ``synthetic`` nor an existing folder.
    """
    if data in ("hub", "synthetic") or Path(data).is_dir():
        return
    hint = did_you_mean(data, ["hub", "synthetic"])
    raise ConfigError(
        f"'{data}' is neither 'hub' nor 'synthetic' nor an existing folder.{hint}", setting="task.data", value=data
    )


def _hub_url() -> SplitResult:
    """Address to which a request to the hub goes first: the proxy's if there is one."""
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = getproxies().get(endpoint.scheme)
    return urlsplit(proxy) if proxy and not proxy_bypass(endpoint.hostname or "") else endpoint


def hub_is_reachable(seconds: float = PROBE_SECONDS) -> bool:
    """Tell within ``seconds`` whether a connection to the hub (``HF_ENDPOINT``) or to the proxy can be opened.

    ``load_dataset`` itself tries for half a minute and longer. Done in a thread, because looking up a host name has no
    time limit of its own.
    """
    reached = threading.Event()

    def connect() -> None:
        try:
            url = _hub_url()
            port = url.port or (80 if url.scheme == "http" else 443)
            socket.create_connection((url.hostname, port), timeout=seconds).close()
        except (OSError, ValueError):  # ValueError: a port or host name that cannot be one
            return
        reached.set()

    prober = threading.Thread(target=connect, daemon=True)
    prober.start()
    prober.join(seconds)
    return reached.is_set()


def _refuse_no_hub(repository: str, setting: str) -> None:
    """Tell within seconds that the hub cannot be reached, where a data set is not at hand.

    Raises:
        DataError: neither the hub can be reached, nor is the data set a folder, nor is ``HF_HUB_OFFLINE`` set.
    """
    flags = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    offline = any(flag in {"1", "ON", "YES", "TRUE"} for flag in flags)
    if not offline and not Path(repository).is_dir() and not hub_is_reachable():
        host = _hub_url().hostname or "HF_ENDPOINT"
        raise DataError(
            f"'{repository}' of the hub cannot be loaded because {host} cannot be reached; {_choices(setting)} "
            "(or HF_HUB_OFFLINE=1 for a copy downloaded before).",
            setting=setting,
            value=repository,
        )


def _choices(setting: str) -> str:
    return OFFLINE_CHOICES if setting == "task.data" else "without a network give §task.rows a file"


def _unloadable(repository: str, error: Exception, setting: str) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return DataError(
        f"'{repository}' of the hub cannot be loaded ({reason}); {_choices(setting)}.",
        setting=setting,
        value=repository,
    )


def read_hub(
    repository: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    data_files: Mapping[str, str] | None = None,
) -> Source:
    """Read one split of a data set from the hub, or from its cache with ``HF_HUB_OFFLINE=1``.

    ``data_files`` are the repository's files of each split, where they cannot be told by their names.

    Raises:
        DataError: the hub cannot be reached, or the data set cannot be loaded.
    """
    _refuse_no_hub(repository, "task.data")
    import datasets

    try:
        table = datasets.load_dataset(repository, config, split=split, revision=revision, data_files=data_files)
        rows = tuple(Row(i, 0, values) for i, values in enumerate(table.to_list()))
    except Exception as error:
        raise _unloadable(repository, error, "task.data") from error
    origin = {"source": "hub", "location": repository, "config": config, "split": split, "rows": len(rows)}
    return Source(rows, origin if revision is None else {**origin, "revision": revision})


class HubSplit(NamedTuple):
    """One split of a data set: what reads its rows, one after the other, and where they are from."""

    rows: Callable[[], Iterator[Row]]
    origin: dict[str, Any]


def hub_splits(
    repository: str, config: str | None, revision: str | None, split: str | None, setting: str
) -> dict[str, HubSplit]:
    """Load a data set of the hub, or a folder that ``datasets`` can load: the split that is named, or all.

    Rows stay on the disk until they are read. Labels that a data set keeps as numbers with names are read as names.

    Raises:
        DataError: the hub cannot be reached, the data set cannot be loaded, or it has no such split.
    """
    _refuse_no_hub(repository, setting)
    import datasets

    try:
        builder = datasets.load_dataset_builder(repository, config, revision=revision)
        builder.download_and_prepare()
        names = [split] if split is not None else list(builder.info.splits)
        tables = {name: builder.as_dataset(split=name) for name in names}
    except Exception as error:
        raise _unloadable(repository, error, setting) from error
    origin = {"source": "hub", "location": f"hub:{repository}", "config": builder.config.name, "revision": revision}
    commit = {"commit": builder.hash} if re.fullmatch("[0-9a-f]{40}", builder.hash or "") else {}
    return {
        name: HubSplit(partial(_table_rows, table), {**origin, **commit, "split": name})
        for name, table in tables.items()
    }


def _table_rows(table: Any) -> Iterator[Row]:
    names = {column: kind.names for column, kind in table.features.items() if type(kind).__name__ == "ClassLabel"}
    short = {
        column: kind.dtype for column, kind in table.features.items() if getattr(kind, "dtype", "") in SHORT_FLOATS
    }
    index = 0
    for batch in table.iter(batch_size=200):
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            for column, known in names.items():
                number = row[column]
                row[column] = known[number] if number is not None and 0 <= number < len(known) else None
            for column, kind in short.items():
                row[column] = shortest(row[column], kind)
            yield Row(index, index + 1, row)
            index += 1


def find_file(folder: str, candidates: Sequence[str], name: str) -> Path:
    """Return the first of ``candidates`` that exists below ``folder``.

    Raises:
        DataError: there is none.
    """
    for candidate in candidates:
        path = Path(folder) / candidate
        if path.is_file():
            return path
    tried = " nor ".join(f"'{candidate}'" for candidate in candidates)
    raise DataError(f"folder '{folder}' holds neither {tried}, which '{name}' is read from.", setting="task.data")


def local_origin(path: Path, rows: int) -> dict[str, Any]:
    """Return where the rows of a file are from, with the hash of the file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": "local", "location": str(path), "sha256": digest, "rows": rows}


def read_bbh_json(path: Path) -> Source:
    """Read a task file of the official BIG-Bench-Hard release: ``{"examples": [{"input", "target"}, ...]}``.

    Raises:
        DataError: the file cannot be read or has another form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise DataError(f"'{path}' is empty.", setting="task.data", value=path)
        examples = json.loads(text)["examples"]
        rows = tuple(Row(i, 0, {"input": e["input"], "target": e["target"]}) for i, e in enumerate(examples))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}).", setting="task.data", value=path) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # also text that is not UTF-8
        form = '{"examples": [{"input": ..., "target": ...}, ...]}'
        raise DataError(
            f"'{path}' is not a BIG-Bench-Hard file of the form {form}.", setting="task.data", value=path
        ) from error
    return Source(rows, local_origin(path, len(rows)))


def shortest(value: float | None, kind: str) -> float | None:
    """Return a number of fewer bits as it was meant: 0.1, where as a double it reads 0.10000000149011612.

    Args:
        value: None or NaN where it is missing.
        kind: ``float32`` or ``float16``.
    """
    if value is None or value != value:
        return None
    import numpy

    return float(str(numpy.dtype(kind).type(value)))


def plain(value: Any) -> str:
    """Write one value of a row as text, a number without an exponent; what is missing is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN, as which pandas writes what is missing
        return ""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS:
        return format(value, "f")
    return str(value)

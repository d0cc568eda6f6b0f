"""Where rows come from: the hub, a local folder, a JSONL or a CSV file. Every problem is one sentence for a user."""

import csv
import hashlib
import io
import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from greater_ray.errors import ConfigError, DataError, Place, did_you_mean

OFFLINE_CHOICES = "without a network set §task.data to synthetic or a folder, or give §task.rows"
PROBE_SECONDS = 3.0
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
    raise ConfigError(f"'{data}' is neither 'hub' nor 'synthetic' nor an existing folder.{hint}", setting="task.data")


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
    flags = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    offline = any(flag in {"1", "ON", "YES", "TRUE"} for flag in flags)
    if not offline and not hub_is_reachable():
        host = _hub_url().hostname or "HF_ENDPOINT"
        raise DataError(
            f"'{repository}' of the hub cannot be loaded because {host} cannot be reached; {OFFLINE_CHOICES} "
            "(or HF_HUB_OFFLINE=1 for a copy downloaded before).",
            setting="task.data",
        )
    import datasets

    try:
        table = datasets.load_dataset(repository, config, split=split, revision=revision, data_files=data_files)
        rows = tuple(Row(i, 0, values) for i, values in enumerate(table.to_list()))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        why = f"'{repository}' of the hub cannot be loaded ({reason}); {OFFLINE_CHOICES}."
        raise DataError(why, setting="task.data") from error
    origin = {"source": "hub", "location": repository, "config": config, "split": split, "rows": len(rows)}
    return Source(rows, origin if revision is None else {**origin, "revision": revision})


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


def _read_text(path: Path, setting: str) -> str:
    """Read a UTF-8 file, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}).", setting=setting) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        place = Place(str(path), line)
        raise DataError("not UTF-8 text; save the file as UTF-8.", setting=setting, place=place) from error
    if not text.strip():
        raise DataError(f"'{path}' is empty.", setting=setting)
    return text


def _origin(path: Path, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"source": "local", "location": str(path), "sha256": digest, "rows": rows}


def read_bbh_json(path: Path) -> Source:
    """Read a task file of the official BIG-Bench-Hard release: ``{"examples": [{"input", "target"}, ...]}``.

    Raises:
        DataError: the file cannot be read or has another form.
    """
    try:
        examples = json.loads(_read_text(path, "task.data"))["examples"]
        rows = tuple(Row(i, 0, {"input": e["input"], "target": e["target"]}) for i, e in enumerate(examples))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        form = '{"examples": [{"input": ..., "target": ...}, ...]}'
        raise DataError(f"'{path}' is not a BIG-Bench-Hard file of the form {form}.", setting="task.data") from error
    return Source(rows, _origin(path, len(rows)))


def read_jsonl(path: Path, setting: str = "task.rows") -> Source:
    """Read one JSON object a line; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line is broken or no object.
    """
    rows: list[Row] = []
    # Only "\n" ends a line here: str.splitlines would also cut at U+2028, which may stand inside a JSON string.
    for number, line in enumerate(_read_text(path, setting).split("\n"), start=1):
        if not line.strip():
            continue
        rows.append(Row(len(rows), number, _object(line, setting, Place(str(path), number))))
    return Source(tuple(rows), _origin(path, len(rows)))


def _object(text: str, setting: str, place: Place) -> dict[str, Any]:
    """Read a JSON object; numbers keep the digits that are written, so that no float rewrites them.

    Raises:
        DataError: it is broken or no object, or a key stands in it twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"the key {twice!r} stands twice in one object.", setting=setting, place=place)
        return values

    try:
        values = json.loads(text, object_pairs_hook=unique, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError("not valid JSON.", setting=setting, place=place) from error
    if not isinstance(values, dict):
        raise DataError(f"must hold a JSON object, not a {type(values).__name__}.", setting=setting, place=place)
    return values


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def plain(value: Any) -> str:
    """Write one value of a row as text, a number without an exponent."""
    if value is None:
        return ""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS:
        return format(value, "f")
    return str(value)


def read_tsv(path: Path, setting: str = "task.rows") -> Source:
    """Read values with tabs in between, as ``read_csv`` does those with commas."""
    return read_csv(path, setting, delimiter="\t")


def read_parquet(path: Path, setting: str = "task.rows") -> Source:
    """Read a Parquet file; a line is the number of its row, from 1.

    Raises:
        DataError: the file cannot be read.
    """
    import pyarrow.parquet
    from pyarrow import ArrowException

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"'{path}' cannot be read ({reason}).", setting=setting) from error
    rows = tuple(Row(i, i + 1, values) for i, values in enumerate(table.to_pylist()))
    return Source(rows, _origin(path, len(rows)))


def read_csv(path: Path, setting: str = "task.rows", delimiter: str = ",") -> Source:
    """Read comma-separated values with a header line; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, a header stands twice, a row has more or fewer fields than the header, or
            all of its fields are empty.
    """
    reader = csv.reader(io.StringIO(_read_text(path, setting), newline=""), strict=True, delimiter=delimiter)
    header: list[str] = []
    rows: list[Row] = []
    start = 1
    try:
        for fields in reader:
            line, start = start, reader.line_num + 1
            if len(fields) < 2 and not "".join(fields).strip():
                continue
            if not any(field.strip() for field in fields):
                raise DataError("all fields are empty.", setting=setting, place=Place(str(path), line))
            if not header:
                header = [field.strip() for field in fields]
                twice = sorted({field for field in header if header.count(field) > 1})
                if twice:
                    why = f"column '{twice[0]}' stands twice in the header."
                    raise DataError(why, setting=setting, place=Place(str(path), line))
            elif len(fields) != len(header):
                why = f"has {len(fields)} fields, but the header has {len(header)}."
                raise DataError(why, setting=setting, place=Place(str(path), line))
            else:
                rows.append(Row(len(rows), line, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise DataError(f"not valid CSV ({error}).", setting=setting, place=Place(str(path), start)) from error
    return Source(tuple(rows), _origin(path, len(rows)))

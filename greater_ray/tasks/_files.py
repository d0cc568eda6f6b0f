"""Files of rows, read one row at a time: JSONL, CSV, TSV and Parquet. Every problem is one sentence with its line."""

import csv
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from greater_ray.errors import DataError, Place
from greater_ray.tasks._sources import Row, Source, local_origin, shortest

_LONGEST_FIELD = 2**31 - 1  # of a CSV file; Python's own limit of 131,072 characters is shorter than some documents
_BATCH = 200  # rows of a Parquet file that are in memory as Python values at once


def read_jsonl(path: Path, setting: str = "task.rows") -> Source:
    """Read all rows of a JSONL file.

    Raises:
        DataError: as ``jsonl_rows``.
    """
    rows = tuple(jsonl_rows(path, setting))
    return Source(rows, local_origin(path, len(rows)))


def jsonl_rows(path: Path, setting: str, *, numbers: bool = False) -> Iterator[Row]:
    """Read one JSON object a line; blank lines are skipped.

    ``numbers`` also takes NaN and Infinity, which Python's own writer writes and JSON does not know.

    Raises:
        DataError: the file cannot be read or is empty, or a line is broken or no object.
    """
    index = 0
    decoder = _decoder(float) if numbers else _DECODER
    try:
        with path.open("rb") as lines:
            # Bytes end a line at "\n" alone: str.splitlines would also cut at U+2028, which may stand in a JSON string.
            for number, line in enumerate(lines, start=1):
                text = _decoded(line, Place(str(path), number), setting)
                if number == 1:
                    text = text.removeprefix("\ufeff")
                if text.strip():
                    yield Row(index, number, _object(text, setting, Place(str(path), number), decoder))
                    index += 1
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    if not index:
        raise DataError(f"'{path}' is empty.", setting=setting, value=path)


def _unreadable(path: Path, setting: str, error: OSError) -> DataError:
    return DataError(f"'{path}' cannot be read ({error.strerror}).", setting=setting, value=path)


def _decoded(line: bytes, place: Place, setting: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text; save the file as UTF-8.", setting=setting, place=place) from error


def _object(text: str, setting: str, place: Place, decoder: json.JSONDecoder) -> dict[str, Any]:
    """Read a JSON object; numbers keep the digits that are written, so that no float rewrites them.

    Raises:
        DataError: it is broken or no object, or a key stands in it twice.
    """
    try:
        values = decoder.decode(text)
    except _TwiceError as error:
        why = f"the key {error.args[0]!r} stands twice in one object."
        raise DataError(why, setting=setting, place=place) from error
    except (ValueError, RecursionError) as error:
        raise DataError("not valid JSON.", setting=setting, place=place) from error
    if not isinstance(values, dict):
        raise DataError(f"must hold a JSON object, not a {type(values).__name__}.", setting=setting, place=place)
    return values


class _TwiceError(Exception):
    """A key that stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return values


def _integer(digits: str) -> int | Decimal:
    """Read an integer; Python makes no int of more than 4,300 digits."""
    return int(digits) if len(digits) < 4000 else Decimal(digits)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _decoder(constant: Callable[[str], Any]) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_int=_integer, parse_constant=constant)


# One for all lines: making one takes longer than reading a short line.
_DECODER = _decoder(_no_number)


def csv_rows(path: Path, setting: str, delimiter: str = ",") -> Iterator[Row]:
    """Read comma-separated values with a header line; blank lines are skipped.

    Raises:
        DataError: the file cannot be read or is empty, a header stands twice, a row has more or fewer fields than the
            header, or all of its fields are empty.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    header: list[str] = []
    index, start = 0, 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
            for fields in reader:
                line, start = start, reader.line_num + 1
                if not any(fields) or not any(field.strip() for field in fields):
                    if len(fields) < 2:
                        continue
                    raise DataError("all fields are empty.", setting=setting, place=Place(str(path), line))
                if not header:
                    header = [field.strip() for field in fields]
                    _refuse_twice(header, "in the header", setting, Place(str(path), line))
                elif len(fields) != len(header):
                    why = f"has {len(fields)} fields, but the header has {len(header)}."
                    raise DataError(why, setting=setting, place=Place(str(path), line))
                else:
                    yield Row(index, line, dict(zip(header, fields, strict=True)))
                    index += 1
    except csv.Error as error:
        raise DataError(f"not valid CSV ({error}).", setting=setting, place=Place(str(path), start)) from error
    except UnicodeDecodeError as error:  # of a piece of the file, so its position tells no line
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                _decoded(raw, Place(str(path), number), setting)
        raise DataError(f"'{path}' is not UTF-8 text.", setting=setting, value=path) from error
    except OSError as error:
        raise _unreadable(path, setting, error) from error
    if not index:
        raise DataError(
            f"'{path}' {'has a header but no rows' if header else 'is empty'}.", setting=setting, value=path
        )


def _refuse_twice(names: list[str], where: str, setting: str, place: Place) -> None:
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise DataError(f"column '{twice}' stands twice {where}.", setting=setting, place=place)


def parquet_rows(path: Path, setting: str) -> Iterator[Row]:
    """Read a Parquet file; a line is the number of its row, from 1.

    Raises:
        DataError: the file cannot be read, or a column stands in it twice.
    """
    import pyarrow.parquet
    from pyarrow import ArrowException

    index = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _refuse_twice(file.schema_arrow.names, "in the file", setting, Place(str(path)))
            kinds = {"float": "float32", "halffloat": "float16"}
            short = {field.name: kinds[str(field.type)] for field in file.schema_arrow if str(field.type) in kinds}
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    for name, kind in short.items():
                        values[name] = shortest(values[name], kind)
                    yield Row(index, index + 1, values)
                    index += 1
    except (OSError, ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"'{path}' cannot be read ({reason}).", setting=setting, value=path) from error


# Of every ending of a file's name: what reads its rows, given the path and the setting that named it.
READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": jsonl_rows,
    ".csv": csv_rows,
    ".tsv": partial(csv_rows, delimiter="\t"),
    ".parquet": parquet_rows,
}

"""Rows that a Python program has at hand: a pandas DataFrame, or mappings. They become a file named by its content."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from greater_ray.cache import cache_folder
from greater_ray.errors import DataError, StoreError
from greater_ray.files import make_folder, sync
from greater_ray.tasks._sources import SHORT_FLOATS, shortest


def keep_rows(rows: Any) -> str:
    """Write rows as JSONL into the user's cache and return the path: the same rows, the same path.

    So a run knows its rows by their content, and goes on in another process that has the same ones.

    Args:
        rows: a pandas DataFrame, or an iterable of mappings from column to value.

    Raises:
        DataError: there are none, or a value is no text, number, truth value or list of these.
        StoreError: the cache cannot be written.
    """
    records: Iterable[Any] = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    kinds = {str(column): str(kind) for column, kind in getattr(rows, "dtypes", {}).items()}
    short = {column: kind for column, kind in kinds.items() if kind in SHORT_FLOATS}
    lines = []
    for index, record in enumerate(records):
        if not isinstance(record, Mapping):
            why = f"row {index} is a {type(record).__name__}; give a DataFrame, or mappings from column to value."
            raise DataError(why, setting="rows")
        values = {str(column): _plain(value, index, column) for column, value in record.items()}
        values |= {column: shortest(values[column], kind) for column, kind in short.items()}
        lines.append(json.dumps(values, ensure_ascii=True, sort_keys=True) + "\n")
    if not lines:
        raise DataError("there are no rows.", setting="rows")
    text = "".join(lines)
    folder = cache_folder() / "rows"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            make_folder(folder)
            draft.write_text(text, encoding="utf-8")
            sync(draft)
            draft.replace(path)
            sync(folder)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            why = f"'{folder}' cannot be written ({error.strerror}); set GREATER_RAY_CACHE to another folder."
            raise StoreError(why, setting="rows") from error
    return str(path)


def _plain(value: Any, index: int, column: Any) -> Any:
    """Return a value as JSON has it; what pandas and numpy put around it is taken off, and what is missing is null."""
    if isinstance(value, list | tuple):
        return [_plain(each, index, column) for each in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        kind = str(getattr(value, "dtype", ""))
        single = kind in SHORT_FLOATS and getattr(value, "ndim", 0) == 0
        return shortest(value, kind) if single else _plain(value.tolist(), index, column)
    if value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, str | bool | int | float):
        return value
    why = f"row {index}: '{column}' is a {type(value).__name__}; give text, a number, a truth value or a list of these."
    raise DataError(why, setting="rows")

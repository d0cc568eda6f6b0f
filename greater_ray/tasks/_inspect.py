"""Logs of Inspect as rows: ``.eval`` and ``.json``. Every sample is a row once, however many epochs it was asked in."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from greater_ray.errors import DataError, Place
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._messages import last_turn, options_below
from greater_ray.tasks._sources import Row

TOLD = (
    "a log of Inspect; a sample's question is its input, of messages the user's last turn, with its choices below; "
    "the answer is its target; epochs count once"
)
ENDINGS = (".eval", ".json")
_ZSTANDARD = 93  # the compression of newer logs, which zipfile knows from Python 3.14 on
_ATTACHED = "attachment://"
_HEADERS = ("header.json", "_journal/start.json")  # the second one alone where an evaluation did not end


def inspect_rows(path: Path, setting: str) -> Iterator[Row]:
    """Read the samples of a log, in the order of its data set.

    Columns are ``question``, ``answer``, ``id``, ``metadata`` and ``metadata.<name>``. A line is a sample's number.

    Raises:
        DataError: the file cannot be read or is no log, or holds no samples; or a sample asks with more than text.
    """
    try:
        samples = _zipped(path, setting) if path.suffix.lower() == ".eval" else _plain(path, setting)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror or error}).", setting=setting, value=path) from error
    seen: set[str] = set()
    for number, sample in enumerate(samples, start=1):
        place = Place(str(path), number)
        if not isinstance(sample, dict) or not {"id", "input", "target"} <= sample.keys():
            raise DataError("is no sample of Inspect (id, input and target).", setting=setting, place=place)
        if (name := json.dumps(sample["id"])) not in seen:
            seen.add(name)
            yield Row(len(seen) - 1, number, _values(_with_attachments(sample), setting, place))
    if not seen:
        raise DataError(f"'{path}' is a log of Inspect without samples.", setting=setting, value=path)


def _plain(path: Path, setting: str) -> list[Any]:
    log = _decoded(path.read_bytes(), str(path), setting)
    if isinstance(log, dict) and {"eval", "status"} <= log.keys():
        return list(log.get("samples") or ())
    if isinstance(log, dict) and {"results", "configs"} <= log.keys():
        why = f"'{path}' holds results of lm-eval; the rows are in the file samples_*.jsonl beside it."
    else:
        why = (
            f"'{path}' is no log of Inspect, the only .json that is read; write other rows as JSONL, an object a line."
        )
    raise DataError(why, setting=setting)


def _zipped(path: Path, setting: str) -> list[Any]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            header = next((members[name] for name in _HEADERS if name in members), None)
            if header is None:
                raise DataError(f"'{path}' is no log of Inspect: it has no header.", setting=setting, value=path)
            told = _decoded(_content(archive, file, header), str(path), setting)
            samples = [
                _decoded(_content(archive, file, info), str(path), setting)
                for name, info in members.items()
                if name.startswith("samples/") and name.endswith(".json")
            ]
    # RuntimeError is zipfile's for what is encrypted, or packed in a way that it does not know.
    except (zipfile.BadZipFile, EOFError, RuntimeError, struct.error, zlib.error) as error:
        raise DataError(f"'{path}' is no whole log of Inspect ({error}).", setting=setting, value=path) from error
    # Samples stand in the order in which they ended.
    order = {json.dumps(name): k for k, name in enumerate(_ids(told))}
    return sorted(samples, key=lambda sample: order.get(json.dumps(_field(sample, "id")), len(order)))


def _ids(header: Any) -> list[Any]:
    found = _field(_field(_field(header, "eval"), "dataset"), "sample_ids")
    return found if isinstance(found, list) else []


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _content(archive: zipfile.ZipFile, file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Return a member of an archive.

    Raises:
        BadZipFile: it is damaged.
    """
    if member.compress_type != _ZSTANDARD:
        return archive.read(member)
    import pyarrow

    file.seek(member.header_offset)
    # The lengths of the name and of the extra field, between which and the data nothing stands.
    name, extra = struct.unpack("<26xHH", file.read(30))
    file.seek(name + extra, 1)
    try:
        packed = pyarrow.BufferReader(file.read(member.compress_size))
        content: bytes = pyarrow.CompressedInputStream(packed, "zstd").read(member.file_size)
    except OSError as error:
        raise zipfile.BadZipFile(f"{member.filename}: {error}") from error
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} is damaged")
    return content


def _decoded(content: bytes, path: str, setting: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # also bytes that are no UTF-8
        raise DataError(f"'{path}' holds what is not valid JSON.", setting=setting, value=path) from error


def _with_attachments(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put long texts, which a log keeps beside a sample, back into what a row is made of."""
    kept = sample.get("attachments") or {}

    def whole(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(_ATTACHED):
            return kept.get(value.removeprefix(_ATTACHED), value)
        if isinstance(value, list):
            return [whole(each) for each in value]
        return {key: whole(each) for key, each in value.items()} if isinstance(value, dict) else value

    used = ("id", "input", "target", "choices", "metadata")
    return {name: whole(sample[name]) for name in used if name in sample}


def _values(sample: Mapping[str, Any], setting: str, place: Place) -> dict[str, Any]:
    asked, target, choices = sample["input"], sample["target"], sample.get("choices")
    metadata = sample.get("metadata") or {}
    question = asked if isinstance(asked, str) else last_turn(asked or (), setting, place)
    own = metadata.get("question")
    if not isinstance(asked, str) and isinstance(own, str) and own.strip() and own in question:
        question = own  # as our own logs say which part of a turn is the question
    if choices:
        target = _letter(target, choices, setting, place)
        question = options_below(question, choices)
    return {
        "question": question,
        "answer": target,
        "id": sample["id"],
        "metadata": metadata,
        **{f"metadata.{name}": value for name, value in metadata.items()},
    }


def _letter(target: Any, choices: Any, setting: str, place: Place) -> str:
    """Return the letter of the right choice, as a log has it.

    Raises:
        DataError: there are several, or it is no letter of a choice, or choices are no texts or too many.
    """
    if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
        raise DataError("the choices are no list of texts.", setting=setting, place=place)
    letters = [target] if isinstance(target, str) else list(target or ())
    if len(letters) != 1:
        why = f"{len(letters)} of the choices are right; an answer is one letter."
        raise DataError(why, setting=setting, place=place, value=target)
    if len(choices) > len(LETTERS) or letters[0] not in tuple(LETTERS[: len(choices)]):
        why = f"the target {str(letters[0])[:40]!r} is no letter of the {len(choices)} choices."
        raise DataError(why, setting=setting, place=place, value=target)
    return str(letters[0])

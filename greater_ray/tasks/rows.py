"""A user's own questions and answers, from a JSONL, CSV, TSV or Parquet file."""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError, Place, did_you_mean
from greater_ray.protocols import Task
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._inference import answer_form, gold_label, refuse_equal_golds
from greater_ray.tasks._letters import LETTERS
from greater_ray.tasks._sources import Row, Source, plain, read_csv, read_jsonl, read_parquet, read_tsv
from greater_ray.tasks._splits import SPLITS, first_of_each, grouped, shuffled, sizes_for, whole_groups
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest
from greater_ray.tasks._templates import question_from
from greater_ray.types import Example

# What data sets call their splits.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "val", "validation", "eval"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Half of a surrogate pair has no form in UTF-8, and no tokenizer reads a NUL.
_NO_TEXT = re.compile("[\ud800-\udfff\x00]")
_READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".tsv": read_tsv, ".parquet": read_parquet}


def load(name: str, config: TaskConfig) -> Task:
    """Build a task from ``config.rows``. The file is read at once: the answer type may depend on it.

    Raises:
        ConfigError: no file is given, or the answer type is ambiguous.
        DataError: the file is missing, broken or has too few rows.
    """
    if config.rows is None:
        raise ConfigError(
            f"missing; '{name}' needs a file of your own: JSONL, CSV, TSV or Parquet.", setting="task.rows"
        )
    if config.data == "synthetic":
        raise ConfigError(f"'synthetic' does not go with '{name}', which reads §task.rows.", setting="task.data")
    path = Path(config.rows)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"'{path}' must end in {', '.join(_READERS)}.", setting="task.rows")
    source = reader(path)
    if not source.rows:
        raise DataError(f"'{path}' has a header but no rows.", setting="task.rows")
    _refuse_unseen_options(path, source.rows, config)
    pairs = [_pair(path, row, config) for row in source.rows]
    places = [Place(str(path), row.line) for row in source.rows]
    questions, answers = [question for question, _ in pairs], [golds[0] for _, golds in pairs]
    several = any(len(golds) > 1 for _, golds in pairs)
    form, how = answer_form(config, questions, answers, places, several=several)
    refuse_equal_golds(form, answers, places)
    ids = _ids(path, source.rows, config)
    examples = [_example(path, row, i, p, form) for row, i, p in zip(source.rows, ids, pairs, strict=True)]
    given = None if config.split_column is None else _given_splits(path, source.rows, config.split_column)
    return RowTask(name, form, partial(_split, source, examples, config, how, given), f"{name} ({path.name})")


def _cell(path: Path, row: Row, column: str, setting: str) -> str:
    """One value as text; true and 3 in JSON are as good as "True" and "3"."""
    place = Place(str(path), row.line)
    if column not in row.values:
        columns = [str(known) for known in row.values]
        why = f"no column '{column}' (§{setting}); columns: {', '.join(columns) or 'none'}."
        raise DataError(why + did_you_mean(column, columns), setting="task.rows", place=place, allowed=columns)
    return _text(row.values[column], place, column, setting)


def _text(value: Any, place: Place, column: str, setting: str) -> str:
    if not isinstance(value, str | int | float | Decimal | None):
        why = f"'{column}' must be text or a number, not a {type(value).__name__}."
        raise DataError(why, setting="task.rows", place=place, value=value)
    text = plain(value).strip()
    if (odd := _NO_TEXT.search(text)) is not None:
        why = f"'{column}' holds the character {odd[0]!a}, which is no text; correct the row."
        raise DataError(why, setting="task.rows", place=place)
    if not text:
        raise DataError(f"'{column}' is empty (§{setting}).", setting="task.rows", place=place)
    return text


def _pair(path: Path, row: Row, config: TaskConfig) -> tuple[str, tuple[str, ...]]:
    """Question and gold answers as text; with options, they stand below the question and the answer is a letter.

    A list in the answer column holds several right answers.
    """
    question = _question(path, row, config)
    if config.choices_column is None:
        column, setting = config.answer_column, "task.answer_column"
        value = row.values.get(column)
        if isinstance(value, list) and value:
            place = Place(str(path), row.line)
            return question, tuple(dict.fromkeys(_text(each, place, column, setting) for each in value))
        return question, (_cell(path, row, column, setting),)
    options = _options(path, row, config.choices_column)
    shown = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question}\nOptions:\n{shown}", (_letter(path, row, config.answer_column, options),)


def _question(path: Path, row: Row, config: TaskConfig) -> str:
    if config.question_template is None:
        return _cell(path, row, config.question_column, "task.question_column")
    place = Place(str(path), row.line)
    question = question_from(config.question_template, row.values, place)
    return _text(question, place, "the question", "task.question_template")


def _options(path: Path, row: Row, columns: str) -> list[str]:
    """Options of a choice: those of a column that holds a list, or one from each of several columns."""
    names = [name.strip() for name in columns.split(",")]
    value = row.values.get(names[0])
    if len(names) == 1 and isinstance(value, list):
        options = [plain(option).strip() for option in value]
    else:
        options = [_cell(path, row, name, "task.choices_column") for name in names]
    if not 2 <= len(options) <= len(LETTERS) or not all(options):
        why = f"'{columns}' must hold a list of 2 to {len(LETTERS)} options, or name columns that hold one each."
        raise DataError(why, setting="task.choices_column", place=Place(str(path), row.line), value=value)
    return options


def _letter(path: Path, row: Row, column: str, options: list[str]) -> str:
    """The letter of the gold option, which a file gives as a letter, as the option's text or as its index from 0."""
    text = _cell(path, row, column, "task.answer_column")
    index = int(text) if text.isdecimal() and int(text) < len(options) else None
    by_text = options.index(text) if options.count(text) == 1 else None
    letter = re.fullmatch(r"\(?([A-Z])\)?", text)
    if isinstance(row.values[column], int):
        place = index
    elif letter is not None and LETTERS.index(letter[1]) < len(options):
        place = LETTERS.index(letter[1])
    else:
        if None not in (by_text, index) and by_text != index:
            why = f"the answer {text!r} is the text of one option and the index of another; write its letter."
            raise DataError(why, setting="task.rows", place=Place(str(path), row.line), value=text)
        place = by_text if by_text is not None else index
    if place is None:
        why = f"the answer {text[:60]!r} is none of the {len(options)} options, no letter and no index of one."
        raise DataError(why, setting="task.rows", place=Place(str(path), row.line), value=text)
    return LETTERS[place]


def _refuse_unseen_options(path: Path, rows: Sequence[Row], config: TaskConfig) -> None:
    """Refuse to read answers to a choice whose options the model would not be shown.

    Raises:
        ConfigError: there are columns with options, and neither the options nor the answer type are set.
    """
    if config.choices_column is not None or config.answer_type is not None:
        return
    values = rows[0].values
    found = next((name for name in ("choices", "options") if name in values), None)
    if found is None and {"A", "B"} <= values.keys():
        found = ",".join(letter for letter in LETTERS if letter in values)
    if found is not None:
        raise ConfigError(
            f"'{path}' has options in '{found}', which the model would not be shown; set §task.choices_column to "
            f"'{found}', or §task.answer_type to read the answers without them.",
            setting="task.choices_column",
        )


def _example(path: Path, row: Row, name: str, pair: tuple[str, tuple[str, ...]], form: AnswerForm) -> Example:
    question, golds = pair
    label, *references = (gold_label(form, gold, Place(str(path), row.line)) for gold in golds)
    return Example(f"rows/{path.name}#{name}", question, golds[0], label, tuple(references))


def _ids(path: Path, rows: Sequence[Row], config: TaskConfig) -> list[str]:
    """Return the ids of rows: those of a column, which must differ, or their numbers from 0."""
    if config.id_column is None:
        return [str(row.index) for row in rows]
    seen: dict[str, int] = {}
    for row in rows:
        name = _cell(path, row, config.id_column, "task.id_column")
        if name in seen:
            why = f"the id {name!r} stands on line {seen[name]} already."
            raise DataError(why, setting="task.id_column", place=Place(str(path), row.line), value=name)
        seen[name] = row.line
    return list(seen)


def _given_splits(path: Path, rows: Sequence[Row], column: str) -> list[str]:
    """Return the split of every row, as a column tells it."""
    splits = []
    for row in rows:
        word = _cell(path, row, column, "task.split_column")
        if word.lower() not in SPLIT_WORDS:
            why = f"{word!r} is no split; allowed: {', '.join(SPLIT_WORDS)}."
            raise DataError(why, setting="task.split_column", place=Place(str(path), row.line), value=word)
        splits.append(SPLIT_WORDS[word.lower()])
    return splits


def _split(
    source: Source, examples: Sequence[Example], config: TaskConfig, how: str, given: Sequence[str] | None
) -> Loaded:
    """Split as a column tells, or in a seeded order; then rows with the same question always go to the same split."""
    where = f"'{source.origin['location']}'"
    groups = grouped([" ".join(example.question.split()) for example in examples])
    if given is not None:
        rows = {split: [e for e, own in zip(examples, given, strict=True) if own == split] for split in SPLITS}
        if not rows["train"]:
            raise DataError(f"{where} has no row for train.", setting="task.split_column", value=config.split_column)
        rule = f"column '{config.split_column}'"
    else:
        rows, rule = _drawn(where, examples, groups, config)
    chosen = first_of_each(rows, config, str(source.origin["location"]))
    columns = {example.id: row.values for example, row in zip(examples, source.rows, strict=True)}
    provenance: dict[str, Any] = {
        **source.origin,
        "source": "rows",
        "question_column": config.question_column,
        "answer_column": config.answer_column,
        "choices_column": config.choices_column,
        "answer_type_from": how,
        "split_rule": rule,
        "rows_sha256": digest(examples),
        "dropped": [],
        "duplicates": [[examples[i].id for i in group] for group in groups if len(group) > 1],
    }
    return Loaded(chosen["train"], chosen["dev"], chosen["test"], provenance, columns)


def _drawn(
    where: str, examples: Sequence[Example], groups: Sequence[Sequence[int]], config: TaskConfig
) -> tuple[dict[str, list[Example]], str]:
    sizes, rule = sizes_for(len(examples), config, where)
    places = whole_groups(shuffled(groups, config.seed, "split"), sizes)
    rows = {split: [examples[i] for i in places[split]] for split in SPLITS}
    if any(not rows[split] and sizes[split] for split in SPLITS):
        found = ", ".join(f"{split} {len(rows[split])} of {sizes[split]}" for split in SPLITS)
        raise DataError(
            f"{where} has {len(examples)} rows but only {len(groups)} different questions, which may not lie in two "
            f"splits ({found}).",
            setting="task.rows",
        )
    return rows, f"order drawn from seed {config.seed}; {rule}; equal questions in one split"


PLUGIN = Family(
    tasks=(TaskInfo("rows", None, (), "your own JSONL, CSV, TSV or Parquet file (--rows)", False),),
    load=load,
)

"""A user's own questions and answers: files (of rows, or records of other programs), or a data set of the hub."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, overload

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError, Place
from greater_ray.protocols import Task
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._inference import answer_form, gold_label, refuse_equal_golds
from greater_ray.tasks._parts import HUB, Part, parts_of, refuse_empty, stamps
from greater_ray.tasks._questions import cell, question_and_golds, refuse_unseen_options, split_of
from greater_ray.tasks._splits import SPLITS, first_of_each, grouped, shuffled, sizes_for, whole_groups
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest, digest_of_splits, refuse_split
from greater_ray.types import Example


def load(name: str, config: TaskConfig) -> Task:
    """Build a task from ``config.rows``. They are read at once: the answer type may depend on them.

    Raises:
        ConfigError: no rows are given, settings contradict each other, or the answer type is ambiguous.
        DataError: a file is missing, broken or has too few rows.
    """
    refuse_split(name, config, ())
    if config.rows is None and config.dev_rows is None and config.test_rows is None:
        why = f"missing; '{name}' needs a file of your own (JSONL, CSV, TSV or Parquet) or {HUB}ORG/NAME."
        raise ConfigError(why, setting="task.rows")
    if config.data == "synthetic":
        raise ConfigError(f"'synthetic' does not go with '{name}', which reads §task.rows.", setting="task.data")
    later = {"extractor": "plain", "reading": "generated", "train_size": None, "dev_size": None, "test_size": None}
    content = _content(config.model_copy(update={**later, "seed": 0}), stamps(config))
    return RowTask(name, content.form, partial(_split, content, config), f"{name} ({content.title})")


@dataclass(frozen=True, slots=True)
class _Content:
    """All rows of a user's own, before they are split; ``given`` is the split of each, where that is told."""

    title: str
    location: str
    examples: Sequence[Example]
    given: Sequence[str] | None
    rule: str
    form: AnswerForm
    form_from: str
    columns: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    sha256: str


class _Places(Sequence[Place]):
    """Where each row stands; made when asked for, since that is needed for errors alone."""

    def __init__(self) -> None:
        self.rows: list[tuple[Part, int]] = []

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Place: ...
    @overload
    def __getitem__(self, index: slice) -> list[Place]: ...
    def __getitem__(self, index: int | slice) -> Place | list[Place]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        part, line = self.rows[index]
        return Place(part.place, line)


# A run asks for its rows more than once, and every cell of a grid does.
@lru_cache(maxsize=2)
def _content(config: TaskConfig, stamped: tuple[tuple[int, int] | None, ...]) -> _Content:
    """Read all rows; ``stamped`` tells a file that has changed from what it was."""
    parts = parts_of(config)
    keep_columns = config.metric is not None and ":" in config.metric
    ids: list[str] = []
    questions: list[str] = []
    golds: list[tuple[str, ...]] = []
    splits: list[str] = []
    columns: list[Mapping[str, Any]] = []
    places = _Places()
    read: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        before = len(questions)
        front = f"rows/{part.split}/{part.label}" if part.split else f"rows/{part.label}"
        seen: dict[str, int] = {}
        for row in part.rows():
            if len(questions) == before:
                refuse_unseen_options(part, row, config)
            question, answers = question_and_golds(part, row, config)
            questions.append(question)
            golds.append(answers)
            ids.append(f"{front}#{_id(part, row, config.id_column, seen)}")
            places.rows.append((part, row.line))
            if part.split is not None:
                splits.append(part.split)
            elif config.split_column is not None:
                splits.append(split_of(part, row, config.split_column))
            if keep_columns:
                columns.append(row.values)
        if len(questions) == before:
            raise refuse_empty(part)
        read[part.split or "rows"] = part.origin(len(questions) - before)
    several = any(len(answers) > 1 for answers in golds)
    form, how = answer_form(config, questions, [answers[0] for answers in golds], places, several=several)
    refuse_equal_golds(form, [answers[0] for answers in golds], places)
    examples = _examples(ids, questions, golds, form, places)
    one = len(parts) == 1
    rule = f"column '{config.split_column}'" if one else "the splits as they are given"
    origin = dict(read[parts[0].split or "rows"])
    return _Content(
        title=parts[0].label,
        location=origin["location"],
        examples=examples,
        given=splits or None,
        rule=rule,
        form=form,
        form_from=how,
        columns=dict(zip(ids, columns, strict=True)) if keep_columns else {},
        provenance=origin if one else {"location": origin["location"], "rows": len(examples), "files": read},
        sha256=_digest(examples, splits, config.id_column is not None, columns),
    )


def _id(part: Part, row: Any, column: str | None, seen: dict[str, int]) -> str:
    """The id of a row: that of a column, in which all differ, or its number from 0."""
    if column is None:
        return str(row.index)
    name = cell(part, row, column, "task.id_column")
    if name in seen:
        why = f"the id {name!r} stands on line {seen[name]} already."
        raise DataError(why, setting="task.id_column", place=Place(part.place, row.line), value=name)
    seen[name] = row.line
    return name


def _examples(
    ids: Sequence[str],
    questions: Sequence[str],
    golds: Sequence[tuple[str, ...]],
    form: AnswerForm,
    places: Sequence[Place],
) -> list[Example]:
    labels: dict[str, str] = {}
    examples = []
    for index, (name, question, answers) in enumerate(zip(ids, questions, golds, strict=True)):
        for gold in answers:
            if gold not in labels:
                labels[gold] = gold_label(form, gold, places[index])
        label, *references = (labels[gold] for gold in answers)
        examples.append(Example(name, question, answers[0], label, tuple(references)))
    return examples


def _digest(
    examples: Sequence[Example], splits: Sequence[str], named: bool, columns: Sequence[Mapping[str, Any]]
) -> str:
    """Hash what a result depends on: questions and answers, and splits, ids and columns where they are told or used."""
    found = digest_of_splits(_by_split(examples, splits)) if splits else digest(examples)
    if not named and not columns:
        return found
    more = hashlib.sha256(found.encode())
    for example in examples if named else ():
        more.update(json.dumps(example.id).encode())
    for values in columns:
        more.update(json.dumps(values, default=str, sort_keys=True).encode())
    return more.hexdigest()


def _by_split(examples: Sequence[Example], splits: Sequence[str]) -> dict[str, list[Example]]:
    rows: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for example, split in zip(examples, splits, strict=True):
        rows[split].append(example)
    return rows


def _split(content: _Content, config: TaskConfig) -> Loaded:
    """Split as is told, or in a seeded order; then rows with the same question always go to the same split."""
    where, examples = f"'{content.location}'", content.examples
    groups = grouped([_without_blanks(example.question) for example in examples])
    if content.given is not None:
        rows, rule = _by_split(examples, content.given), content.rule
        if not rows["train"]:
            raise DataError(f"{where} has no row for train.", setting="task.split_column", value=config.split_column)
    else:
        rows, rule = _drawn(where, examples, groups, config)
    chosen = first_of_each(rows, config, content.location)
    provenance: dict[str, Any] = {
        **content.provenance,
        "source": "rows",
        "question_column": config.question_column,
        "answer_column": config.answer_column,
        "choices_column": config.choices_column,
        "answer_type_from": content.form_from,
        "split_rule": rule,
        "rows_sha256": content.sha256,
        "dropped": [],
        "duplicates": [[examples[i].id for i in group] for group in groups if len(group) > 1],
    }
    return Loaded(chosen["train"], chosen["dev"], chosen["test"], provenance, content.columns)


def _without_blanks(question: str) -> str:
    """Fold blanks; the very same text where that changes nothing, which keeps no second copy."""
    folded = " ".join(question.split())
    return question if folded == question else folded


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
    tasks=(
        TaskInfo(
            "rows",
            None,
            (),
            "your own JSONL, CSV, TSV or Parquet file, a log of Inspect, samples of lm-eval, or hub:ORG/NAME",
            False,
        ),
    ),
    load=load,
)

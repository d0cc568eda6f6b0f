"""What every task is made of: rows that are read once and on demand, and an answer form that reads replies."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from greater_ray.config import AnswerType, TaskConfig
from greater_ray.errors import ConfigError
from greater_ray.protocols import Score, Task
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._splits import SPLITS
from greater_ray.types import Example


class TaskInfo(NamedTuple):
    """One line of the list of tasks. ``answer_type`` is None where the rows decide.

    ``answer_tokens`` is how much room an answer needs where the default of ``decoding.max_answer_tokens`` is too small.
    """

    name: str
    answer_type: AnswerType | None
    groups: tuple[str, ...]
    description: str
    synthetic: bool
    answer_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks that are built the same way. A module of this package is a family if it holds one as ``PLUGIN``.

    ``aliases`` maps other names, for instance those of lm-eval, to the names of ``tasks``; ``load`` gets the name and
    the config and does not touch the rows.
    """

    tasks: tuple[TaskInfo, ...]
    load: Callable[[str, TaskConfig], Task]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a task, split, and where they are from. ``columns`` are a user's own, by the id of the row."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    provenance: dict[str, Any]
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class RowTask:
    """A task over labelled rows. The rows are read at the first use, so building a task costs nothing.

    ``reading`` ``"likelihood"`` takes the likeliest of ``choices`` for the answer. ``title`` names the task to people:
    made rows are never titled like the benchmark whose form they have.
    """

    def __init__(self, name: str, form: AnswerForm, loader: Callable[[], Loaded], title: str | None = None):
        self.name = name
        self.title = title or name
        self.form = form
        self.answer_type: str = form.type
        self.reading = "generated"
        self._loader = loader
        self._provenance: dict[str, Any] | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """All labels, where the answers are a closed set."""
        return self.form.choices

    @property
    def metric(self) -> str:
        """What scores answers: accuracy where they are right or wrong."""
        name = self.form.metric.name
        return "accuracy" if name in ("exact", "contains", "regex") else name

    @cached_property
    def _loaded(self) -> Loaded:
        return self._loader()

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the rows are from, how they were split, and which were left out."""
        if self._provenance is None:
            loaded = self._loaded
            counts = {"train": len(loaded.train), "dev": len(loaded.dev), "test": len(loaded.test)}
            self._provenance = {
                "task": self.title,
                "answer_type": self.answer_type,
                **({"choices": list(self.choices)} if self.answer_type == "choice" else {}),
                **({"metric": self.form.metric.name} if self.form.metric.name != "exact" else {}),
                **loaded.provenance,
                "counts": counts,
            }
        return self._provenance

    @provenance.setter
    def provenance(self, value: dict[str, Any]) -> None:  # a plain attribute in the protocol, so it can be set
        self._provenance = value

    def train(self) -> list[Example]:
        """Rows that an optimizer learns from."""
        return list(self._loaded.train)

    def dev(self) -> list[Example]:
        """Rows for choosing among finished prompts."""
        return list(self._loaded.dev)

    def test(self) -> list[Example]:
        """Rows for the final evaluation alone."""
        return list(self._loaded.test)

    def score(self, example: Example, reasoning_text: str, answer_text: str) -> Score:
        """Read the answer after the extractor and, beside it, strictly from the reasoning alone."""
        prediction = self.form.read(answer_text)
        strict = self.form.read_last(reasoning_text)
        columns = {"id": example.id, "question": example.question, "answer": example.target}
        row = columns | dict(self._loaded.columns.get(example.id, {})) if self.form.metric.own else None
        return Score(
            score=self.form.score(prediction, example.label, example.references, row),
            prediction=prediction,
            strict_score=self.form.score(strict, example.label, example.references, row),
            strict_prediction=strict,
        )


_FOR_ROWS = (
    "question_column", "answer_column", "question_template", "id_column", "split_column", "choices_column", "choices",
    "metric", "tolerance",
    "dev_rows", "test_rows", "rows_split", "rows_revision",
)  # fmt: skip


def refuse_other_type(name: str, config: TaskConfig, form: AnswerForm, splits: Sequence[str] = ()) -> None:
    """Refuse settings that would silently have no effect on a task with a fixed form.

    Args:
        splits: the rules of ``task.split`` that the task knows beside its own.

    Raises:
        ConfigError: ``answer_type`` differs from the task's own, a split rule is set that the task does not know, or
            something is set that goes with a user's own rows.
    """
    refuse_split(name, config, splits)
    if config.answer_type not in (None, form.type):
        raise ConfigError(
            f"answers of '{name}' are '{form.type}', not '{config.answer_type}'.", setting="task.answer_type"
        )
    for key in _FOR_ROWS:
        if getattr(config, key) != TaskConfig.model_fields[key].default:
            why = f"goes with rows of one's own (§task.rows), not with '{name}'."
            raise ConfigError(why, setting=f"task.{key}", value=getattr(config, key))
    if config.rows is not None:
        raise ConfigError(
            f"'{config.rows}' goes with §task.name rows, not with '{name}'.", setting="task.rows", value=config.rows
        )


def refuse_split(name: str, config: TaskConfig, known: Sequence[str]) -> None:
    """Refuse a split rule that a task does not know.

    Raises:
        ConfigError: ``task.split`` is set, and to none of ``known``.
    """
    if config.split is not None and config.split not in known:
        allowed = f"it knows {' and '.join(known)} beside its own rule" if known else "it has one rule alone"
        why = f"'{config.split}' is no split rule of '{name}'; {allowed}."
        raise ConfigError(why, setting="task.split", value=config.split, allowed=known)


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 of questions and gold answers: the same rows have the same digest, wherever they were read from."""
    found = hashlib.sha256(b"[")
    for start in range(0, len(examples), 1000):  # in pieces: the text of all rows together may be large
        text = _JSON.encode([[e.question, e.target, *e.references] for e in examples[start : start + 1000]])
        # A lone surrogate is valid in JSON input and has no UTF-8 form.
        found.update((("," if start else "") + text[1:-1]).encode(errors="surrogatepass"))
    found.update(b"]")
    return found.hexdigest()


def digest_of_splits(rows: Mapping[str, Sequence[Example]]) -> str:
    """SHA-256 of rows whose split is given: one that moves to another split changes it."""
    return hashlib.sha256("".join(f"{split}:{digest(rows[split])}\n" for split in SPLITS).encode()).hexdigest()

"""What to run: frozen pydantic models that refuse unknown keys, read from YAML and overridden by ``key=value``.

The identity of a trial is a hash of what changes its result: the same from a config and from a record's config.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.errors import ConfigError, Place, did_you_mean
from greater_ray.types import PLACEMENTS, SLOTS, TEMPLATE_DATE, Layout

AnswerType = Literal["letter", "boolean", "yes-no", "valid-invalid", "choice", "number", "text"]


class Config(BaseModel, frozen=True, extra="forbid"):
    """Base of every configuration: frozen, unknown keys refused."""


def _split_at_commas(value: Any) -> Any:
    """Take ``a, b`` for a list of two: the form of the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class ModelConfig(Config):
    """Which model, and how it is held. Set ``threads`` to repeat a run to the last bit on a machine of other size."""

    name: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    threads: int | None = Field(default=None, ge=1)


class TaskConfig(Config):
    """Which rows, where from, and how answers are read.

    ``data`` is ``hub``, ``synthetic`` or a local folder; ``rows`` is a user's own file, with ``dev_rows`` and
    ``test_rows`` for other splits, or ``hub:ORG/NAME:CONFIG``: a data set of the hub, of which ``rows_split`` names one
    split (else it is used with its own splits) and ``rows_revision`` a commit. ``question_template`` puts a
    question together from columns (``{title}``, or jinja2); ``id_column`` and ``split_column`` name the columns of ids
    and splits. ``choices_column`` names the column with a list of options, or several columns with commas in between.
    ``choices`` are the labels of a closed set (answer type ``choice``), ``metric`` scores text, ``tolerance`` is how
    far a number may be off: absolute below 1, relative above. With ``reading`` ``likelihood`` the likeliest choice is
    taken for the answer, and what was generated is read beside it. A split size of None means the task's own rule.
    ``split`` is another rule for a benchmark: ``gpo`` takes the rows of GPO's authors as they are, ``gpo-sizes`` as
    many rows by position.
    """

    name: str
    data: str = "hub"
    split: Literal["gpo", "gpo-sizes"] | None = None
    rows: str | None = None
    dev_rows: str | None = None
    test_rows: str | None = None
    rows_split: str | None = None
    rows_revision: str | None = None
    question_column: str = "question"
    question_template: str | None = None
    id_column: str | None = None
    split_column: str | None = None
    answer_column: str = "answer"
    choices_column: str | None = None
    answer_type: AnswerType | None = None
    choices: Annotated[tuple[str, ...] | None, BeforeValidator(_split_at_commas)] = None
    metric: str | None = None
    tolerance: float = Field(default=0.0, ge=0, le=1)
    reading: Literal["generated", "likelihood"] = "generated"
    train_size: int | None = Field(default=None, ge=1)
    dev_size: int | None = Field(default=None, ge=0)
    test_size: int | None = Field(default=None, ge=0)
    seed: int = 0
    extractor: str = "plain"


class LayoutConfig(Config):
    """The text around the prompt: between x and p, in front of p, and between reasoning and extractor.

    ``placement`` is where ``frozen_prefix`` and p stand: ``after`` the question, ``before`` it, in the ``system``
    message, or where a text with ``{question}`` and ``{prompt}`` has them. ``system`` is a fixed system message.
    ``thinking`` switches a model's thoughts on or off where its chat template can; None leaves it to the template.
    ``date`` (YYYY-MM-DD) is what a chat template that writes a date takes for today, and ``chat_template_kwargs`` are
    further arguments of the template.
    """

    joint: str = " "
    frozen_prefix: str = "Use"
    glue: str = " "
    placement: str = "after"
    system: str | None = None
    thinking: bool | None = None
    date: str = TEMPLATE_DATE
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("date")
    @classmethod
    def _one_day(cls, value: str) -> str:
        try:
            date.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("date", "input should be a day, written YYYY-MM-DD") from None
        return value

    @field_validator("placement")
    @classmethod
    def _both_slots(cls, value: str) -> str:
        if value not in PLACEMENTS and any(value.count(slot) != 1 for slot in SLOTS):
            allowed = f"{', '.join(PLACEMENTS)} or a text with {' and '.join(SLOTS)}, each once"
            raise PydanticCustomError("placement", "input should be {allowed}", {"allowed": allowed})
        return value

    @field_validator("system")
    @classmethod
    def _one_system_message(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("placement") == "system":
            raise PydanticCustomError(
                "system",
                "goes with every §layout.placement but 'system', where the prompt is the system message; a text in "
                "front of it is §layout.frozen_prefix",
            )
        return value


class DecodingConfig(Config):
    """How much the model may write, in tokens. The paper's code allows 1024 of reasoning."""

    max_reasoning_tokens: int = Field(default=1024, ge=1)
    max_answer_tokens: int = Field(default=10, ge=1)


class Budget(Config):
    """When to stop: whichever comes first. What is counted is the optimization, not the final evaluation.

    ``seconds`` is the wall time of the whole search; ``optimizer_*`` counts the writer, everything else the task model.
    ``calls`` are rows, ``prompt_tokens`` those that are read, ``forward_tokens`` all but those of backward passes,
    ``model_seconds`` and ``optimizer_seconds`` the time of that model's calls. A step that reaches a limit of the
    ledger is given up at the next batch of work, so a limit is passed by one batch at most. None lifts a preset's
    limit.
    """

    steps: int | None = Field(default=None, ge=0)
    patience: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    calls: int | None = Field(default=None, ge=1)
    prompt_tokens: int | None = Field(default=None, ge=1)
    generated_tokens: int | None = Field(default=None, ge=1)
    forward_tokens: int | None = Field(default=None, ge=1)
    backward_tokens: int | None = Field(default=None, ge=1)
    model_seconds: float | None = Field(default=None, gt=0)
    optimizer_calls: int | None = Field(default=None, ge=1)
    optimizer_tokens: int | None = Field(default=None, ge=1)
    optimizer_prompt_tokens: int | None = Field(default=None, ge=1)
    optimizer_generated_tokens: int | None = Field(default=None, ge=1)
    optimizer_seconds: float | None = Field(default=None, gt=0)


class EvaluationConfig(Config):
    """What is measured at the end. ``dev_select_top`` chooses among that many best prompts by dev accuracy."""

    splits: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")
    dev_select_top: int = Field(default=0, ge=0, le=10)


# Keys that version 0.1.0 did not know, with the value that stands for what it did: with that value they are no part of
# a trial's identity, so that what was run before is found again.
_LATER_KEYS: tuple[tuple[str, str, Any], ...] = (
    ("task", "split", None),
    ("task", "dev_rows", None),
    ("task", "test_rows", None),
    ("task", "rows_split", None),
    ("task", "rows_revision", None),
    ("task", "choices_column", None),
    ("task", "question_template", None),
    ("task", "id_column", None),
    ("task", "split_column", None),
    ("task", "choices", None),
    ("task", "metric", None),
    ("task", "tolerance", 0.0),
    ("task", "reading", "generated"),
    ("layout", "placement", "after"),
    ("layout", "system", None),
    ("layout", "date", TEMPLATE_DATE),
    ("layout", "chat_template_kwargs", {}),
    ("layout", "thinking", None),
    ("method_config", "label_loss", "ce"),
)


class TrialConfig(Config):
    """One optimization, complete: the same config gives the same result.

    ``optimizer_model`` writes prompts and critiques for methods that ask for text; None means the task model itself.
    """

    model: ModelConfig
    task: TaskConfig
    method: str = "greater"
    preset: str = "paper"
    method_config: dict[str, Any] = Field(default_factory=dict)
    layout: LayoutConfig = LayoutConfig()
    decoding: DecodingConfig = DecodingConfig()
    budget: Budget = Budget()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(default=0, ge=0)
    shard_size: int = Field(default=25, ge=1)
    optimizer_model: ModelConfig | None = None

    def trial_id(self) -> str:
        """Return 16 hex digits that identify what this config computes, whatever folder or machine it runs in."""
        value = self.model_dump(mode="json")
        for section, key, before in _LATER_KEYS:
            if key in value[section] and value[section][key] == before:
                del value[section][key]
        return fingerprint(value)

    def make_layout(self, extractor: str, label_prefix: str, choices: tuple[str, ...] = ()) -> Layout:
        """Return all the text around the prompt, given what the task's extractor stands for (``tasks.Extractor``)."""
        decoding = self.decoding
        return Layout(
            extractor=extractor,
            label_prefix=label_prefix,
            choices=choices,
            joint=self.layout.joint,
            frozen_prefix=self.layout.frozen_prefix,
            glue=self.layout.glue,
            placement=self.layout.placement,
            system=self.layout.system,
            thinking=self.layout.thinking,
            date=self.layout.date,
            template_kwargs=tuple((k, json.dumps(v)) for k, v in sorted(self.layout.chat_template_kwargs.items())),
            max_reasoning_tokens=decoding.max_reasoning_tokens,
            max_answer_tokens=decoding.max_answer_tokens,
        )


def fingerprint(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(config_type: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    """Validate ``values`` and turn the first problem into one sentence.

    Raises:
        ConfigError: an unknown key (with the closest known one) or a value that is not allowed.
    """
    try:
        return config_type.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        option = f"{where}.{path}" if where else path
        if first["type"] == "extra_forbidden":
            allowed = _keys_at(config_type, first["loc"][:-1])
            hint = did_you_mean(str(first["loc"][-1]), allowed)
            why = f"unknown option; allowed: {', '.join(allowed)}.{hint}"
            raise ConfigError(why, setting=option, allowed=allowed) from None
        if first["type"] == "missing":
            raise ConfigError("missing.", setting=option) from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"{message}, not {first['input']!r}.", setting=option, value=first["input"]) from None


def _keys_at(config_type: type[BaseModel], location: Iterable[Any]) -> list[str]:
    """Return the field names of the (nested) config at ``location``."""
    current: Any = config_type
    for part in location:
        annotation = current.model_fields[part].annotation if part in getattr(current, "model_fields", {}) else current
        # The entries of a tuple, or what may be None.
        inner = [kind for kind in get_args(annotation) if hasattr(kind, "model_fields")]
        current = inner[0] if inner else annotation
    return sorted(getattr(current, "model_fields", {}))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}).", setting="config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(str(path), mark.line + 1 if mark is not None else None)
        raise ConfigError("not valid YAML.", setting="config", place=place) from error
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold a mapping of options, not {type(values).__name__}.", setting="config")
    return values


def line_in_yaml(path: Path, setting: str, below: str | None = None) -> int | None:
    """Return the line, from 1, on which a YAML file sets ``setting`` or the nearest key above it.

    With ``below`` the setting is looked for under that key of the file. None: not even its first part stands there.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if below is not None:
        node = _child(node, below)[1]
    line = None
    for part in setting.split("."):
        found, node = _child(node, part)
        if found is None:
            break
        line = found
    return line


def _child(node: Any, part: str) -> tuple[int | None, Any]:
    """Return the line and the node of a key of a mapping, or of an entry of a list by its number."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return int(key.start_mark.line) + 1, value
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        entry = node.value[int(part)]
        return int(entry.start_mark.line) + 1, entry
    return None, None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; later layers win. None does not override, but under ``budget``, where it lifts a limit."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                found = result.get(key)
                below = found if isinstance(found, Mapping) else {}
                result[key] = {**below, **value} if key == "budget" else merged(below, value)
            elif value is not None or key not in result:
                result[key] = value
    return result


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["task.seed=3", "method_config.top_k=20"]`` into a nested mapping; values are YAML.

    Raises:
        ConfigError: an assignment without ``=`` or with an empty key.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"'{assignment}' must have the form key=value, for instance method_config.top_k=20.", setting="set"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    f"'{assignment}' sets a value below '{parent}', which is already a value.", setting="set"
                )
            node = child
        node[last] = value
    return result

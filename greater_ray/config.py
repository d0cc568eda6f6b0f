"""What to run: frozen pydantic models that refuse unknown keys.

The identity of a trial is a hash of what changes its result: the same from a config and from a record's config.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.errors import ConfigError, did_you_mean
from greater_ray.types import PLACEMENTS, SLOTS, TEMPLATE_DATE, Demonstration, Layout

AnswerType = Literal["letter", "boolean", "yes-no", "valid-invalid", "choice", "number", "text"]


# The type of an error whose value may hold a password, which no message must show.
_MAY_BE_SECRET = "may_be_secret"


class Config(BaseModel, frozen=True, extra="forbid"):
    """Base of every configuration: frozen, unknown keys refused."""


def _split_at_commas(value: Any) -> Any:
    """Take ``a, b`` for a list of two: the form of the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class EndpointConfig(Config):
    """How a server is asked, for a model ``openai/NAME``. Only ``answers`` changes results and is part of identity.

    ``base_url`` is where it is (None: the environment variable OPENAI_BASE_URL), ``api_key_env`` the environment
    variable with its key. At most ``concurrency`` requests are open at a time, per run or cell of a grid; one may take
    ``timeout`` seconds and is repeated ``retries`` times. ``answers`` is how the answer is asked for once the model has
    reasoned: ``continue`` has it go on after the extractor, which not every server can, ``turn`` asks it in a turn of
    its own, and ``auto`` continues where the server is known to do so.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=8, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=8, ge=0)
    answers: Literal["auto", "continue", "turn"] = "auto"

    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str) -> str:
        if not re.fullmatch("[A-Z_][A-Z0-9_]*", value):
            why = (
                "input should be the name of an environment variable, in capitals; the key itself stands in no setting"
            )
            raise PydanticCustomError(_MAY_BE_SECRET, why)
        return value

    @field_validator("base_url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        if value is not None and (not re.match(r"https?://[^/]", value) or re.search(r"[@?#]", value)):
            why = "input should be http(s)://HOST[:PORT]/PATH without a user or a query"
            raise PydanticCustomError(_MAY_BE_SECRET, why)
        return value


class ModelConfig(Config):
    """Which model, and how it is held. Set ``threads`` to repeat a run to the last bit on a machine of other size.

    Weights are read from safetensors; ``weights`` ``pickle`` reads ``pytorch_model*.bin``, which is for files that you
    trust. ``endpoint`` is for a model that a server computes, ``openai/NAME``; then nothing else applies.
    """

    name: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    threads: int | None = Field(default=None, ge=1)
    weights: Literal["safetensors", "pickle"] = "safetensors"
    endpoint: EndpointConfig | None = None


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
    further arguments of the template. ``extractor_turn`` asks for the answer in a user's turn of its own.
    """

    joint: str = " "
    frozen_prefix: str = "Use"
    glue: str = " "
    placement: str = "after"
    system: str | None = None
    thinking: bool | None = None
    date: str = TEMPLATE_DATE
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    extractor_turn: bool = False

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


class GivenDemonstration(Config):
    """A worked example of one's own; ``answer`` is written as it would follow the extractor."""

    question: str
    answer: str
    rationale: str | None = None


def given(shown: Iterable[GivenDemonstration]) -> tuple[Demonstration, ...]:
    """Return worked examples of one's own as they are shown."""
    return tuple(Demonstration(f"given#{k}", d.question, d.answer, d.rationale) for k, d in enumerate(shown, 1))


class EvaluationConfig(Config):
    """What is measured at the end. ``dev_select_top`` chooses among that many best prompts by dev accuracy.

    ``demonstrations`` are shown in front of every question that is answered here, as turns: so many training rows,
    drawn by the seed, or those that are given. With ``nearest`` they are a pool, by default all training rows, of which
    every question is shown so many: those most like it.
    """

    splits: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")
    dev_select_top: int = Field(default=0, ge=0, le=10)
    demonstrations: int | tuple[GivenDemonstration, ...] = 0
    nearest: int = Field(default=0, ge=0)

    @field_validator("demonstrations", mode="before")
    @classmethod
    def _number_or_given(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        try:
            return tuple(map(GivenDemonstration.model_validate, value)) or 0
        except (TypeError, ValidationError):
            allowed = "a number of training rows, or a list of {question, answer, rationale}"
            raise PydanticCustomError("demonstrations", "input should be {allowed}", {"allowed": allowed}) from None


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
    ("layout", "extractor_turn", False),
    ("evaluation", "demonstrations", 0),
    ("evaluation", "nearest", 0),
    ("method_config", "demonstrations", []),
    ("method_config", "nearest", 0),
    ("method_config", "selection", "random"),
    ("method_config", "form", "text"),
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
        for model in filter(None, (value["model"], value["optimizer_model"])):
            # Where a server is, and how it is asked for how long, changes no answer.
            endpoint = model.pop("endpoint")
            if model["weights"] == "safetensors":
                del model["weights"]  # all that there was before
            if endpoint is not None and endpoint["answers"] != "auto":
                model["answers"] = endpoint["answers"]
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
            extractor_turn=self.layout.extractor_turn,
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
        if first["type"] == _MAY_BE_SECRET or first["loc"][-1:] in (("endpoint",), ("base_url",), ("api_key_env",)):
            raise ConfigError(f"{message}.", setting=option) from None
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

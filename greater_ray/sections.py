"""The sections of a trial's config, option by option: frozen pydantic models that refuse unknown keys.

Every option has a description: the JSON Schema and the reference of the documentation are made from them.
"""

import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from greater_ray.types import PLACEMENTS, SLOTS, TEMPLATE_DATE, Demonstration

AnswerType = Literal["letter", "boolean", "yes-no", "valid-invalid", "choice", "number", "text"]

# The type of an error whose value may hold a password, which no message must show.
MAY_BE_SECRET = "may_be_secret"


# A text that names something: an empty one, as an unset variable of a shell gives, names nothing.
Name = Annotated[str, Field(min_length=1)]


class Config(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Base of every configuration: frozen, unknown keys refused, numbers finite."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``yes`` where a number stands: it would count as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
            raise PydanticCustomError("number", "input should be a number")
        return value


def _split_at_commas(value: Any) -> Any:
    """Take ``a, b`` for a list of two: the form of the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class EndpointConfig(Config):
    """How a server is asked, for a model ``openai/NAME``. Only ``answers`` changes results and is part of identity."""

    base_url: str | None = Field(
        default=None, description="Where the server is; none: the environment variable OPENAI_BASE_URL."
    )
    api_key_env: str = Field(default="OPENAI_API_KEY", description="The environment variable that holds its key.")
    concurrency: int = Field(default=8, ge=1, description="Requests open at a time, per run or cell of a grid.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds that one request may take.")
    retries: int = Field(default=8, ge=0, description="How often a request that failed is repeated.")
    answers: Literal["auto", "continue", "turn"] = Field(
        default="auto",
        description="How the answer is asked for once the model has reasoned: `continue` has it go on after the "
        "extractor, which not every server can, `turn` asks in a turn of its own, `auto` continues where the server is "
        "known to do so.",
    )

    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str) -> str:
        if not re.fullmatch("[A-Z_][A-Z0-9_]*", value):
            why = (
                "input should be the name of an environment variable, in capitals; the key itself stands in no setting"
            )
            raise PydanticCustomError(MAY_BE_SECRET, why)
        return value

    @field_validator("base_url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        if value is not None and (not re.match(r"https?://[^/]", value) or re.search(r"[@?#]", value)):
            why = "input should be http(s)://HOST[:PORT]/PATH without a user or a query"
            raise PydanticCustomError(MAY_BE_SECRET, why)
        return value


class ModelConfig(Config):
    """Which model, and how it is held."""

    name: str = Field(description="A built-in name, a folder, a GGUF file, a hub id `org/name`, or `openai/NAME`.")
    revision: Name | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = Field(
        default="auto",
        description="Numbers of the weights; `auto` is float32 on a CPU, elsewhere as saved. `bfloat16` is faster on "
        "CPUs that have it; decisions are taken in float32 all the same.",
    )
    device: str = Field(
        default="auto",
        description="`auto`, `cpu`, `cuda`, `cuda:1`, ...; `cuda:0,cuda:1` spreads the layers over GPUs.",
    )
    quantization: Literal["4bit", "8bit"] | None = Field(
        default=None,
        description="Quantize the weights while they are read, with the package bitsandbytes; none: as saved.",
    )
    attn_implementation: Name | None = Field(
        default=None, description="`sdpa` or `eager`; none: what transformers has."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Threads of the CPU. Set it to repeat a run to the last bit on a machine of other size.",
    )
    weights: Literal["safetensors", "pickle"] = Field(
        default="safetensors",
        description="`pickle` reads `pytorch_model*.bin`, which is for files that you trust.",
    )
    endpoint: EndpointConfig | None = Field(
        default=None, description="For a model that a server computes, `openai/NAME`; then only the name applies too."
    )


class TaskConfig(Config):
    """Which rows, where from, and how answers are read."""

    name: str = Field(description="A task of `greater-ray list tasks`, or `package.module:Name`; `rows` for own rows.")
    data: str = Field(
        default="hub", description="`hub`, `synthetic` (made by a generator), or a folder with official files."
    )
    split: Literal["gpo", "gpo-sizes"] | None = Field(
        default=None,
        description="Another rule for the splits of a benchmark: `gpo` takes the rows of GPO's authors as they are, "
        "`gpo-sizes` as many rows by position.",
    )
    rows: Name | None = Field(
        default=None,
        description="Rows of one's own: JSONL, CSV, TSV or Parquet, or a data set of the hub: `hub:ORG/NAME:CONFIG`.",
    )
    dev_rows: Name | None = Field(default=None, description="Own rows for dev, where `rows` has those for train.")
    test_rows: Name | None = Field(default=None, description="Own rows for test, likewise.")
    rows_split: Name | None = Field(
        default=None, description="The one split to take of a hub data set; none: its own splits are used."
    )
    rows_revision: Name | None = Field(default=None, description="Commit, tag or branch of a hub data set.")
    question_column: Name = Field(default="question", description="Column of the questions.")
    question_template: Name | None = Field(
        default=None, description="A question from several columns, each in braces (`{title}`); or jinja2."
    )
    id_column: Name | None = Field(default=None, description="Column of the rows' ids; none: their numbers.")
    split_column: Name | None = Field(default=None, description="Column that says train, dev or test.")
    answer_column: Name = Field(default="answer", description="Column of the answers.")
    choices_column: Name | None = Field(
        default=None, description="Column with a list of options, or several columns with commas in between."
    )
    answer_type: AnswerType | None = Field(
        default=None, description="What an answer is; none: inferred where it is clear."
    )
    choices: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_split_at_commas, json_schema_input_type=str | tuple[str, ...] | None),
    ] = Field(default=None, description="The labels of a closed set, for answers of type `choice`.")
    metric: Name | None = Field(
        default=None,
        description="What scores a text: exact, contains, regex, f1, rouge-l, chrf, bleu, json, or "
        "`package.module:function`.",
    )
    tolerance: float = Field(
        default=0.0, ge=0, le=1, description="How far a number may be off: absolute below 1, relative above."
    )
    reading: Literal["generated", "likelihood"] = Field(
        default="generated",
        description="With `likelihood` the likeliest choice is the answer; what was generated is read beside it.",
    )
    train_size: int | None = Field(default=None, ge=1, description="Rows to learn from; none: the task's own rule.")
    dev_size: int | None = Field(
        default=None, ge=0, description="Rows to choose among finished prompts; none: the task's own rule."
    )
    test_size: int | None = Field(
        default=None, ge=0, description="Rows for the final evaluation; none: the task's own rule."
    )
    seed: int = Field(default=0, description="Seed of splits that are drawn, and of made rows.")
    extractor: str = Field(
        default="plain",
        description="The text that asks for the answer: `plain`, `dollar`, `dollar-gemma`, or one of your own that "
        "holds a blank.",
    )


class LayoutConfig(Config):
    """The text around the prompt: between x and p, in front of p, and between reasoning and extractor."""

    joint: str = Field(default=" ", description="Fixed text between question and prompt.")
    frozen_prefix: str = Field(
        default="Use", description="Fixed text in front of the prompt: part of it, and never changed."
    )
    glue: str = Field(default=" ", description="Fixed text between reasoning and extractor.")
    placement: str = Field(
        default="after",
        description="Where `frozen_prefix` and prompt stand: `after` the question, `before` it, in the `system` "
        "message, or where a text with `{question}` and `{prompt}` has them.",
    )
    system: str | None = Field(default=None, description="Fixed system message; an empty one silences the template's.")
    thinking: bool | None = Field(
        default=None,
        description="Switches a model's thoughts where its chat template can; none leaves it to that.",
    )
    date: str = Field(
        default=TEMPLATE_DATE,
        description="What a chat template that writes a date takes for today, written YYYY-MM-DD.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the chat template."
    )
    extractor_turn: bool = Field(
        default=False, description="Asks for the answer in a user's turn of its own, behind the reasoning."
    )

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
    """How much the model may write, in tokens."""

    max_reasoning_tokens: int = Field(
        default=1024, ge=1, description="How long the model may reason; 1024 as in the code of GReaTer's authors."
    )
    max_answer_tokens: int = Field(default=10, ge=1, description="How long its answer after the extractor may be.")


class Budget(Config):
    """When to stop: whichever comes first. What is counted is the optimization, not the final evaluation.

    ``optimizer_*`` counts the writer, everything else the task model. A step that reaches a limit of the ledger is
    given up at the next batch of work, so a limit is passed by one batch at most. None lifts a preset's limit.
    """

    steps: int | None = Field(default=None, ge=0, description="Steps of the method.")
    patience: int | None = Field(default=None, ge=1, description="Steps without a better prompt.")
    tokens: int | None = Field(default=None, ge=1, description="All tokens of the task model.")
    seconds: float | None = Field(default=None, gt=0, description="Wall time of the whole search.")
    calls: int | None = Field(default=None, ge=1, description="Rows given to the task model.")
    prompt_tokens: int | None = Field(default=None, ge=1, description="Tokens that the task model reads.")
    generated_tokens: int | None = Field(default=None, ge=1, description="Tokens that the task model writes.")
    forward_tokens: int | None = Field(default=None, ge=1, description="All tokens but those of backward passes.")
    backward_tokens: int | None = Field(default=None, ge=1, description="Tokens of backward passes.")
    model_seconds: float | None = Field(default=None, gt=0, description="Time of the task model's calls.")
    optimizer_calls: int | None = Field(default=None, ge=1, description="Texts asked of the writer.")
    optimizer_tokens: int | None = Field(default=None, ge=1, description="All tokens of the writer.")
    optimizer_prompt_tokens: int | None = Field(default=None, ge=1, description="Tokens that the writer reads.")
    optimizer_generated_tokens: int | None = Field(default=None, ge=1, description="Tokens that the writer writes.")
    optimizer_seconds: float | None = Field(default=None, gt=0, description="Time of the writer's calls.")


class GivenDemonstration(Config):
    """A worked example of one's own."""

    question: str = Field(description="The question.")
    answer: str = Field(description="Its answer, written as it would follow the extractor: `B`, not `(B)`.")
    rationale: str | None = Field(default=None, description="The way to the answer, shown in front of it.")


def given(shown: Iterable[GivenDemonstration]) -> tuple[Demonstration, ...]:
    """Return worked examples of one's own as they are shown."""
    return tuple(Demonstration(f"given#{k}", d.question, d.answer, d.rationale) for k, d in enumerate(shown, 1))


class EvaluationConfig(Config):
    """What is measured at the end."""

    splits: tuple[Literal["train", "dev", "test"], ...] = Field(
        default=("train", "dev", "test"), description="The splits whose rows are answered, before and after."
    )
    dev_select_top: int = Field(
        default=0, ge=0, le=10, description="Chooses among so many best prompts by accuracy on dev rows."
    )
    demonstrations: int | tuple[GivenDemonstration, ...] = Field(
        default=0,
        description="Worked examples in front of every question that is answered at the end, as turns: so many "
        "training rows, drawn by the seed, or those that are given.",
    )
    nearest: int = Field(
        default=0,
        ge=0,
        description="Makes `demonstrations` a pool, by default all training rows, of which every question is shown so "
        "many: those most like it.",
    )

    @field_validator(
        "demonstrations",
        mode="before",
        json_schema_input_type=Annotated[int, Field(ge=0)] | tuple[GivenDemonstration, ...],
    )
    @classmethod
    def _number_or_given(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        try:
            return tuple(map(GivenDemonstration.model_validate, value)) or 0
        except (TypeError, ValidationError):
            allowed = "a number of training rows, or a list of {question, answer, rationale}"
            raise PydanticCustomError("demonstrations", "input should be {allowed}", {"allowed": allowed}) from None

"""What to run: one trial, complete, and its identity.

The identity is a hash of what changes a trial's result: the same from a config and from a record's config.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError

from greater_ray.errors import ConfigError, did_you_mean
from greater_ray.sections import (
    MAY_BE_SECRET,
    AnswerType,
    Budget,
    Config,
    DecodingConfig,
    EndpointConfig,
    EvaluationConfig,
    GivenDemonstration,
    LayoutConfig,
    ModelConfig,
    TaskConfig,
    given,
)
from greater_ray.types import TEMPLATE_DATE, Layout

__all__ = [
    "AnswerType",
    "Budget",
    "Config",
    "DecodingConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "GivenDemonstration",
    "LayoutConfig",
    "ModelConfig",
    "TaskConfig",
    "TrialConfig",
    "fingerprint",
    "given",
    "parse",
]


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
    """One optimization, complete: the same config gives the same result."""

    model: ModelConfig = Field(description="The task model: which one, and how it is held.")
    task: TaskConfig = Field(description="Which rows, where from, and how answers are read.")
    method: str = Field(
        default="greater", description="A method of `greater-ray list methods`, or `package.module:Name`."
    )
    preset: str = Field(default="paper", description="A named set of settings that the method brings; yours win.")
    method_config: dict[str, Any] = Field(
        default_factory=dict, description="The method's own options; `method.NAME` on the command line."
    )
    layout: LayoutConfig = Field(default=LayoutConfig(), description="The text around the prompt.")
    decoding: DecodingConfig = Field(default=DecodingConfig(), description="How much the model may write.")
    budget: Budget = Field(default=Budget(), description="When to stop: whichever limit comes first.")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="What is measured at the end.")
    seed: int = Field(default=0, ge=0, description="Seed of everything that is drawn.")
    shard_size: int = Field(default=25, ge=1, description="Rows per unit of work; may change the last bits.")
    optimizer_model: ModelConfig | None = Field(
        default=None,
        description="The model that writes prompts and critiques, for methods that ask for text; none: the task model.",
    )

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
            if model["quantization"] is None:
                del model["quantization"]
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
        # What is wrong between settings has no path of its own.
        option = ".".join(filter(None, (where, path))) or None
        if first["type"] == "extra_forbidden":
            allowed = _keys_at(config_type, first["loc"][:-1])
            hint = did_you_mean(str(first["loc"][-1]), allowed)
            why = f"unknown option; allowed: {', '.join(allowed)}.{hint}"
            raise ConfigError(why, setting=option, allowed=allowed) from None
        if first["type"] == "missing":
            raise ConfigError("missing.", setting=option) from None
        message = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        message = message[0].lower() + message[1:]
        if first["type"] == MAY_BE_SECRET or first["loc"][-1:] in (("endpoint",), ("base_url",), ("api_key_env",)):
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

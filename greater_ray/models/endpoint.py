"""A writer behind an OpenAI-compatible endpoint: ``openai/NAME`` as the optimizer model.

Key and address come from ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` alone, and stand in no config or message. A record
names the host and its port; the rest of the address may hold a password or a key, and is left out.
A row that fails gives a ``Generation`` with an error; what would fail every row ends the run, which can be continued.
"""

import importlib.metadata
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.types import Conversation, Generation, Layout, Usage
from greater_ray.work import BaseEngine, Generate, computes

PREFIX = "openai/"
WRITER = "optimizer_model.name"  # the setting that names an endpoint
CONCURRENCY = 4
RETRIES = 3
TIMEOUT_SECONDS = 120.0
_MESSAGE_LENGTH = 200


def is_endpoint(name: str) -> bool:
    """Tell whether a model's name stands for an endpoint; a folder of that name is a folder."""
    return name.startswith(PREFIX) and not Path(name).exists()


def refuse_endpoint(config: ModelConfig) -> None:
    """Refuse an endpoint where a model must be computed with.

    Raises:
        ConfigError: the name stands for an endpoint.
    """
    if is_endpoint(config.name):
        raise ConfigError(
            f"'{config.name}' is an endpoint, and a task model is scored token by token, which no endpoint "
            "allows; use it as §optimizer_model.name, or give a local copy of the model as a folder.",
            setting="model.name",
        )


class _Reply(NamedTuple):
    """One row's result, the tokens read and written where the endpoint tells them, and the model that it names."""

    generation: Generation
    tokens: tuple[int, int] | None = None
    served: str | None = None


class EndpointWriter(BaseEngine):
    """Computes ``Generate`` and no other kind of work. Retries and their waits are the client's own.

    Raises:
        ConfigError: a setting is given that an endpoint does not have.
        ModelError: the client is not installed, or there is no key.
    """

    def __init__(self, config: ModelConfig, *, timeout: float = TIMEOUT_SECONDS, retries: int = RETRIES) -> None:
        for name, value in config.model_dump(exclude_defaults=True, exclude={"name"}).items():
            why = f"does not apply to the endpoint '{config.name}', not {value!r}."
            raise ConfigError(why, setting=f"optimizer_model.{name}", value=value)
        self._name = f"'{config.name}'"
        try:
            import openai
        except ImportError as error:
            why = f"{self._name} needs the package openai: pip install 'greater-ray[openai]'."
            raise ModelError(why, setting=WRITER) from error
        self._key = os.environ.get("OPENAI_API_KEY", "")
        if not self._key:
            raise ModelError(
                f"{self._name} needs a key in the environment variable OPENAI_API_KEY; any text will do for an "
                "endpoint that asks for none.",
                setting=WRITER,
            )
        self._openai, self._timeout = openai, timeout
        self._client = openai.OpenAI(api_key=self._key, timeout=timeout, max_retries=retries)
        self._model = config.name.removeprefix(PREFIX)
        # Newer models refuse the old name of the limit, older servers do not know the new one.
        self._limit = "max_tokens"
        self._takes_temperature = True
        self.facts = {
            "name": config.name,
            "kind": "endpoint",
            "host": self._client.base_url.netloc.decode("ascii"),
            "client": f"openai {importlib.metadata.version('openai')}",
            "token_counts": "reported by the endpoint",
        }

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        """Continue every conversation, a few at a time.

        Raises:
            ModelError: the endpoint is out of reach, refuses the key, or does not know the model.
        """
        pool = ThreadPoolExecutor(CONCURRENCY)
        try:
            waiting = [
                pool.submit(self._ask, conversation, seed, work.max_tokens, work.temperature)
                for conversation, seed in zip(work.conversations, work.seeds, strict=True)
            ]
            replies = [future.result() for future in waiting]
        finally:
            pool.shutdown(cancel_futures=True)
        self._note(replies)
        counts = [reply.tokens for reply in replies if reply.tokens is not None]
        usage = Usage(
            calls=len(replies),
            prefill_tokens=sum(read for read, _ in counts),
            generated_tokens=sum(written for _, written in counts),
        )
        return [reply.generation for reply in replies], usage

    def _note(self, replies: Sequence[_Reply]) -> None:
        served = {reply.served for reply in replies if reply.served is not None}
        if served:
            self.facts["served_models"] = sorted({*self.facts.get("served_models", ()), *served})
        if any(reply.tokens is None and reply.generation.error is None for reply in replies):
            self.facts["token_counts"] = "not reported by the endpoint: only calls are counted"

    def _ask(self, conversation: Conversation, seed: int, max_tokens: int, temperature: float) -> _Reply:
        limit = self._limit
        # Endpoints have no common way to go on with a reply that was begun for them.
        turns = conversation[:-1] if conversation[-1].role == "assistant" else conversation
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in turns],
            # Some servers read 32 bits of a seed only.
            "seed": Random(seed).getrandbits(31),
            limit: max_tokens,
        }
        if self._takes_temperature:
            request["temperature"] = temperature
        try:
            raw = self._client.chat.completions.with_raw_response.create(**request)
        except self._openai.APITimeoutError:
            return _failed(f"the endpoint did not answer within {self._timeout:g} s.")
        except self._openai.APIConnectionError:
            raise ModelError(
                f"{self._name}: the endpoint cannot be reached; check OPENAI_BASE_URL and the network.", setting=WRITER
            ) from None
        except self._openai.APIStatusError as error:
            if limit == "max_tokens" == error.param:
                self._limit = "max_completion_tokens"
                return self._ask(conversation, seed, max_tokens, temperature)
            if error.param == "temperature" and "temperature" in request:
                # Models that reason have one temperature of their own.
                self._takes_temperature = False
                self.facts["temperature"] = "left out: the endpoint allows its own only"
                return self._ask(conversation, seed, max_tokens, temperature)
            return self._refused(error)
        return read_reply(raw.http_response.text)

    def _refused(self, error: Any) -> _Reply:
        """Tell what would fail every row from what fails this one. What the endpoint says may echo the key."""
        status, code = error.status_code, error.code
        said = error.body.get("message") if isinstance(error.body, dict) else None
        said = " ".join(str(said or "no reason given").replace(self._key, "***").split())[:_MESSAGE_LENGTH].rstrip(".")
        reason = None
        if status in (401, 403):
            reason = f"the endpoint refuses the key in OPENAI_API_KEY (status {status})"
        elif status == 404 or code == "model_not_found":
            reason = f"the endpoint does not know this model (status {status})"
        elif code == "insufficient_quota":
            reason = f"the quota of the key in OPENAI_API_KEY is spent (status {status})"
        elif code in ("unsupported_parameter", "unsupported_value"):
            reason = f"the endpoint refuses a setting: {said}"
        if reason is not None:
            raise ModelError(f"{self._name}: {reason}.", setting=WRITER) from None
        return _failed(f"the endpoint answered with status {status}: {said}.")


def _failed(reason: str) -> _Reply:
    return _Reply(Generation("", error=reason))


def read_reply(text: str) -> _Reply:
    """Read the body of an answer; a refusal or a body of another form becomes the row's error."""
    try:
        value = json.loads(text)
        tokens = _token_counts(value.get("usage"))
        served = value.get("model")
        (choice, *_) = value["choices"]
        reason, message = choice.get("finish_reason"), choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        return _failed("the endpoint's answer is malformed.")
    if refusal or reason == "content_filter":
        generation = Generation("", error="the endpoint refused to answer.")
    elif not isinstance(content, str):
        generation = Generation("", error="the endpoint's answer holds no text.")
    else:
        generation = Generation(content, truncated=reason == "length")
    return _Reply(generation, tokens, served if isinstance(served, str) else None)


def _token_counts(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None

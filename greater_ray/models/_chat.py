"""Requests to a server that speaks the OpenAI protocol: one reply to each, and what fails told apart.

What would fail every request raises; what fails one becomes the reply's error. The key stands in no message.
"""

import importlib.metadata
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from greater_ray.config import EndpointConfig
from greater_ray.errors import EndpointError
from greater_ray.types import Conversation

T = TypeVar("T")

SETTING = "model.name"
_MESSAGE_LENGTH = 200
# Servers that say in their list of models what they are, and list every model that they serve.
_LIST_ALL = ("vllm", "sglang")
_LONGEST_WAIT = 120.0  # seconds that the client library waits at most before it asks again


class Reply(NamedTuple):
    """What came back: the text, what the model thought where it is told apart, and the tokens read and written.

    ``prompt_logprobs`` are those of what was sent, a mapping per token, where they were asked for. ``refused`` tells
    that the model or a filter would not answer, which is an answer of a kind; ``error`` says why there is none, and
    ``status`` is what the server gave with it.
    """

    text: str = ""
    thoughts: str = ""
    truncated: bool = False
    refused: bool = False
    error: str | None = None
    status: int | None = None
    tokens: tuple[int, int] | None = None
    served: str | None = None
    prompt_logprobs: Sequence[Mapping[str, Any] | None] | None = None


class Chat:
    """A client for one model of one server; safe to be used by several threads.

    Retries and their waits, those that a rate limit asks for included, are the client library's own. Its time limit is
    one for every piece of an answer, so a server that sends a byte now and then would be waited for without an end;
    ``_within`` gives a request with all its retries one.

    Raises:
        EndpointError: the client library is not installed, or there is no key.
    """

    def __init__(self, title: str, model: str, config: EndpointConfig) -> None:
        self.title, self.model, self.config = title, model, config
        try:
            import openai
        except ImportError as error:
            why = f"{title} needs the package openai: pip install 'greater-ray[openai]'."
            raise EndpointError(why, setting=SETTING) from error
        self._key = os.environ.get(config.api_key_env, "")
        if not self._key:
            raise EndpointError(
                f"{title} needs a key in the environment variable {config.api_key_env}; any text will do for an "
                "endpoint that asks for none.",
                setting=SETTING,
            )
        self._openai = openai
        options = {"timeout": config.timeout, "max_retries": config.retries}
        self._client = openai.OpenAI(api_key=self._key, base_url=config.base_url, **options)
        self.host = self._client.base_url.netloc.decode("ascii")
        self.version = f"openai {importlib.metadata.version('openai')}"
        # Newer models refuse the old name of the limit, older servers do not know the new one.
        self._limit = "max_tokens"
        self.takes_temperature = True

    def server(self) -> str | None:
        """Ask what the server calls itself, for instance ``"vllm"``; None where it does not say.

        Raises:
            EndpointError: it is out of reach, refuses the key, or tells all its models and not this one.
        """
        try:
            # Not every server has such a list, and none has to be waited for.
            raw = _within(2 * self._longest(0), self._client.with_options(max_retries=1).models.with_raw_response.list)
            models = json.loads(raw.http_response.text)["data"]
            owners = {str(model["id"]): str(model.get("owned_by", "")) for model in models}
        except (TimeoutError, self._openai.APITimeoutError, self._openai.APIConnectionError):
            raise self._out_of_reach() from None
        except self._openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._refuses_key(error.status_code) from None
            return None
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        named = {owner.lower() for owner in owners.values()}
        server = next((name for name in ("vllm", "sglang", "llamacpp") if named == {name}), None)
        if server in _LIST_ALL and self.model not in owners:
            names = ", ".join(f"'{name}'" for name in owners) or "no model"
            raise EndpointError(f"{self.title}: this endpoint serves {names}.", setting=SETTING)
        return server

    def ask(self, messages: Conversation, *, max_tokens: int, temperature: float, seed: int, **extra: Any) -> Reply:
        """Send one request; ``extra`` are arguments beyond the protocol.

        Raises:
            EndpointError: what would fail every request.
        """
        limit = self._limit
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            # Some servers read 32 bits of a seed only.
            "seed": Random(seed).getrandbits(31),
            limit: max_tokens,
        }
        if self.takes_temperature:
            request["temperature"] = temperature
        create = self._client.chat.completions.with_raw_response.create
        try:
            raw = _within(self._longest(self.config.retries), lambda: create(**request, extra_body=extra or None))
        except (TimeoutError, self._openai.APITimeoutError):
            return Reply(error=f"the endpoint did not answer within {self.config.timeout:g} s.")
        except self._openai.APIConnectionError:
            raise self._out_of_reach() from None
        except self._openai.APIStatusError as error:
            again = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, **extra}
            if limit == "max_tokens" == error.param:
                self._limit = "max_completion_tokens"
                return self.ask(messages, **again)
            if error.param == "temperature" and "temperature" in request:
                # Models that reason have one temperature of their own.
                self.takes_temperature = False
                return self.ask(messages, **again)
            return self._refused(error)
        return read_reply(raw.http_response.text)

    def _longest(self, retries: int) -> float:
        """Return how many seconds a request may take in all: to connect and to answer, each time that it is sent."""
        return (retries + 1) * 2 * self.config.timeout + retries * _LONGEST_WAIT

    def _out_of_reach(self) -> EndpointError:
        where = "§model.endpoint.base_url" if self.config.base_url is not None else "OPENAI_BASE_URL"
        why = f"{self.title}: the endpoint cannot be reached; check {where} and the network."
        return EndpointError(why, setting=SETTING)

    def _refuses_key(self, status: int) -> EndpointError:
        why = f"{self.title}: the endpoint refuses the key in {self.config.api_key_env} (status {status})."
        return EndpointError(why, setting=SETTING)

    def _refused(self, error: Any) -> Reply:
        """Tell what would fail every row from what fails this one. What the endpoint says may echo the key."""
        status, code = error.status_code, error.code
        said = error.body.get("message") if isinstance(error.body, dict) else None
        said = " ".join(str(said or "no reason given").replace(self._key, "***").split())[:_MESSAGE_LENGTH].rstrip(".")
        if status in (401, 403):
            raise self._refuses_key(status) from None
        reason = None
        if status == 404 or code == "model_not_found":
            reason = f"the endpoint does not know this model (status {status})"
        elif code == "insufficient_quota":
            reason = f"the quota of the key in {self.config.api_key_env} is spent (status {status})"
        elif code in ("unsupported_parameter", "unsupported_value"):
            reason = f"the endpoint refuses a setting: {said}"
        if reason is not None:
            raise EndpointError(f"{self.title}: {reason}.", setting=SETTING) from None
        return Reply(error=f"the endpoint answered with status {status}: {said}.", status=status)


def _within(seconds: float, send: Callable[[], T]) -> T:
    """Return what comes back within so many seconds; what comes later is nobody's.

    Raises:
        TimeoutError: nothing has come.
    """
    found: list[T] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            found.append(send())
        except Exception as error:  # noqa: BLE001 - raised again where the answer is waited for
            failed.append(error)

    # One that never ends must not keep the process from ending.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError
    return found[0]


def read_reply(text: str) -> Reply:
    """Read the body of an answer; a body of another form becomes the row's error."""
    try:
        value = json.loads(text)
        tokens = _token_counts(value.get("usage"))
        served = value.get("model")
        (choice, *_) = value["choices"]
        reason, message = choice.get("finish_reason"), choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        # What servers call the thoughts that they cut off: most of them, and newer vLLM.
        thoughts = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Reply(error="the endpoint's answer is malformed.")
    thoughts = thoughts if isinstance(thoughts, str) else ""
    reply = Reply(
        text=content if isinstance(content, str) else "",
        thoughts=thoughts,
        truncated=reason == "length",
        tokens=tokens,
        served=served if isinstance(served, str) else None,
        prompt_logprobs=value.get("prompt_logprobs"),
    )
    if refusal or reason == "content_filter":
        return reply._replace(text="", thoughts="", refused=True, error="the endpoint refused to answer.")
    if not isinstance(content, str) and not thoughts:
        return reply._replace(error="the endpoint's answer holds no text.")
    return reply


def _token_counts(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None

"""A model behind an OpenAI-compatible endpoint, ``openai/NAME``: it reasons, answers and writes.

The key comes from the environment alone and stands in no config or message. A record names the host and its port; the
rest of an address may hold a password or a key, and is left out.

There is no vocabulary here. A prompt's "tokens" are pieces of its text (``pieces``), so that methods that look for text
work unchanged; likelihoods exist where a server tells those of a given text (vLLM), and gradients nowhere.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from greater_ray.config import EndpointConfig, ModelConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.models._chat import SETTING, Chat, Reply
from greater_ray.models._pieces import pieces as pieces
from greater_ray.models._pieces import text_of
from greater_ray.models._served_row import ASK as ASK  # how an answer is asked for, for others too
from greater_ray.models._served_row import ServedRow, Way
from greater_ray.types import (
    SWITCHES,
    Answer,
    Conversation,
    Example,
    Generation,
    Layout,
    PromptCheck,
    Rollout,
    TokenIds,
    Usage,
    total,
)
from greater_ray.work import (
    Answers,
    BaseEngine,
    CheckPrompts,
    EncodePrompt,
    Generate,
    PromptRoom,
    Rollouts,
    TokenTexts,
    Work,
    computes,
)

T = TypeVar("T")
R = TypeVar("R")

PREFIX = "openai/"
# Servers that go on with an assistant's turn that was begun, with the arguments that ask for it.
CONTINUES: dict[str | None, dict[str, Any]] = {
    "vllm": {"continue_final_message": True, "add_generation_prompt": False},
    "sglang": {"continue_final_message": True},
    "llamacpp": {},
}
# Servers that tell the likelihood of every token of what was sent (``prompt_logprobs``).
_TELLS_LIKELIHOODS = ("vllm",)
# Servers that pass arguments on to the chat template (``chat_template_kwargs``).
_TAKES_ARGUMENTS = ("vllm", "sglang", "llamacpp")


def is_endpoint(name: str) -> bool:
    """Tell whether a model's name stands for an endpoint; a folder of that name is a folder."""
    return name.startswith(PREFIX) and not Path(name).exists()


def check_model(config: ModelConfig) -> None:
    """Make sure that an endpoint is asked for nothing but what an endpoint has, and a loaded model for no endpoint.

    Raises:
        ConfigError: a setting does not apply.
    """
    if not is_endpoint(config.name):
        if config.endpoint is not None:
            why = f"goes with a model openai/NAME, and '{config.name}' is loaded here."
            raise ConfigError(why, setting="model.endpoint")
        return
    for name, value in config.model_dump(exclude_defaults=True, exclude={"name", "endpoint"}).items():
        why = f"does not apply to the endpoint '{config.name}', not {value!r}."
        raise ConfigError(why, setting=f"model.{name}", value=value)


class EndpointEngine(BaseEngine):
    """Asks a server. Rows are asked independently, ``concurrency`` at a time; decoding is greedy.

    Raises:
        EndpointError: the client is not installed, or there is no key.
    """

    shard_size = 1

    def __init__(self, config: ModelConfig) -> None:
        self.title, self.config = f"'{config.name}'", config.endpoint or EndpointConfig()
        self.chat = Chat(self.title, config.name.removeprefix(PREFIX), self.config)
        self.concurrency = self.config.concurrency
        # Units wait in threads of the executor, rows here: together they keep to the limit.
        self._rows = ThreadPoolExecutor(self.concurrency)
        self._server: str | None = None
        self._known = False
        self.hardware = f"endpoint at {self.chat.host}"
        self.facts = {
            "name": config.name,
            "kind": "endpoint",
            "host": self.chat.host,
            "client": self.chat.version,
            "token_counts": "reported by the endpoint",
        }

    def contact(self) -> None:
        """Ask the server what it is, once.

        Raises:
            EndpointError: it is out of reach, refuses the key, or tells all its models and not this one.
        """
        if not self._known:
            self._server, self._known = self.chat.server(), True
            self.facts |= {
                "server": self._server or "unknown",
                "answers": "continued after the extractor" if self.continues else "asked for in a turn of their own",
                "likelihoods": "told by the endpoint" if self.tells_likelihoods else "not told by the endpoint",
            }

    @property
    def server(self) -> str | None:
        """What the server calls itself, if it does."""
        self.contact()
        return self._server

    @property
    def continues(self) -> bool:
        """Whether the model goes on after the extractor."""
        way = self.config.answers
        return way == "continue" or (way == "auto" and self.server in CONTINUES)

    @property
    def tells_likelihoods(self) -> bool:
        """Whether the server tells how likely a given text is."""
        return self.continues and self.server in _TELLS_LIKELIHOODS

    @property
    def kinds(self) -> frozenset[type[Work[Any]]]:
        """See ``BaseEngine``; rollouts are scored, so only where likelihoods are told."""
        return super().kinds if self.tells_likelihoods else super().kinds - {Rollouts}

    @property
    def _going_on(self) -> dict[str, Any]:
        """What tells the server to go on with a reply that was begun."""
        return CONTINUES.get(self.server, CONTINUES["vllm"])

    # -- text ----------------------------------------------------------------------------------------------------------

    @computes(EncodePrompt)
    def encode_prompt(self, work: EncodePrompt, layout: Layout) -> tuple[TokenIds, Usage]:
        """Cut into pieces; a layout that the server cannot have is told here, before anything is written."""
        self._arguments(layout)
        return pieces(work.text), Usage()

    @computes(CheckPrompts)
    def check_prompts(self, work: CheckPrompts, layout: Layout) -> tuple[list[PromptCheck], Usage]:
        """Every text gives the same pieces again."""
        texts = [text_of(prompt) for prompt in work.prompts]
        return [PromptCheck(text, pieces(text) == prompt) for text, prompt in zip(texts, work.prompts, strict=True)], (
            Usage()
        )

    @computes(TokenTexts)
    def token_texts(self, work: TokenTexts, layout: Layout) -> tuple[list[str], Usage]:
        """Return the pieces."""
        return [text_of([token]) for token in work.tokens], Usage()

    @computes(PromptRoom)
    def prompt_room(self, work: PromptRoom, layout: Layout) -> tuple[None, Usage]:
        """Only the server can count its tokens, and refuses what is too long."""
        return None, Usage()

    # -- writing -------------------------------------------------------------------------------------------------------

    @computes(Generate)
    def generate(self, work: Generate, layout: Layout | None) -> tuple[list[Generation], Usage]:
        """Continue every conversation; a reply that was begun is gone on with where the server does so.

        Raises:
            EndpointError: the endpoint is out of reach, refuses the key, or does not know the model.
        """

        def write(row: tuple[Conversation, int]) -> Reply:
            conversation, seed = row
            last, extra = conversation[-1], {}
            begun = last.content if last.role == "assistant" and self.continues else ""
            if begun:
                extra = self._going_on
            elif last.role == "assistant":
                conversation = conversation[:-1]
            reply = self.chat.ask(
                conversation, max_tokens=work.max_tokens, temperature=work.temperature, seed=seed, **extra
            )
            return reply if reply.error else reply._replace(text=begun + reply.text)

        replies = self._each(write, list(zip(work.conversations, work.seeds, strict=True)))
        generations = [Generation(r.text, truncated=r.truncated and not r.error, error=r.error) for r in replies]
        return generations, Usage(calls=len(replies)) + total(self._cost(reply) for reply in replies)

    # -- rows ----------------------------------------------------------------------------------------------------------

    @computes(Answers)
    def answers(self, work: Answers, layout: Layout) -> tuple[list[list[Answer]], Usage]:
        """Reason, unless the reasoning is known, and ask for the answer; score label and choices where it is told.

        Raises:
            DataError: the endpoint refuses a row, for instance because it is too long.
            EndpointError: it does not answer.
            ModelError: choices are to be scored, and it does not tell likelihoods.
        """
        given: Sequence[Rollout | None] = work.rollouts or [None] * len(work.examples)
        (prompt,) = work.prompts
        text, way = text_of(prompt), self._way(layout)
        choices = layout.choices if work.score_choices else ()
        if choices and not self.tells_likelihoods:
            raise self._cannot("how likely choices are", "set §task.reading to generated")

        def answer(row: tuple[Example, Rollout | None]) -> tuple[Answer, Usage]:
            example, known = row
            asked = ServedRow(way, layout, example, text)
            if known is None:
                asked.reason()
            else:
                asked.take_over(text_of(known.reasoning), known.truncated)
            said = asked.answer()
            label_ce, hit = asked.likelihood(example.label) if self.tells_likelihoods else (None, None)
            nlls = tuple(asked.likelihood(choice)[0] for choice in choices) or None
            rollout = Rollout(pieces(asked.reasoning), asked.truncated, label_ce, None, hit)
            return Answer(rollout, asked.reasoning, said, nlls, asked.reasoning_tokens), asked.usage

        done = self._each(answer, list(zip(work.examples, given, strict=True)))
        return [[found for found, _ in done]], total(usage for _, usage in done)

    @computes(Rollouts)
    def rollouts(self, work: Rollouts, layout: Layout) -> tuple[list[list[Rollout]], Usage]:
        """Reason and score the label, where the server tells likelihoods.

        Raises:
            ConfigError: choices are to be compared, and the task's answers are no closed set.
            DataError: the endpoint refuses a row, or its label is none of the choices.
            EndpointError: it does not answer.
            ModelError: the loss needs what no endpoint tells: another temperature, or how likely the prompt is.
        """
        if work.loss.ce_temperature != 1.0:
            raise self._cannot("losses at another temperature", "set §method_config.ce_temperature to 1")
        if work.loss.fluency_weight and work.reasoning_of is None:
            raise self._cannot("how likely a prompt is", "set §method_config.fluency_weight to 0")
        comparing = work.loss.label == "choice"
        if comparing and not layout.choices:
            why = "choices cannot be compared: the task's answers are no closed set; give §task.choices."
            raise ConfigError(why, setting="task.answer_type")
        given: Sequence[TokenIds | None] = work.reasoning or [None] * len(work.examples)
        way = self._way(layout)

        def score(row: tuple[TokenIds, Example, TokenIds | None]) -> tuple[Rollout, Usage]:
            prompt, example, known = row
            asked = ServedRow(way, layout, example, text_of(prompt))
            if known is None:
                asked.reason()
            else:
                asked.take_over(text_of(known), False)
            label_ce, hit = asked.likelihood(example.label)
            shared = asked.share(example.label, layout.choices) if comparing else (None, None)
            rollout = Rollout(pieces(asked.reasoning), asked.truncated, label_ce, None, hit, *shared)
            return rollout, asked.usage

        rows = [(p, e, r) for p in work.prompts for e, r in zip(work.examples, given, strict=True)]
        done = self._each(score, rows)
        size = len(work.examples)
        found = [[rollout for rollout, _ in done[k : k + size]] for k in range(0, len(done), size)]
        return found, total(usage for _, usage in done)

    # -- shared --------------------------------------------------------------------------------------------------------

    def _each(self, ask: Callable[[T], R], rows: Sequence[T]) -> list[R]:
        """Ask all rows; after the first error no further one is begun."""
        waiting = [self._rows.submit(ask, row) for row in rows]
        try:
            return [future.result() for future in waiting]
        finally:
            for future in waiting:
                future.cancel()

    def _cannot(self, what: str, instead: str) -> ModelError:
        return ModelError(f"{self.title}: this endpoint does not tell {what}; {instead}.", setting=SETTING)

    def _cost(self, reply: Reply) -> Usage:
        """Count a reply, and note what the record must say about the server."""
        if reply.served is not None:
            self.facts["served_models"] = sorted({*self.facts.get("served_models", ()), reply.served})
        if not self.chat.takes_temperature:
            self.facts["temperature"] = "left out: the endpoint allows its own only"
        if reply.tokens is None:
            if reply.error is None:
                self.facts["token_counts"] = "not reported by the endpoint: only calls are counted"
            return Usage()
        return Usage(prefill_tokens=reply.tokens[0], generated_tokens=reply.tokens[1])

    def _way(self, layout: Layout) -> Way:
        """Return how rows are asked."""
        going_on = self._going_on if self.continues else None
        return Way(self.chat.ask, self._cost, going_on, self._arguments(layout))

    def _arguments(self, layout: Layout) -> dict[str, Any]:
        """Return what the chat template is told beside the conversation.

        Raises:
            ConfigError: the server does not pass it on.
        """
        given = {name: json.loads(value) for name, value in layout.template_kwargs}
        setting = "layout.chat_template_kwargs"
        if layout.thinking is not None:
            given |= dict.fromkeys(SWITCHES, layout.thinking)
            setting = "layout.thinking"
        if given and self.server not in _TAKES_ARGUMENTS:
            why = f"{self.title}: this endpoint is not known to pass arguments on to the model's chat template."
            raise ConfigError(why, setting=setting)
        return {"chat_template_kwargs": given} if given else {}

"""One-shot APE: instructions are induced from examples, and the one that scores best is taken.

Zhou et al., "Large Language Models Are Human-Level Prompt Engineers", ICLR 2023; Algorithm 1 without its optional
resampling, which is ``ape-iterative``.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods._archive import (
    Scored,
    TextState,
    accuracy,
    advanced,
    archived,
    candidates,
    dev_rows,
    info,
    start_ids,
)
from greater_ray.methods._proposals import propose
from greater_ray.methods._rounds import new_proposals
from greater_ray.methods._writer import PERSONA, ReplyForm, RewriteConfig, chat, reply_rule, word_rule, wording
from greater_ray.protocols import Problem, StepInfo
from greater_ray.types import Conversation, Example, LossSpec, TokenIds
from greater_ray.work import Rollouts, Work


class ApeConfig(RewriteConfig):
    """Options of one-shot APE; the defaults are those of the authors' ``default.yaml``.

    One draw of dev rows for all is ours (fewer calls, and a paired comparison), one for each is theirs.
    """

    temperature: float = Field(default=0.9, ge=0, description="Temperature of the writer; 0 is greedy.")
    max_new_tokens: int = Field(default=150, ge=1, description="Tokens that a reply of the writer may have.")
    queries: int = Field(default=5, ge=1, description="How often training rows are drawn and asked about.")
    demonstrations: int = Field(default=5, ge=1, description="Training rows of one query.")
    samples_per_query: int = Field(default=50, ge=1, description="Instructions that are written for one query.")
    samples_per_step: int = Field(default=10, ge=1, description="How many of them one step writes.")
    criterion: Literal["likelihood", "accuracy"] = Field(
        default="likelihood", description="Scored by the label's likelihood without reasoning, or by accuracy."
    )
    num_scored: int = Field(default=50, ge=1, description="Dev rows that score an instruction.")
    rows: Literal["shared", "own"] = Field(
        default="shared", description="Whether all share one draw of dev rows, or each has its own."
    )

    @property
    def steps_per_query(self) -> int:
        """How many steps the samples of one query take."""
        return -(-self.samples_per_query // self.samples_per_step)


class Ape:
    """The method; stateless."""

    summary = "instructions induced from examples; the likeliest or most accurate is taken"
    source = "Zhou et al., ICLR 2023, arXiv 2211.01910"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = ApeConfig
    state_type = TextState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 1000}},
        "accuracy": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1000},
            "method_config": {"criterion": "accuracy", "queries": 3, "samples_per_query": 30, "num_scored": 20},
        },
        "released": {
            "layout": {"frozen_prefix": ""},
            "budget": {"steps": 1000},
            "method_config": {"reply": "whole", "max_new_tokens": 50, "rows": "own"},
        },
    }

    def most_steps(self, config: ApeConfig, num_rows: int) -> int:
        """Return how many steps all samples of all queries take."""
        return config.queries * config.steps_per_query

    def needs(self, config: ApeConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        without = "set §method_config.criterion to accuracy"
        return {Rollouts: without} if config.criterion == "likelihood" else {}

    def start(self, problem: Problem, config: ApeConfig) -> TextState:
        """Tokenize the initial prompt, which is kept where no instruction is better.

        Raises:
            ConfigError: it has no tokens.
        """
        return TextState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: ApeConfig, state: TextState) -> tuple[TextState, StepInfo]:
        """Write and score some of the instructions of one query; the first step scores the start, too."""
        query, part = divmod(state.step, config.steps_per_query)
        rng = problem.rng(query, "demonstrations")
        shown = rng.sample(problem.examples, min(config.demonstrations, len(problem.examples)))
        number = min(config.samples_per_step, config.samples_per_query - part * config.samples_per_step)
        archive = state.archive or self._scored_start(problem, config, state)
        asked = [induction_request(shown, config.max_words, config.reply)] * number
        judge = partial(
            propose,
            problem,
            known=[s.text for s in archive],
            max_prompt_tokens=config.max_prompt_tokens,
            meta=wording(induction_request([], config.max_words, config.reply)),
        )
        notes: list[str] = []
        proposals = new_proposals(problem, asked, config, state.step, "induction", notes, judge, config.reply)
        new = [p for p in proposals if p.usable]
        values = score(problem, config, [p.ids for p in new], len(archive))
        archive = archived(archive, [(p.text, p.ids) for p in new], values, state.step)
        finished = state.step + 1 >= self.most_steps(config, len(problem.examples))
        if finished and len(archive) == 1:
            notes.append("no proposal could be used: the start prompt stays")
        best: Scored = max(archive, key=lambda s: (s.score, -s.number))
        failed = sum(not p.usable for p in proposals)
        state = advanced(state, archive, best, failed, finished=finished)
        scores = {p.text: value for p, value in zip(new, values, strict=True)}
        return state, info(state, best, candidates(proposals, scores), notes)

    @staticmethod
    def _scored_start(problem: Problem, config: ApeConfig, state: TextState) -> tuple[Scored, ...]:
        values = score(problem, config, [state.prompt_ids], 0)
        return archived((), [(config.initial_prompt.strip(), state.prompt_ids)], values, state.step)


def score(problem: Problem, config: ApeConfig, prompts: Sequence[TokenIds], first: int) -> list[float]:
    """Score prompts between 0 and 1; ``first`` is the number of the first one, which its own rows are drawn by.

    A likelihood is that of a label token: the geometric mean over the tokens of a label and over rows, whose order is
    that of the mean log-probability.
    """
    available = dev_rows(problem)
    size = min(config.num_scored, len(available))
    if config.rows == "shared":
        rows = problem.rng(0, "scored rows").sample(available, size)
        return _values(problem, config, prompts, rows)
    values = []
    for number, prompt in enumerate(prompts, first):
        rows = problem.rng(number, "own scored rows").sample(available, size)
        values += _values(problem, config, [prompt], rows)
    return values


def _values(problem: Problem, config: ApeConfig, prompts: Sequence[TokenIds], rows: Sequence[Example]) -> list[float]:
    if not prompts:
        return []
    if config.criterion == "accuracy":
        return [accuracy(records) for records in problem.score(prompts, rows)]
    loss = LossSpec()
    rollouts = problem.model.ask(Rollouts(rows, prompts, loss, reasoning_of=()))
    return [math.exp(-math.fsum(r.label_loss(loss) for r in of_prompt) / len(rows)) for of_prompt in rollouts]


def induction_request(shown: Sequence[Example], max_words: int | None, form: ReplyForm) -> Conversation:
    """Ask for the instruction behind pairs of inputs and outputs."""
    pairs = "\n\n".join(f"Input: {example.question}\nOutput: {example.target}" for example in shown)
    return chat(
        "Somebody was handed one instruction and, by following it, turned each input below into its output.\n\n"
        f"{pairs}\n\n"
        "Which instruction was it? State it so that it also fits new inputs of this kind, without quoting any of "
        f"these. {word_rule(max_words)}{reply_rule(form)}",
        PERSONA,
    )


PLUGIN = Ape()

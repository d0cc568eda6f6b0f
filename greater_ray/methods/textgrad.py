"""TextGrad: the loss, its gradient and the step are texts, and a step that lowers the dev accuracy is taken back.

Yuksekgonul et al., "TextGrad: Automatic Differentiation via Text", 2024, arXiv 2406.07496; the prompt-optimization
loop of the authors' code. ``docs/methods/textgrad.md`` lists what differs.
"""

from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods import _textgrad_prompts as prompts
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
from greater_ray.methods._proposals import Proposal, propose
from greater_ray.methods._rounds import new_proposals, shuffled
from greater_ray.methods._writer import WORDS, Asker, Reader, TextConfig, between
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.types import Example, Generation, TokenIds


class TextGradConfig(TextConfig):
    """Options of TextGrad; batch, steps per epoch and revert are those of the authors' code.

    The writer is greedy and may write 1024 tokens, as in the runs that the GReaTer comparison left behind.
    """

    initial_prompt: str = Field(
        default="Work on the question one step at a time, and end with one line that states only the answer.",
        description="The prompt that the search starts from.",
    )
    temperature: float = Field(default=0.0, ge=0, description="Temperature of the writer; 0 is greedy.")
    max_new_tokens: int = Field(default=1024, ge=1, description="Tokens that a reply of the writer may have.")
    max_prompt_tokens: int = Field(
        default=1000, ge=1, description="How long a prompt may be, in tokens of the task model."
    )
    batch_size: int = Field(default=3, ge=1, description="Training rows of a batch.")
    steps_per_epoch: int = Field(
        default=4, ge=1, description="Batches of an epoch, after which the rows are shuffled again."
    )
    evaluator: Literal["match", "judge"] = Field(
        default="match", description="What gives the loss on a training row: an exact match, or the writer as a judge."
    )
    validation: Literal["match", "judge"] = Field(default="match", description="What gives the dev score, likewise.")
    revert: bool = Field(default=True, description="Takes a prompt back that scores worse on dev rows.")
    constraints: tuple[str, ...] = Field(default=(), description="What the writer is told that a prompt must keep to.")
    max_response_words: int = Field(
        default=300, ge=2, description="Responses in the writer's messages are cut to so many words."
    )


class TextGradState(TextState, frozen=True):
    """``number`` is that of the prompt that the next step starts from."""

    number: int = 0

    @property
    def result(self) -> TokenIds:
        """The current prompt: with the revert none before it was better, and ties go to the later one."""
        return self.prompt_ids


class TextGrad:
    """The method; stateless."""

    summary = "feedback on responses and prompt as a textual gradient; a worse prompt is taken back"
    source = "Yuksekgonul et al., 2024, arXiv 2406.07496"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = TextGradConfig
    state_type = TextGradState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"layout": {"frozen_prefix": "", "placement": "system"}, "budget": {"steps": 12}}
    }

    def start(self, problem: Problem, config: TextGradConfig) -> TextGradState:
        """Tokenize the initial prompt."""
        return TextGradState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: TextGradConfig, state: TextGradState) -> tuple[TextGradState, StepInfo]:
        """One batch: loss, two feedbacks per row, one new prompt, and its validation."""
        notes: list[str] = []
        archive = state.archive
        if not archive:
            score = _validate(problem, config, state.step, state.prompt_ids, notes)
            archive = archived((), [(config.initial_prompt.strip(), state.prompt_ids)], [score], state.step)
        current = archive[state.number]
        made = _rewritten(problem, config, state.step, current, archive, notes)
        proposal = made[-1] if made else None
        scores: dict[str, float] = {}
        if proposal is None:
            notes.append("every row of the batch was answered rightly: the prompt stays as it is")
        elif proposal.usable:
            score = _validate(problem, config, state.step, proposal.ids, notes)
            scores[proposal.text] = score
            archive = archived(archive, [(proposal.text, proposal.ids)], [score], state.step, [current.number])
            if config.revert and score < current.score:
                notes.append(f"taken back: {score:.3f} on dev is lower than {current.score:.3f}")
            else:
                current = archive[-1]
        else:
            notes.append(f"no new prompt ({proposal.status}): the prompt stays")
        state = advanced(state, archive, current, sum(not p.usable for p in made), number=current.number)
        return state, info(state, current, candidates(made, scores), notes)


def batch(problem: Problem, config: TextGradConfig, step: int) -> list[Example]:
    """Return the rows of a step; small training sets have fewer batches per epoch, the last one possibly shorter."""
    size = config.batch_size
    epoch, k = divmod(step, min(config.steps_per_epoch, -(-len(problem.examples) // size)))
    return shuffled(problem, epoch)[k * size : (k + 1) * size]


def _rewritten(
    problem: Problem,
    config: TextGradConfig,
    step: int,
    current: Scored,
    archive: tuple[Scored, ...],
    notes: list[str],
) -> list[Proposal]:
    """Loss, backward pass and step: 2B + 1 calls of the writer, besides the judge's and repeated ones.

    A second proposal follows a duplicate. None at all where the loss finds every row answered rightly: there is nothing
    to criticize.
    """
    rows = batch(problem, config, step)
    (records,) = problem.score([current.ids], rows)
    traces = _losses(problem, config, step, rows, records, notes)
    if all(t.right for t in traces):
        return []
    asker = Asker(problem, config, step, notes=notes)
    remarks = asker.gather([prompts.criticize_response(t) for t in traces], "on response", WORDS)
    traces = [t._replace(on_response=r) for t, r in zip(traces, remarks, strict=True) if r is not None]
    remarks = asker.gather([prompts.criticize_prompt(current.text, t) for t in traces], "on prompt", WORDS)
    traces = [t._replace(on_prompt=r) for t, r in zip(traces, remarks, strict=True) if r is not None]
    if len(traces) < len(rows):
        notes.append(f"feedback on {len(traces)} of {len(rows)} rows")
    if not traces:
        return [Proposal("", "unreadable")]
    asked = [prompts.rewrite(current.text, traces, config.constraints)]
    known, limit = [scored.text for scored in archive], config.max_prompt_tokens
    judge = partial(propose, problem, known=known, max_prompt_tokens=limit, meta=prompts.WORDING)
    return new_proposals(problem, asked, config, step, "rewrite", notes, judge)


def _losses(
    problem: Problem,
    config: TextGradConfig,
    step: int,
    rows: list[Example],
    records: list[ExampleRecord],
    notes: list[str],
) -> list[prompts.Trace]:
    """Return every row with its response and the evaluation as text."""
    responses = [prompts.respond(e, r, config.max_response_words) for e, r in zip(rows, records, strict=True)]
    if config.evaluator == "match":
        rights = [r.correct for r in records]
        said = [prompts.matched(e, r) for e, r in zip(rows, records, strict=True)]
    else:
        verdicts = _judge(problem, config, step, "training", rows, records, notes)
        rights = [v == "1" for v in verdicts]
        said = [prompts.judged(e, v == "1", v is not None) for e, v in zip(rows, verdicts, strict=True)]
    return [
        prompts.Trace(e.question, response, loss, right)
        for e, response, loss, right in zip(rows, responses, said, rights, strict=True)
    ]


def _validate(problem: Problem, config: TextGradConfig, step: int, ids: TokenIds, notes: list[str]) -> float:
    """Return a prompt's score on the dev rows; a judge's unreadable verdict counts as wrong."""
    rows = list(dev_rows(problem))
    (records,) = problem.score([ids], rows)
    if config.validation == "match":
        return accuracy(records)
    return _judge(problem, config, step, "dev", rows, records, notes).count("1") / len(rows)


def _judge(
    problem: Problem,
    config: TextGradConfig,
    step: int,
    split: str,
    rows: list[Example],
    records: list[ExampleRecord],
    notes: list[str],
) -> list[str | None]:
    """Let the writer grade responses: "1", "0", or None where its verdict cannot be read."""
    asked = [
        prompts.judge(e, prompts.respond(e, r, config.max_response_words)) for e, r in zip(rows, records, strict=True)
    ]
    asker = Asker(problem, config, step, notes=notes)
    verdicts = asker.gather(asked, f"judge {split}", Reader(_verdict, prompts.SCORE_TAGS[0]), temperature=0.0)
    if num := verdicts.count(None):
        notes.append(f"{num} unreadable verdicts on {split} rows, counted as wrong")
    return verdicts


def _verdict(reply: Generation) -> str | None:
    found = (between(*prompts.SCORE_TAGS).read(reply) or "").strip()
    return found if found in ("0", "1") else None


PLUGIN = TextGrad()

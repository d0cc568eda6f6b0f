"""GReaTer with textual feedback: now and then the model's critique of its failures proposes whole prompts.

Das et al., ICLR 2025, name the combination of gradients with textual feedback as future work. The design is ours and
is described in ``docs/decisions/0007-textual-feedback-in-greater.md``: the token search is GReaTer's own, a rewrite
enters as the starting prompt of a new sweep, and GReaTer's loss alone decides whether it does.
"""

from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods import _greater_textual_prompts as prompts
from greater_ray.methods._proposals import Proposal, propose
from greater_ray.methods._rounds import new_proposals
from greater_ray.methods._tokens import INITIAL_PROMPT, remember
from greater_ray.methods._writer import WORDS, Asker, TextConfig
from greater_ray.methods.greater import Greater, GreaterConfig, GreaterState, criterion
from greater_ray.protocols import Candidate, Problem, StepInfo
from greater_ray.work import CheckPrompts, Gradients, Rollouts, Work


class GreaterTextualConfig(GreaterConfig, TextConfig):
    """All options of GReaTer and those of a writer; ``max_prompt_tokens`` bounds growth and rewrites alike.

    The numbers of its own are ours.
    """

    initial_prompt: str = Field(default=f"Use{INITIAL_PROMPT}", description="The prompt that the search starts from.")
    feedback_every: int = Field(
        default=20,
        ge=1,
        description="Tuned tokens between two requests for text; about one sweep through the start prompt.",
    )
    num_failures: int = Field(
        default=3, ge=1, description="Training rows that a critique is about, which the best prompt gets wrong."
    )
    num_rewrites: int = Field(default=4, ge=1, description="Rewrites that are asked for after it.")


class GreaterTextualState(GreaterState, frozen=True):
    """``tuned`` counts tokens since text was asked for, ``rewrites`` holds what was scored, ``failed`` what was not."""

    tuned: int = 0
    rewrites: tuple[str, ...] = ()
    failed: int = 0


class GreaterTextual:
    """The method; stateless. It is made of a ``Greater`` and a step of its own."""

    summary = "GReaTer whose sweeps may also start from rewrites that the model's critique proposes"
    source = "our design, after the future work of Das et al., ICLR 2025, arXiv 2412.09722"
    seeded = True
    selects_by: Literal["train", "dev"] = "train"
    config_type = GreaterTextualConfig
    state_type = GreaterTextualState
    # A rewrite is a whole prompt, so nothing fixed stands in front of it: "Use" belongs to the initial prompt.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 105}}
    }

    def __init__(self) -> None:
        self._search = Greater()

    def needs(self, config: GreaterTextualConfig) -> dict[type[Work[Any]], str]:
        """See ``NeedsWork``."""
        return {Gradients: ""}

    def start(self, problem: Problem, config: GreaterTextualConfig) -> GreaterTextualState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: it has no tokens.
        """
        return GreaterTextualState(**self._search.start(problem, config).model_dump())

    def step(
        self, problem: Problem, config: GreaterTextualConfig, state: GreaterTextualState
    ) -> tuple[GreaterTextualState, StepInfo]:
        """Tune one token as GReaTer does, or, after enough of them, ask for rewrites."""
        if state.tuned >= config.feedback_every:
            return self._ask_for_rewrites(problem, config, state)
        after, info = self._search.step(problem, config, state)
        return GreaterTextualState.model_validate({**after.model_dump(), "tuned": state.tuned + 1}), info

    def _ask_for_rewrites(
        self, problem: Problem, config: GreaterTextualConfig, state: GreaterTextualState
    ) -> tuple[GreaterTextualState, StepInfo]:
        """Score rewrites by GReaTer's criterion; a new sweep starts from the best if it beats the current prompt."""
        notes: list[str] = []
        proposals = rewrites(problem, config, state, notes)
        usable = [p for p in proposals if p.usable]
        scored = problem.model.ask(
            Rollouts(problem.examples, [state.prompt_ids, *(p.ids for p in usable)], config.loss)
        )
        loss, *losses = (criterion(config, rows) for rows in scored)
        by_text = dict(zip((p.text for p in usable), losses, strict=True))
        candidates = tuple(
            Candidate(None, p.text, None, by_text[p.text])
            if p.usable
            else Candidate(None, p.text, None, None, p.status)
            for p in proposals
        )
        best = state.best
        improved = False
        for proposal, value in zip(usable, losses, strict=True):
            improved = improved or not best or value < best[0][0]
            best = remember(best, value, proposal.ids)
        changes: dict[str, Any] = {
            "best": best,
            "tuned": 0,
            "rewrites": (*state.rewrites, *by_text),
            "failed": state.failed + len(proposals) - len(usable),
        }
        first = min(range(len(losses)), key=lambda k: (losses[k], k), default=None)
        accepted = None
        if first is not None and losses[first] < loss:
            ids, loss = usable[first].ids, losses[first]
            accepted = proposals.index(usable[first])
            changes |= {"prompt_ids": ids, "initial_length": len(ids), "position": 0, "open": False}
        state = state.stepped(improved=improved, **changes)
        info = StepInfo(
            position=None,
            prompt_ids=state.prompt_ids,
            prompt_text=problem.model.ask(CheckPrompts([state.prompt_ids]))[0].text,
            loss=loss,
            best_loss=best[0][0] if best else None,
            accepted=accepted,
            candidates=candidates,
            notes=tuple(notes),
            written=tuple(c.status for c in candidates),
        )
        return state, info


def rewrites(
    problem: Problem, config: GreaterTextualConfig, state: GreaterTextualState, notes: list[str]
) -> list[Proposal]:
    """Return what the model writes after it was shown failures of the best prompt; nothing where there are none."""
    best, current = (c.text.strip() for c in problem.model.ask(CheckPrompts([state.result, state.prompt_ids])))
    (records,) = problem.score([state.result], problem.examples)
    failures = [(e, record) for e, record in zip(problem.examples, records, strict=True) if not record.correct]
    if not failures:
        notes.append("no rewrites: every training row is answered rightly")
        return []
    shown = problem.rng(state.step, "failures").sample(failures, min(config.num_failures, len(failures)))
    asked = [prompts.criticize(best, shown, problem.prompt_first)]
    asker = Asker(problem, config, state.step, notes=notes)
    (critique,) = asker.gather(asked, "critique", WORDS)
    if critique is None:
        notes.append("no rewrites: no critique was written")
        return []
    conversations = [prompts.rewrite(best, critique, problem.prompt_first)] * config.num_rewrites
    judge = partial(
        propose,
        problem,
        known=(best, current, *state.rewrites),
        max_prompt_tokens=config.max_prompt_tokens,
        meta=prompts.WORDING,
    )
    proposals = new_proposals(problem, conversations, config, state.step, "rewrite", notes, judge)
    if not any(p.usable for p in proposals):
        notes.append("no rewrite could be used")
    return proposals


PLUGIN = GreaterTextual()

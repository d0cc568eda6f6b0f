"""What both forms of EvoPrompt share: the options, the first population, and the rows that fitness is measured on.

Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful Prompt Optimizers", ICLR
2024, arXiv 2309.08532. ``docs/methods/evoprompt-ga.md`` lists what differs.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from greater_ray.methods import _evolution_prompts as prompts
from greater_ray.methods._archive import Scored, TextState, advanced, candidates, dev_rows, info, start_ids
from greater_ray.methods._proposals import Proposal, propose
from greater_ray.methods._rounds import Round, new_proposals
from greater_ray.methods._writer import TextConfig
from greater_ray.protocols import Problem, StepInfo
from greater_ray.types import Conversation, Example

SOURCE = "Guo et al., ICLR 2024, arXiv 2309.08532"


class EvolutionConfig(TextConfig):
    """Options of EvoPrompt; population, temperature and rows are those of the authors' scripts for BBH."""

    temperature: float = Field(default=0.5, ge=0, description="Temperature of the writer; 0 is greedy.")
    seed_prompts: tuple[str, ...] = Field(
        default=prompts.SEEDS, description="Prompts that the first population is made of, beside the start prompt."
    )
    population: int = Field(
        default=10,
        ge=4,
        description="Prompts of a population: the best half are seeds, the other half their paraphrases.",
    )
    num_rows: int = Field(
        default=50, ge=1, description="Random dev rows that measure fitness, the same ones in the whole run."
    )


class EvolutionState(TextState, frozen=True):
    """The population as numbers of scored prompts, one per place; ``children`` are those of a generation under way.

    ``judged`` counts the seeds that were taken up.
    """

    phase: Literal["seeds", "paraphrases", "evolution"] = "seeds"
    judged: int = 0
    population: tuple[int, ...] = ()
    children: tuple[int, ...] = ()
    generation: int = 0


def start(problem: Problem, config: EvolutionConfig) -> EvolutionState:
    """Tokenize the initial prompt."""
    return EvolutionState(prompt_ids=start_ids(problem, config.initial_prompt))


def preset(steps: int) -> dict[str, Any]:
    """Return the settings of a trial of so many steps."""
    return {"layout": {"frozen_prefix": ""}, "budget": {"steps": steps}}


def initialize(
    problem: Problem, config: EvolutionConfig, state: EvolutionState
) -> tuple[EvolutionState, StepInfo] | None:
    """Do one step towards the first population: score some seeds, or paraphrase the best; None once it is there."""
    if state.phase == "seeds":
        return _score_seeds(problem, config, state)
    if state.phase == "paraphrases":
        return _paraphrase(problem, config, state)
    return None


def _score_seeds(problem: Problem, config: EvolutionConfig, state: EvolutionState) -> tuple[EvolutionState, StepInfo]:
    """Score as many seeds as a population holds, so that no step costs more than a generation."""
    seeds = (config.initial_prompt, *config.seed_prompts)
    upto = min(state.judged + config.population, len(seeds))
    proposals = propose(
        problem,
        seeds[state.judged : upto],
        known=[s.text for s in state.archive],
        max_prompt_tokens=config.max_prompt_tokens,
    )
    if not state.judged:
        # The prompt that the run starts from is measured as it is, whatever a guard may say to it.
        proposals[0] = Proposal(config.initial_prompt.strip(), "new", state.prompt_ids)
    scored = Round(problem, state.archive, proposals, fitness_rows(problem, config), state.step)
    phase = "seeds" if upto < len(seeds) else "paraphrases"
    state, step = finish(state, scored, proposals, [], judged=upto, phase=phase)
    # The writer has proposed nothing yet.
    return state, replace(step, written=())


def _paraphrase(problem: Problem, config: EvolutionConfig, state: EvolutionState) -> tuple[EvolutionState, StepInfo]:
    """Keep the best half and fill up with one paraphrase of each; where one fails, the next best seed stands in."""
    size = config.population
    kept = top(state.archive, (size + 1) // 2)
    parents = kept[: size - len(kept)]
    asked = [prompts.paraphrase(state.archive[number].text) for number in parents]
    notes: list[str] = []
    proposals = write(problem, config, state, asked, notes)
    scored = Round(problem, state.archive, proposals, fitness_rows(problem, config), state.step, parents)
    spare = [number for number in top(state.archive, size) if number not in kept]
    population = (*kept, *(s.number for s in scored.new), *spare)[:size]
    if lost := len(parents) - len(scored.new):
        notes.append(f"paraphrases that cannot be used: {lost}; the next best seeds stand in")
    if len(population) < size:
        notes.append(f"the population has {len(population)} instead of {size} members")
    return finish(state, scored, proposals, notes, phase="evolution", population=population)


def fitness_rows(problem: Problem, config: EvolutionConfig) -> list[Example]:
    """Return the random dev rows of this run, in their own order."""
    rows = dev_rows(problem)
    chosen = problem.rng(0, "fitness rows").sample(range(len(rows)), min(config.num_rows, len(rows)))
    return [rows[k] for k in sorted(chosen)]


def write(
    problem: Problem, config: EvolutionConfig, state: EvolutionState, asked: Sequence[Conversation], notes: list[str]
) -> list[Proposal]:
    """Ask for children and judge them; one that was scored before is a duplicate.

    Where there was nothing but duplicates, the children of a second attempt follow those of the first one.
    """
    judge = partial(
        propose,
        problem,
        known=[s.text for s in state.archive],
        max_prompt_tokens=config.max_prompt_tokens,
        meta=prompts.WORDING,
    )
    return new_proposals(problem, asked, config, state.step, "children", notes, judge)


def top(archive: Sequence[Scored], num: int) -> tuple[int, ...]:
    """Return the numbers of the best prompts, best first; among equals the earlier one goes first."""
    return tuple(s.number for s in sorted(archive, key=lambda s: (-s.score, s.number))[:num])


def finish(
    state: EvolutionState, scored: Round, proposals: Sequence[Proposal], notes: Sequence[str], **changes: Any
) -> tuple[EvolutionState, StepInfo]:
    """Return the next state and the record; the best prompt so far is the current one."""
    best = scored.archive[top(scored.archive, 1)[0]]
    state = advanced(state, scored.archive, best, scored.failed, **changes)
    return state, info(state, best, candidates(proposals, scored.scores), notes)

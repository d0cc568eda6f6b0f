"""EvoPrompt with a genetic algorithm: two parents, crossover and mutation by the writer, survival of the best.

Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful Prompt Optimizers", ICLR
2024, arXiv 2309.08532, Section 3.2.
"""

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from greater_ray.methods import _evolution as evolution
from greater_ray.methods._archive import Scored
from greater_ray.methods._evolution_prompts import breed
from greater_ray.methods._proposals import Proposal
from greater_ray.methods._rounds import Round
from greater_ray.protocols import Problem, StepInfo


class EvoPromptGaConfig(evolution.EvolutionConfig):
    """``selection`` of parents and ``survival`` as in the authors' code, with their defaults.

    ``wheel``: as many places as the population holds are drawn in proportion to fitness, then two of them per child;
    ``tournament``: each parent is the better of two; ``random``: any two. ``best``: the best of old and new survive;
    ``replace``: child j takes the place of member j.
    """

    selection: Literal["wheel", "tournament", "random"] = Field(
        default="wheel", description="How parents are chosen: in proportion to fitness, the better of two, or any two."
    )
    survival: Literal["best", "replace"] = Field(
        default="best", description="Whether the best of old and new survive, or each child takes a place."
    )


class EvoPromptGa:
    """The method; stateless."""

    summary = "evolution of prompts: crossover and mutation by the writer"
    source = evolution.SOURCE
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = EvoPromptGaConfig
    state_type = evolution.EvolutionState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # Two steps for 20 seeds, one for the paraphrases, ten generations.
        "paper": evolution.preset(13)
    }

    def start(self, problem: Problem, config: EvoPromptGaConfig) -> evolution.EvolutionState:
        """Tokenize the initial prompt."""
        return evolution.start(problem, config)

    def step(
        self, problem: Problem, config: EvoPromptGaConfig, state: evolution.EvolutionState
    ) -> tuple[evolution.EvolutionState, StepInfo]:
        """A part of the first population, or one generation."""
        if (begun := evolution.initialize(problem, config, state)) is not None:
            return begun
        members = [state.archive[number] for number in state.population]
        rng = problem.rng(state.step, "parents")
        parents = select(members, config.selection, config.population, rng)
        asked = [breed(first.text, second.text) for first, second in parents]
        notes: list[str] = []
        proposals = evolution.write(problem, config, state, asked, notes)
        rows = evolution.fitness_rows(problem, config)
        scored = Round(problem, state.archive, proposals, rows, state.step, [first.number for first, _ in parents])
        if not scored.new:
            notes.append("no child of this generation can be used: the population stays")
        # Where there was a second attempt, nothing of the first one could be used.
        population = survive(members, proposals[-len(asked) :], scored.new, config)
        return evolution.finish(state, scored, proposals, notes, population=population, generation=state.generation + 1)


def wheel(scores: Sequence[float], num: int, rng: random.Random) -> list[int]:
    """Draw ``num`` places with replacement, in proportion to their scores; evenly where all scores are zero."""
    weights = list(scores) if sum(scores) > 0 else [1.0] * len(scores)
    drawn = []
    for _ in range(num):
        left = rng.random() * sum(weights)
        place = 0
        while left >= weights[place] and place < len(weights) - 1:
            left -= weights[place]
            place += 1
        drawn.append(place)
    return drawn


def select(members: Sequence[Scored], selection: str, num: int, rng: random.Random) -> list[tuple[Scored, Scored]]:
    """Return the parents of ``num`` children; both may be the same prompt where it was drawn twice."""
    if selection == "tournament":
        return [(_winner(members, rng), _winner(members, rng)) for _ in range(num)]
    pool = list(members)
    if selection == "wheel":
        pool = [members[place] for place in wheel([m.score for m in members], len(members), rng)]
    return [(pair[0], pair[-1]) for pair in (_two(pool, rng) for _ in range(num))]


def _two(pool: Sequence[Scored], rng: random.Random) -> list[Scored]:
    return rng.sample(pool, min(2, len(pool)))


def _winner(members: Sequence[Scored], rng: random.Random) -> Scored:
    """The better of two random members; the first drawn one among equals."""
    return max(_two(members, rng), key=lambda s: s.score)


def survive(
    members: Sequence[Scored], proposals: Sequence[Proposal], new: Sequence[Scored], config: EvoPromptGaConfig
) -> tuple[int, ...]:
    """Return the next population; a child that cannot be used leaves its place as it was."""
    if config.survival == "best":
        return evolution.top(list({s.number: s for s in (*members, *new)}.values()), config.population)
    fresh = iter(new)
    population = [m.number for m in members]
    for place, proposal in enumerate(proposals):
        child = next(fresh).number if proposal.usable else None
        if place >= len(population):
            population.extend([] if child is None else [child])
        elif child is not None:
            population[place] = child
    return tuple(population)


PLUGIN = EvoPromptGa()

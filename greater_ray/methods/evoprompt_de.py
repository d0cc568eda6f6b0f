"""EvoPrompt with differential evolution: every member competes with a child made from it and three other prompts.

Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful Prompt Optimizers", ICLR
2024, arXiv 2309.08532, Section 3.3.
"""

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from greater_ray.methods import _evolution as evolution
from greater_ray.methods._archive import Scored
from greater_ray.methods._evolution_prompts import differ
from greater_ray.methods._rounds import Round
from greater_ray.protocols import Problem, StepInfo


class EvoPromptDeConfig(evolution.EvolutionConfig):
    """Options of the differential form; the donor is the authors' default."""

    donor: Literal["best", "random"] = Field(
        default="best", description="Prompt 3: the best prompt scored so far, or a third random member."
    )


class Roles(NamedTuple):
    """Who plays which part in c + F(a - b), crossed with the basic prompt."""

    a: Scored
    b: Scored
    c: Scored
    basic: Scored


class EvoPromptDe:
    """The method; stateless."""

    summary = "differential evolution of prompts: differences of two are mutated and built into a third"
    source = evolution.SOURCE
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = EvoPromptDeConfig
    state_type = evolution.EvolutionState
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # Two steps for 20 seeds, one for the paraphrases, and ten generations of ten members.
        "paper": evolution.preset(103)
    }

    def start(self, problem: Problem, config: EvoPromptDeConfig) -> evolution.EvolutionState:
        """Tokenize the initial prompt."""
        return evolution.start(problem, config)

    def step(
        self, problem: Problem, config: EvoPromptDeConfig, state: evolution.EvolutionState
    ) -> tuple[evolution.EvolutionState, StepInfo]:
        """A part of the first population, or one member's child: its donor depends on the children before it."""
        if (begun := evolution.initialize(problem, config, state)) is not None:
            return begun
        place = len(state.children)
        parent = state.archive[state.population[place]]
        given = roles(state.archive, state.population, place, config.donor, problem.rng(state.step, "roles"))
        notes = [f"generation {state.generation + 1}, member {place + 1}"]
        asked = [differ(*(scored.text for scored in given))]
        proposals = evolution.write(problem, config, state, asked, notes)
        rows = evolution.fitness_rows(problem, config)
        scored = Round(problem, state.archive, proposals, rows, state.step, [parent.number])
        winner = next((child for child in scored.new if child.score > parent.score), parent)
        children = (*state.children, winner.number)
        if not scored.new:
            notes.append("the child cannot be used: the member stays")
        changes: dict[str, Any] = {"children": children}
        if len(children) == len(state.population):
            changes = {"population": children, "children": (), "generation": state.generation + 1}
        return evolution.finish(state, scored, proposals, notes, **changes)


def roles(archive: Sequence[Scored], population: Sequence[int], place: int, donor: str, rng: random.Random) -> Roles:
    """Return the prompts that make a child for one place of the population.

    Three other places are drawn; with fewer than three others, some are drawn more than once.
    """
    others = [number for k, number in enumerate(population) if k != place] or list(population)
    a, b, c = rng.sample(others, 3) if len(others) >= 3 else rng.choices(others, k=3)
    if donor == "best":
        c = evolution.top(archive, 1)[0]
    return Roles(archive[a], archive[b], archive[c], archive[population[place]])


PLUGIN = EvoPromptDe()

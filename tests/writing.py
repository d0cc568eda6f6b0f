"""The smallest method that lets a model write: two new prompts a step, both scored, the better one kept."""

from types import MappingProxyType
from typing import Literal

from greater_ray.methods._archive import (
    TextState,
    accuracy,
    advanced,
    archived,
    best_of,
    candidates,
    dev_rows,
    info,
    start_ids,
)
from greater_ray.methods._proposals import propose
from greater_ray.methods._writer import TextConfig, ask, chat
from greater_ray.protocols import Problem, StepInfo


class Rewriting:
    """Ask for another wording of the best prompt; a reply that cannot be used is counted."""

    summary = "ask for another wording"
    source = "tests"
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type = TextConfig
    state_type = TextState
    presets = MappingProxyType({"paper": {"layout": {"frozen_prefix": ""}, "budget": {"steps": 3}}})

    def start(self, problem: Problem, config: TextConfig) -> TextState:
        return TextState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: TextConfig, state: TextState) -> tuple[TextState, StepInfo]:
        archive = state.archive
        if not archive:
            (rows,) = problem.score([state.prompt_ids], dev_rows(problem))
            archive = archived((), [(config.initial_prompt, state.prompt_ids)], [accuracy(rows)], state.step)
        best = best_of(archive)[0][1]
        old = next(scored.text for scored in archive if scored.ids == best)
        question = chat(f"Write this in other words: {old}")
        # One call each, so that a limit can be met between them.
        replies = [ask(problem, [question], config, state.step, purpose)[0] for purpose in ("first", "second")]
        known = [scored.text for scored in archive]
        texts = [None if reply.error else reply.text for reply in replies]
        proposals = propose(problem, texts, known=known, max_prompt_tokens=config.max_prompt_tokens)
        usable = [(p.text, p.ids) for p in proposals if p.usable]
        scores = [accuracy(rows) for rows in problem.score([ids for _, ids in usable], dev_rows(problem))]
        archive = archived(archive, usable, scores, state.step)
        current = next(scored for scored in archive if scored.ids == best_of(archive)[0][1])
        after = advanced(state, archive, current, sum(not p.usable for p in proposals))
        shown = candidates(proposals, {text: score for (text, _), score in zip(usable, scores, strict=True)})
        return after, info(after, current, shown)


PLUGIN = Rewriting()

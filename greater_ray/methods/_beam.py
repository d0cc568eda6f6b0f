"""Beam search with backtracking over a tree of prompts: what iterative APE, APO and PE2 have in common.

The search is that of the code released with PE2 (Ye et al., 2023), in which the three are run side by side, also for
the GReaTer paper. In every round the ``n_beam`` best prompts by dev accuracy are expanded into ``n_expand`` children
each, which are scored on all dev rows. With ``backtrack`` the best are taken from all prompts so far, otherwise from
the newest generation. ``train_steps`` generations make ``train_steps - 1`` rounds.

One step expands one prompt of the round. The children of one prompt do not depend on the scores of its neighbours'
children, so this is the same search as a round at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field

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
from greater_ray.methods._failures import Search, find_failures
from greater_ray.methods._proposals import Proposal, propose
from greater_ray.methods._writer import (
    Asker,
    RewriteConfig,
    only_duplicates,
    paraphrase_request,
    prompt_reader,
    wording,
)
from greater_ray.protocols import Problem, StepInfo

C = TypeVar("C", bound="BeamConfig")
E = TypeVar("E", bound="ErrorConfig")


class BeamConfig(RewriteConfig):
    """Options of the search; the defaults are those of the script that PE2's authors released for BBH.

    The GReaTer paper used their code and gives no value of its own. The code without the script has
    ``train_steps`` 10, ``n_beam`` 2, ``n_expand`` 2 and no backtracking.
    """

    train_steps: int = Field(default=4, ge=1, description="Rounds of the search.")
    n_beam: int = Field(default=4, ge=1, description="Prompts that are kept after a round.")
    n_expand: int = Field(default=4, ge=1, description="New prompts that are written for each kept one.")
    backtrack: bool = Field(default=True, description="Whether earlier prompts stay in the running.")


class ErrorConfig(BeamConfig):
    """Options of the methods that learn from wrong answers; defaults as in ``BeamConfig``.

    The limit on what is shown is our own.
    """

    batch_size: int = Field(default=2, ge=1, description="Wrong answers that are shown for each new prompt.")
    chunk_size: int = Field(
        default=20, ge=1, description="Training rows that are answered at a time, until there are enough wrong answers."
    )
    max_shown_characters: int = Field(
        default=2000, ge=20, description="Reasoning above this length is shown without its middle."
    )

    @property
    def needed(self) -> int:
        """How many wrong answers are enough to expand one prompt."""
        return -(-self.batch_size * max(self.n_expand, 2) // 2)


class Node(BaseModel, frozen=True, extra="forbid"):
    """What the tree knows of the prompt with the same number in the archive; ``history`` is PE2's log."""

    generation: int
    history: str = ""


class BeamState(TextState, frozen=True):
    """``nodes`` is aligned with ``archive``; ``queue`` holds the prompts of this round still to be expanded."""

    nodes: tuple[Node, ...] = ()
    queue: tuple[int, ...] = ()
    rounds: int = 0


class Expansion(NamedTuple):
    """What was written for one prompt: a text or None per child, and the history of each child."""

    texts: Sequence[str | None]
    histories: Sequence[str] = ()
    notes: tuple[str, ...] = ()


def select(archive: Sequence[Scored], nodes: Sequence[Node], config: BeamConfig) -> tuple[int, ...]:
    """Return the numbers of the prompts to expand next, best first; among equals the earlier one comes first."""
    newest = max(node.generation for node in nodes)
    pool = [s for s in archive if config.backtrack or nodes[s.number].generation == newest]
    return tuple(s.number for s in sorted(pool, key=lambda s: -s.score)[: config.n_beam])


def search_presets(**released: Any) -> dict[str, dict[str, Any]]:
    """Return both presets; in the released code a whole reply is the prompt, and ``released`` options differ."""
    common: dict[str, Any] = {"layout": {"frozen_prefix": ""}, "budget": {"steps": 100}}
    return {"paper": common, "released": {**common, "method_config": {"reply": "whole", **released}}}


class BeamSearch(ABC, Generic[C]):
    """The search; a method adds ``expand`` and the wording of its meta-prompts. Stateless."""

    summary: str
    source: str
    seeded = True
    selects_by: Literal["train", "dev"] = "dev"
    config_type: type[C]
    state_type = BeamState
    presets: ClassVar[dict[str, dict[str, Any]]] = search_presets()
    # Whether a prompt that answers every dev row ends the search.
    stops_when_perfect: ClassVar[bool] = True

    @abstractmethod
    def expand(self, asker: Asker, config: C, parent: Scored, node: Node) -> Expansion:
        """Write ``n_expand`` children of a prompt."""

    @abstractmethod
    def meta(self, config: C) -> str:
        """Return the wording of the meta-prompts without the prompts and rows that they are about."""

    def most_steps(self, config: C, num_rows: int) -> int:
        """Return how many prompts all rounds expand where every child can be used."""
        steps, queue, held = 0, 1, 1
        for _ in range(config.train_steps - 1):
            steps, children = steps + queue, queue * config.n_expand
            held = held + children if config.backtrack else children
            queue = min(config.n_beam, held)
        # Without a round the start is still scored.
        return max(1, steps)

    def start(self, problem: Problem, config: C) -> BeamState:
        """Tokenize the initial prompt.

        Raises:
            ConfigError: it has no tokens.
        """
        return BeamState(prompt_ids=start_ids(problem, config.initial_prompt))

    def step(self, problem: Problem, config: C, state: BeamState) -> tuple[BeamState, StepInfo]:
        """Expand the next prompt of the round and score its children; the first step scores the start, too."""
        archive, nodes, queue = state.archive, state.nodes, state.queue
        rows = dev_rows(problem)
        if not archive:
            (records,) = problem.score([state.prompt_ids], rows)
            start = (config.initial_prompt.strip(), state.prompt_ids)
            archive, nodes, queue = archived((), [start], [accuracy(records)], state.step), (Node(generation=0),), (0,)
            if config.train_steps == 1 or self._ends(archive):
                note = "the start prompt answers every row" if archive[0].score == 1 else "no round to run"
                state = advanced(state, archive, archive[0], 0, nodes=nodes, finished=True)
                return state, info(state, archive[0], (), (note,))
        parent = archive[queue[0]]
        proposals, expansion = self._children(problem, config, state.step, archive, (parent, nodes[parent.number]))
        usable = [k for k, p in enumerate(proposals) if p.usable]
        scores: dict[str, float] = {}
        if usable:
            answers = problem.score([proposals[k].ids for k in usable], rows)
            scores = {proposals[k].text: accuracy(records) for k, records in zip(usable, answers, strict=True)}
            new = [(proposals[k].text, proposals[k].ids) for k in usable]
            values, parents = [scores[text] for text, _ in new], [parent.number] * len(new)
            archive = archived(archive, new, values, state.step, parents)
        grown = (Node(generation=state.rounds + 1, history=expansion.histories[k]) for k in usable)
        nodes = (*nodes, *grown)
        rounds, queue = state.rounds, queue[1:]
        if not queue:
            rounds, queue = rounds + 1, select(archive, nodes, config)
        finished = rounds >= config.train_steps - 1 or self._ends(archive)
        notes = list(expansion.notes)
        if finished and len(archive) == 1:
            notes.append("no proposal could be used: the start prompt stays")
        best = max(archive, key=lambda s: (s.score, -s.number))
        state = advanced(
            state,
            archive,
            best,
            len(proposals) - len(usable),
            nodes=nodes,
            queue=() if finished else queue,
            rounds=rounds,
            finished=finished,
        )
        return state, info(state, best, candidates(proposals, scores), notes)

    def _ends(self, archive: Sequence[Scored]) -> bool:
        return self.stops_when_perfect and any(s.score == 1 for s in archive)

    def _children(
        self, problem: Problem, config: C, step: int, archive: Sequence[Scored], parent: tuple[Scored, Node]
    ) -> tuple[list[Proposal], Expansion]:
        """Write and judge children; where all that could be read were duplicates, once more at a higher temperature."""
        known = [s.text for s in archive]
        judged: list[Proposal] = []
        histories: list[str] = []
        notes: dict[str, None] = {}
        for attempt in range(2):
            asker = Asker(problem, config, step, attempt)
            expansion = self.expand(asker, config, *parent)
            new = propose(
                problem,
                expansion.texts,
                known=known,
                max_prompt_tokens=config.max_prompt_tokens,
                meta=self.meta(config),
            )
            judged += new
            histories += expansion.histories or [""] * len(new)
            notes |= dict.fromkeys([*expansion.notes, *asker.notes])
            if not only_duplicates(new):
                break
        return judged, Expansion([p.text for p in judged], histories, tuple(notes))


class ErrorDriven(BeamSearch[E]):
    """A search whose children are written from wrong answers; a method adds ``update``."""

    @abstractmethod
    def update(self, asker: Asker, config: E, parent: Scored, node: Node, search: Search) -> Expansion:
        """Write ``n_expand`` children from the wrong answers found; there is at least one."""

    def expand(self, asker: Asker, config: E, parent: Scored, node: Node) -> Expansion:
        """Look for wrong answers; where no train row is answered wrongly, the prompt is only put in other words."""
        search = find_failures(asker.problem, parent.ids, config.needed, config.chunk_size)
        if search.failures:
            return self.update(asker, config, parent, node, search)
        expansion = paraphrases(asker, config, parent)
        return expansion._replace(
            histories=[node.history] * config.n_expand,
            notes=("every train row is answered right: paraphrases only",),
        )


def paraphrases(asker: Asker, config: BeamConfig, parent: Scored) -> Expansion:
    """Put a prompt in other words, ``n_expand`` times."""
    request = paraphrase_request(parent.text, config.max_words, config.reply)
    return Expansion(asker.gather([request] * config.n_expand, "paraphrase", prompt_reader(config.reply)))


def paraphrase_wording(config: RewriteConfig) -> str:
    """Return the wording of the paraphrase request."""
    return wording(paraphrase_request("", config.max_words, config.reply))

"""GEPA through its package: one iteration per step, a state that is built anew each time, and what may go wrong."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.errors import BudgetSpent, ConfigError
from greater_ray.methods import _gepa_prompts as prompts
from greater_ray.methods import gepa as module
from greater_ray.methods.gepa import PLUGIN, GepaConfig, GepaState, Iteration
from greater_ray.protocols import Problem, StepInfo
from greater_ray.tasks import load_task
from greater_ray.types import Answer, Conversation, Example, Layout, Rollout, TokenIds, Usage
from greater_ray.work import Answers
from tests.babbler import babble
from tests.scripted import ScriptedModel, ScriptedWriter, read, rows

package = pytest.importorskip("gepa")

TRAIN = rows(7)
DEV = tuple(Example(f"d{k}", f"dev question {k}", "Yes", "Yes") for k in range(5))
START = "Let's think step by step."


class Characters(ScriptedModel):
    """A token is a character; ``right(prompt, row id)`` says which answers are right."""

    right: Callable[[str, str], bool]

    def encoded(self, text: str) -> TokenIds:
        return tuple(map(ord, text))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        texts = [self.text(p).strip() for p in work.prompts]
        self.asked.append(("answers", (texts, [e.id for e in work.examples])))
        return [
            [
                Answer(Rollout((), False, 1.0, 0.0, False), "I thought.", "Yes" if self.right(text, e.id) else "No")
                for e in work.examples
            ]
            for text in texts
        ], Usage()


def by_chance(text: str, row: str) -> bool:
    return crc32(f"{text} {row}".encode()) % 2 == 0


def problem_of(
    right: Callable[[str, str], bool], reply: Callable[[Conversation, int], str | None], seed: int = 0
) -> Problem:
    model = Characters()
    model.right = right
    return Problem(TRAIN, model, seed, dev=DEV, optimizer=ScriptedWriter(reply), read=read)


def babbled(conversation: Conversation, row: int) -> str:
    return babble(conversation, 1).text


def run(problem: Problem, steps: int, config: GepaConfig | None = None) -> tuple[list[GepaState], list[StepInfo]]:
    config = config or GepaConfig()
    states, infos = [PLUGIN.start(problem, config)], []
    for _ in range(steps):
        # A checkpoint follows every step, and a run may go on from any of them.
        held = GepaState.model_validate(json.loads(states[-1].model_dump_json()))
        state, info = PLUGIN.step(problem, config, held)
        states.append(state)
        infos.append(info)
    return states, infos


class Straight(Iteration):
    """The package's own loop, undisturbed, with the same draws; its state is never built anew."""

    def go(self, steps: int) -> Any:
        from gepa.strategies.candidate_selector import ParetoCandidateSelector

        problem = self.problem

        class Selector:
            def select_candidate_idx(self, state: Any) -> int:
                return ParetoCandidateSelector(problem.rng(state.i, "parent")).select_candidate_idx(state)

        return package.optimize(
            seed_candidate={"prompt": START},
            trainset=list(TRAIN),
            valset=list(DEV),
            adapter=self,
            custom_candidate_proposer=self.reflect,
            candidate_selection_strategy=Selector(),
            batch_sampler=self,
            stop_callbacks=lambda state: state.i >= steps - 1,
            callbacks=[self],
            logger=self,
            track_best_outputs=False,
        )

    def on_iteration_start(self, event: Any) -> None:
        self.state = self.state.model_copy(update={"step": event["state"].i})


@pytest.mark.parametrize("seed", [0, 5])
def test_iterations_one_by_one_are_those_of_the_packages_own_loop(seed: int):
    steps = 14
    states, _ = run(problem_of(by_chance, babbled, seed), steps)
    problem = problem_of(by_chance, babbled, seed)
    result = Straight(problem, GepaConfig(), PLUGIN.start(problem, GepaConfig()), []).go(steps)
    final = states[-1]
    assert [scored.text for scored in final.archive] == [c["prompt"] for c in result.candidates]
    assert [scored.parent for scored in final.archive] == [p[0] for p in result.parents]
    assert [list(scores) for scores in final.rows] == [list(scores.values()) for scores in result.val_subscores]
    assert (final.found_at, final.evaluated) == (tuple(result.discovery_eval_counts), result.total_metric_calls)
    assert len(final.archive) > 3, "the case needs a pool"
    assert {scored.parent for scored in final.archive} - {None, 0}, "and grandchildren"


def test_one_iteration_by_hand():
    # Under the start nothing is right; under the child all training rows and three of five dev rows are.
    def right(text: str, row: str) -> bool:
        return text == "Be kind." and row not in ("d0", "d1")

    problem = problem_of(right, lambda *_: "<prompt>Be kind.</prompt>")
    (_, state), (info,) = run(problem, 1)
    asked = [(texts[0], len(ids)) for texts, ids in problem.model.questions("answers")]
    assert asked == [(START, 5), (START, 3), ("Be kind.", 3), ("Be kind.", 5)]
    assert state.evaluated == 16
    assert [(s.text, s.score, s.parent) for s in state.archive] == [(START, 0.0, None), ("Be kind.", 0.6, 0)]
    assert state.rows == ((0.0,) * 5, (0.0, 0.0, 1.0, 1.0, 1.0))
    assert [(c.text, c.loss, c.status) for c in info.candidates] == [("Be kind.", pytest.approx(0.4), "scored")]
    assert (info.accepted, info.loss, info.prompt_text, state.initial_loss) == (0, pytest.approx(0.4), " Be kind.", 1.0)


def test_a_child_that_is_not_strictly_better_on_the_minibatch_is_not_scored_on_dev():
    problem = problem_of(lambda text, row: row == "d0", lambda *_: "<prompt>Be kind.</prompt>")
    (_, state), (info,) = run(problem, 1)
    assert len(state.archive) == 1
    assert [(c.status, c.loss) for c in info.candidates] == [("not better on the minibatch", None)]
    assert (info.accepted, info.notes) == (None, ("rejected: 0 right before, 0 after",))
    assert [ids for _, ids in problem.model.questions("answers")][-1] != [e.id for e in DEV]


def test_a_minibatch_without_a_mistake_is_skipped():
    problem = problem_of(lambda text, row: True, babbled)
    _, (info,) = run(problem, 1)
    assert (info.notes, info.candidates, problem.optimizer.asked) == (("no child: all scores perfect",), (), [])


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (None, "unreadable"),
        ("no tags", "unreadable"),
        ("<prompt> </prompt>", "empty"),
        (f"<prompt>{START}</prompt>", "duplicate"),
    ],
)
def test_where_nothing_can_be_used_the_start_stays_and_it_says_so(reply: str | None, status: str):
    problem = problem_of(lambda *_: False, lambda *_: reply)
    states, infos = run(problem, 3, GepaConfig(retries=1))
    # Nothing but duplicates: asked once more, warmer.
    each = 2 if status == "duplicate" else 1
    assert [c.status for i in infos for c in i.candidates] == [status] * 3 * each
    assert all(i.written == (status,) * each for i in infos)
    assert all(i.notes[-1] == f"no child: the reply was {status}" for i in infos)
    assert problem.model.text(states[-1].result) == " " + START
    assert (states[-1].failed, len(problem.optimizer.asked)) == (3 * each, 6 if status == "unreadable" else 3 * each)


def test_minibatches_go_through_the_rows_epoch_by_epoch():
    problem = problem_of(lambda *_: False, lambda *_: None)
    run(problem, 6, GepaConfig(retries=0))
    batches = [ids for _, ids in problem.model.questions("answers") if len(ids) == 3]
    # Seven rows in batches of three: three batches an epoch, the last one filled up from the epoch's beginning.
    for epoch in (batches[:3], batches[3:]):
        flat = [row for batch in epoch for row in batch]
        assert sorted(flat[:7]) == [e.id for e in TRAIN]
        assert flat[7:] == flat[:2]
    assert batches[:3] != batches[3:]


@pytest.mark.parametrize("where", ["answers", "generate"])
def test_a_spent_budget_is_not_swallowed(where: str):
    problem = problem_of(lambda *_: False, babbled)

    def spent(*_: Any, **__: Any) -> Any:
        raise BudgetSpent("tokens")

    setattr(problem.model if where == "answers" else problem.optimizer, where, spent)
    with pytest.raises(BudgetSpent, match="tokens"):
        run(problem, 1)


def test_a_known_better_prompt_is_found():
    good = ("think", "check", "plan")

    def right(text: str, row: str) -> bool:
        return sum(word in text for word in good) > int(row[1:]) % 3

    states, _ = run(problem_of(right, lambda c, _: babble(c, 5).text), 25)
    best = states[-1].best[0]
    assert best[0] < states[-1].initial_loss
    assert states[-1].steps_since_best >= 0


def test_the_meta_prompt_renders_on_a_real_example():
    settings = {"model": "smollm2-135m", "task": {"name": "bbh/navigate", "data": "synthetic"}, "method": "gepa"}
    row = load_task(resolve_config(settings).task).train()[0]
    wrong = read(row, Answer(Rollout((), False, 1.0, 0.0, False), "word " * 400, " {0} <prompt>\n"))
    unread, right = wrong.model_copy(update={"prediction": None}), wrong.model_copy(update={"score": 1.0})
    (turn,) = prompts.reflect("Use {braces}.", [(row, wrong), (row, right), (row, unread)])
    assert turn.content.startswith(
        f"{prompts.SITUATION}\n\nUse {{braces}}.\n\n{prompts.CASES}\n\nQuestion 1:\n{row.question}\n"
    )
    assert f"Its answer: {{0}} <prompt>\n\nComment: That is wrong. The right answer is {row.target}.\n" in turn.content
    assert "Comment: That is right.\n" in turn.content
    assert f"The right answer is {row.target}. No answer could be read from the reply." in turn.content
    assert turn.content.endswith(prompts.FORMAT)


def test_a_missing_package_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    settings = {"model": "smollm2-135m", "task": {"name": "bbh/navigate", "data": "synthetic"}, "method": "gepa"}
    with pytest.raises(ConfigError, match=r"^method: 'gepa' needs the package of that name: pip install"):
        resolve_config(settings)

"""Iterative APE, and the beam search with backtracking that APO and PE2 share; orders and scores are by hand."""

import pytest

from greater_ray.errors import ConfigError
from greater_ray.methods._archive import Scored
from greater_ray.methods._beam import Node, select
from greater_ray.methods._writer import paraphrase_request
from greater_ray.methods.ape_iterative import PLUGIN, ApeIterativeConfig
from greater_ray.types import Conversation
from tests.prompt_table import START, LetterModel, ids, in_turn, last, outcome, problem, run, tag


def config(**values: object) -> ApeIterativeConfig:
    settings = {"initial_prompt": START, "train_steps": 3, "n_beam": 2, "n_expand": 2, "retries": 0} | values
    return ApeIterativeConfig(**settings)


def scored(*scores: float) -> list[Scored]:
    return [Scored(number=k, text=f"p{k}", ids=(k,), score=s, step=0) for k, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("n_beam", "backtrack", "expected"),
    [
        (1, True, (1,)),
        (2, True, (1, 3)),  # 0.8, then the 0.7 of the second generation
        (4, True, (1, 3, 0, 2)),  # 0 and 2 tie: the earlier one first
        (9, True, (1, 3, 0, 2, 4)),
        (2, False, (3, 4)),  # the newest generation alone
    ],
)
def test_which_prompts_are_expanded_next(n_beam: int, backtrack: bool, expected: tuple[int, ...]):
    nodes = [Node(generation=g) for g in (0, 1, 1, 2, 2)]
    chosen = select(scored(0.5, 0.8, 0.5, 0.7, 0.4), nodes, config(n_beam=n_beam, backtrack=backtrack))
    assert chosen == expected


def tree(**values: object) -> tuple[object, list, list[str], LetterModel]:
    """Start 2/4; its children are alpha 2/4 and beta 3/4; theirs are named after them."""
    model = LetterModel(right={START: ids("d", 2), "alpha": ids("d", 2), "beta": ids("d", 3)})
    made: dict[str, list[str]] = {START: ["alpha", "beta", "gamma", "delta"], "alpha": [], "beta": []}

    def reply(conversation: Conversation, row: int) -> str:
        parent = max((name for name in made if f"\n{name}\n" in last(conversation)), key=len)
        parents.append(parent)
        return tag(made[parent].pop(0) if made[parent] else f"{parent} again {len(parents)}")

    parents: list[str] = []
    given, _ = problem(model, reply)
    state, infos = run(PLUGIN, given, config(**values))
    return state, infos, parents, model


def test_two_rounds_with_backtracking():
    state, infos, parents, model = tree()
    # Round 1 expands the start; round 2 beta (3/4), then the start, which ties with alpha and is earlier.
    assert parents == [START, START, "beta", "beta", START, START]
    assert [outcome(i) for i in infos] == [
        [("alpha", "scored"), ("beta", "scored")],
        [("beta again 3", "scored"), ("beta again 4", "scored")],
        [("gamma", "scored"), ("delta", "scored")],
    ]
    assert (state.step, state.rounds, state.finished, state.queue) == (3, 2, True, ())
    assert [n.generation for n in state.nodes] == [0, 1, 1, 2, 2, 2, 2]
    assert [s.parent for s in state.archive] == [None, 0, 0, 2, 2, 0, 0]
    assert [i.loss for i in infos] == [0.25, 0.25, 0.25]
    assert infos[0].accepted == 1
    assert model.text(state.result) == " beta"
    assert (state.initial_loss, state.steps_since_best) == (0.5, 2)
    dev = ("d0", "d1", "d2", "d3")
    assert model.scored[:2] == [((START,), dev), (("alpha", "beta"), dev)], "all children of a step in one call"


def test_two_rounds_without_backtracking():
    _, _, parents, _ = tree(backtrack=False)
    assert parents == [START, START, "beta", "beta", "alpha", "alpha"]


@pytest.mark.parametrize(("train_steps", "steps"), [(1, 1), (2, 1), (4, 5)])
def test_there_is_one_round_less_than_train_steps(train_steps: int, steps: int):
    state, infos, parents, _ = tree(train_steps=train_steps)
    assert (len(infos), state.rounds, state.finished) == (steps, train_steps - 1, True)
    assert len(parents) == (0 if train_steps == 1 else 2 * steps)


def test_a_perfect_prompt_does_not_end_iterative_ape():
    model = LetterModel(right={START: ids("d", 4)})
    given, _ = problem(model, in_turn("alpha", "beta", "gamma", "delta", "epsilon", "zeta"))
    state, infos = run(PLUGIN, given, config())
    assert len(infos) == 3
    assert model.text(state.result) == " " + START


def test_equal_prompts_are_scored_once_and_the_earliest_wins():
    model = LetterModel()
    given, _ = problem(model, in_turn("Alpha", "alpha ", "start  HERE", "beta"))
    state, infos = run(PLUGIN, given, config(train_steps=2, n_expand=4))
    assert [status for _, status in outcome(infos[0])] == ["scored", "duplicate", "duplicate", "scored"]
    assert (state.failed, model.text(state.result)) == (2, " " + START)


def test_where_all_are_duplicates_a_warmer_attempt_follows():
    given, writer = problem(LetterModel(), in_turn(START, START, "alpha", START))
    state, infos = run(PLUGIN, given, config(train_steps=2))
    # What was tried first stands in the record as well.
    assert outcome(infos[0]) == [(START, "duplicate"), (START, "duplicate"), ("alpha", "scored"), (START, "duplicate")]
    assert (infos[0].accepted, state.failed, [n.generation for n in state.nodes]) == (None, 3, [0, 1])
    assert [(num, temperature) for num, _, temperature, _ in writer.settings] == [(2, 0.7), (2, 1.0)]


def test_duplicates_twice_are_a_step_without_effect():
    given, writer = problem(LetterModel(), lambda c, row: tag(START))
    state, infos = run(PLUGIN, given, config())
    assert [len(i.candidates) for i in infos] == [4, 4]
    assert (len(writer.settings), len(state.archive), state.failed) == (4, 1, 8)


def test_an_unreadable_reply_is_asked_for_again_with_another_seed():
    given, writer = problem(LetterModel(), in_turn(None, "alpha", None, "beta"))
    _, infos = run(PLUGIN, given, config(train_steps=2, retries=2))
    assert outcome(infos[0]) == [("beta", "scored"), ("alpha", "scored")]
    assert [num for num, *_ in writer.settings] == [2, 1, 1]
    assert len({seed for *_, seed in writer.settings}) == 3


def test_a_reply_that_only_repeats_the_form_is_no_prompt():
    given, _ = problem(LetterModel(), lambda c, row: last(c))
    _, infos = run(PLUGIN, given, config(train_steps=2))
    assert outcome(infos[0]) == [("...", "no words")] * 2


@pytest.mark.parametrize("reply", ["No tags at all.", "", None])
def test_when_nothing_can_be_used_the_start_prompt_stays(reply: str | None):
    given, writer = problem(LetterModel(), lambda c, row: reply)
    state, infos = run(PLUGIN, given, config(retries=1))
    assert state.result == given.encode(START)
    assert {c.status for i in infos for c in i.candidates} == {"unreadable"}
    refused = [] if reply is not None else ["the writer gave nothing: refused"]
    assert list(infos[-1].notes) == [*refused, "no proposal could be used: the start prompt stays"]
    assert (state.failed, len(writer.asked)) == (4, 8)


def test_the_whole_reply_can_be_the_prompt():
    given, _ = problem(LetterModel(), lambda c, row: '"Take  your time."' if row else "")
    _, infos = run(PLUGIN, given, config(reply="whole", train_steps=2))
    assert outcome(infos[0]) == [("", "empty"), ("Take  your time.", "scored")]


def test_a_known_better_prompt_is_found():
    words = ["slow", "fast", "careful", "bold", "wise", "dull", "calm", "keen"]
    model = LetterModel(right={"wise": ids("d", 4), "fast": ids("d", 1)})
    given, _ = problem(model, in_turn(*words))
    state, _ = run(PLUGIN, given, config(n_expand=4, n_beam=1))
    assert model.text(state.result) == " wise"
    assert state.best[0][0] == 0.0


def test_without_dev_rows_train_rows_decide():
    model = LetterModel(right={"alpha": ids("t", 3)})
    given, _ = problem(model, in_turn("alpha", "beta"), dev=0)
    state, _ = run(PLUGIN, given, config(train_steps=2))
    assert state.best[0] == (0.25, given.encode("alpha"))


def test_the_paraphrase_request_on_a_real_prompt():
    prompt = 'Answer in the form {"answer": ...} and say <why>.'
    system, user = paraphrase_request(prompt, 50, "tagged")
    assert (system.role, user.role) == ("system", "user")
    assert f"\n{prompt}\n" in user.content
    assert "50 words" in user.content
    assert "<prompt>...</prompt>" in user.content
    whole = paraphrase_request(prompt, None, "whole")[-1].content
    assert "words at most" not in whole
    assert "<prompt>" not in whole
    assert "nothing else" in whole


def test_settings_of_the_released_script():
    held = ApeIterativeConfig()
    assert (held.train_steps, held.n_beam, held.n_expand, held.backtrack) == (4, 4, 4, True)
    assert (held.temperature, held.max_words, held.reply) == (0.7, 50, "tagged")
    released = ApeIterativeConfig(**PLUGIN.presets["released"]["method_config"])
    assert (released.reply, released.max_new_tokens) == ("whole", 50)
    assert PLUGIN.presets["paper"]["layout"] == {"frozen_prefix": ""}


def test_an_empty_start_prompt_is_refused():
    given, _ = problem(LetterModel(), in_turn())
    with pytest.raises(ConfigError, match="initial_prompt"):
        PLUGIN.start(given, config(initial_prompt=" "))

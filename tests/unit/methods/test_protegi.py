"""ProTeGi: how often the writer is asked, what enters the pool, and who stays in the beam; numbers are by hand."""

from collections import Counter
from itertools import count

import pytest

from greater_ray.methods import _bandits as bandits
from greater_ray.methods._failures import find_failures
from greater_ray.methods._protegi_prompts import REASON_TAGS, all_tagged, edit_request, gradient_request
from greater_ray.methods.protegi import PLUGIN, Arm, ProtegiConfig, estimated
from greater_ray.types import Conversation, Generation
from tests.prompt_table import START, LetterModel, ids, last, outcome, problem, run, tag

LETTERS = "abcdefghij"


def config(**values: object) -> ProtegiConfig:
    settings = {"initial_prompt": START, "rounds": 1, "retries": 0, "max_expansion_factor": 99} | values
    return ProtegiConfig(**settings)


def kind(conversation: Conversation) -> str:
    text = last(conversation)
    if "Say it in another way" in text:
        return "paraphrase"
    return "edit" if "The trouble with the prompt" in text else "gradient"


def author(per_reply: int = 1):
    """Write reasons, edits and paraphrases, each one new; ``per_reply`` reasons or edits in a reply."""
    numbers = count()

    def word() -> str:
        return "".join(LETTERS[int(digit)] for digit in str(next(numbers)))

    def reply(conversation: Conversation, row: int) -> str:
        what = kind(conversation)
        if what == "gradient":
            return " and ".join(f"<reason>reason {word()}</reason>" for _ in range(per_reply))
        return " or ".join(tag(f"{what} {word()}") for _ in range(1 if what == "paraphrase" else per_reply))

    return reply


def expanded(reply, model: LetterModel | None = None, *, train: int = 9, seed: int = 0, **values: object):
    """Do the first step: expand the start prompt."""
    given, writer = problem(model or LetterModel(), reply, train=train, seed=seed)
    cfg = config(**values)
    state, info = PLUGIN.step(given, cfg, PLUGIN.start(given, cfg))
    return state, info, writer


# -- expansion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "per_reply", "asked", "new"),
    [
        # 4 gradients, an edit for each, two paraphrases of each edit and of the prompt itself: 4 + 10 new ones
        ({}, 1, (4, 4, 10), 14),
        # 2 groups of errors, 3 reasons each, 2 edits for each reason, 1 paraphrase of 12 + 1: 12 + 13 new ones
        (
            {"n_gradients": 2, "gradients_per_error": 3, "steps_per_gradient": 2, "mc_samples_per_step": 1},
            3, (2, 6, 13), 25,
        ),
        ({"mc_samples_per_step": 0}, 1, (4, 4, 0), 4),
    ],
)  # fmt: skip
def test_how_often_the_writer_is_asked(settings: dict, per_reply: int, asked: tuple[int, ...], new: int):
    state, info, writer = expanded(author(per_reply), **settings)
    kinds = Counter(kind(c) for c in writer.asked)
    assert (kinds["gradient"], kinds["edit"], kinds["paraphrase"]) == asked
    assert [num for num, *_ in writer.settings] == [num for num in asked if num], "each kind in one call"
    assert {(tokens, t) for _, tokens, t, _ in writer.settings} == {(1024, 0.7)}
    assert [status for _, status in outcome(info)] == ["waiting"] * new
    assert (len(state.pool), len(state.tally.counts)) == (new, new + 1), "the old beam competes, too"
    assert {arm.parent for arm in state.pool} == {START}


def test_a_gradient_shows_some_of_the_wrong_answers():
    _, _, writer = expanded(author(), errors_per_gradient=3)
    gradients = [last(c) for c in writer.asked if kind(c) == "gradient"]
    edits = [last(c) for c in writer.asked if kind(c) == "edit"]
    assert all(text.count("Case ") == 3 for text in gradients + edits)
    assert len(set(gradients)) > 1
    for gradient, edit in zip(gradients, edits, strict=True):
        assert edit.startswith(gradient.partition("Give one reason")[0]), "an edit sees the cases of its reason"
    _, _, writer = expanded(author(), LetterModel(right={START: ids("t", 7)}))
    assert all(last(c).count("Case ") == 2 for c in writer.asked if kind(c) == "gradient"), "only two are wrong"


@pytest.mark.parametrize(("size", "rows"), [(5, 5), (64, 9)])
def test_the_minibatch_is_shared_by_the_beam_and_no_larger_than_the_train_set(size: int, rows: int):
    model = LetterModel()
    given, _ = problem(model, author(), train=9)
    cfg = config(minibatch_size=size, rounds=2, beam_size=2, n_gradients=1, eval_prompts_per_round=99)
    run(PLUGIN, given, cfg)
    batches = [seen for texts, seen in model.scored if len(texts) == 1]
    assert [len(seen) for seen in batches] == [rows] * 3
    assert batches[1] == batches[2] != batches[0], "a new one for every round"


def test_without_a_wrong_answer_in_the_minibatch_more_rows_are_taken():
    given, _ = problem(LetterModel(), author(), train=9)
    order = [e.id for e in given.rng(0, "minibatch").sample(given.examples, 9)]
    model = LetterModel(right={START: set(order[:5])})
    _, info, writer = expanded(author(), model, minibatch_size=3)
    assert [seen for _, seen in model.scored] == [tuple(order[:3]), tuple(order[3:6])]
    assert all(last(c).count("Case ") == 1 for c in writer.asked if kind(c) == "gradient")
    assert info.notes == ("no wrong answer in the minibatch: took more rows",)


@pytest.mark.parametrize(("samples", "expected"), [(2, 2), (0, 1)])
def test_without_any_wrong_answer_there_are_paraphrases_only(samples: int, expected: int):
    model = LetterModel(right={START: ids("t", 9)})
    _, info, writer = expanded(author(), model, mc_samples_per_step=samples)
    assert [kind(c) for c in writer.asked] == ["paraphrase"] * expected
    assert info.notes == ("every train row is answered right: paraphrases only",)


def test_lost_gradients_and_edits_are_unreadable_proposals():
    reply = author()

    def losing(conversation: Conversation, row: int) -> str | None:
        lost = {"gradient": row == 0, "edit": row == 1, "paraphrase": False}[kind(conversation)]
        return "I cannot." if lost else reply(conversation, row)

    state, info, writer = expanded(losing)
    kinds = Counter(kind(c) for c in writer.asked)
    # 3 reasons are left, of their 3 edits 2, so 2 + 1 prompts are paraphrased twice.
    assert (kinds["gradient"], kinds["edit"], kinds["paraphrase"]) == (4, 3, 6)
    assert Counter(c.status for c in info.candidates) == {"unreadable": 2, "waiting": 8}
    assert state.failed == 2


def test_equal_prompts_enter_the_pool_once():
    def same(conversation: Conversation, row: int) -> str:
        return "<reason>vague</reason>" if kind(conversation) == "gradient" else tag("Be exact.")

    state, info, _ = expanded(same)
    assert [arm.text for arm in state.pool] == ["Be exact."]
    # Three more edits, and two paraphrases each of "Be exact." and of the start.
    assert Counter(c.status for c in info.candidates) == {"waiting": 1, "duplicate": 7}


def test_two_prompts_of_the_beam_cannot_bring_in_the_same_one():
    edits = iter(["alpha", "beta", "Beta", "gamma", "delta", "Gamma"])

    def reply(conversation: Conversation, row: int) -> str:
        return "<reason>vague</reason>" if kind(conversation) == "gradient" else tag(next(edits))

    given, _ = problem(LetterModel(), reply)
    cfg = config(rounds=2, beam_size=2, n_gradients=2, mc_samples_per_step=0, eval_prompts_per_round=9)
    _, infos = run(PLUGIN, given, cfg)
    # The beam is the start and alpha: nothing is right, so the first ones stay.
    assert all(i.written == () for i in infos if i.candidates[0].loss is not None), "tried, and counted before"
    assert [i.written for i in infos if i.written][2] == ("waiting", "duplicate")
    assert [outcome(i) for i in infos if i.candidates[0].loss is None] == [
        [("alpha", "waiting"), ("beta", "waiting")],
        [("Beta", "waiting"), ("gamma", "waiting")],
        [("delta", "waiting"), ("Gamma", "duplicate")],
    ]


def test_no_more_than_the_expansion_factor_is_kept_at_random():
    seen = set()
    for seed in range(5):
        state, info, _ = expanded(author(), max_expansion_factor=8, seed=seed)
        assert len(state.pool) == 8
        assert Counter(c.status for c in info.candidates) == {"waiting": 8, "not sampled": 6}
        assert state.failed == 0
        seen.add(tuple(arm.text for arm in state.pool))
    assert len(seen) == 5


def test_twice_as_many_can_be_tried_on_the_wrong_answers_first():
    class Longest(LetterModel):
        """A prompt whose text ends in a, b, c, d gets its parent's mistakes right."""

        def rollouts(self, work, layout):
            texts = [self.text(p).strip() for p in work.prompts]
            self.right = {t: ids("t", 30) for t in texts if t[-1] in "abcd" and t != START}
            return super().rollouts(work, layout)

    model = Longest()
    state, info, _ = expanded(author(), model, train=30, max_expansion_factor=3, reject_on_errors=True)
    (_, minibatch), (tried, rows) = model.scored
    assert (len(minibatch), len(tried), len(rows)) == (30, 6, 16), "sixteen wrong answers at most"
    good = [text for text in tried if text[-1] in "abcd"]
    bad = [text for text in tried if text not in good]
    assert {arm.text for arm in state.pool} == set((good + bad)[:3])
    assert Counter(c.status for c in info.candidates) == {"waiting": 3, "not sampled": 11}


# -- selection ---------------------------------------------------------------------------------------------------------


def test_brute_force_keeps_the_best_of_beam_and_pool():
    # Edits are called b.., in the order in which they are written: reasons a to d, edits e to h.
    model = LetterModel(right={START: ids("t", 2), "edit f": ids("t", 6), "edit h": ids("t", 4)})
    given, _ = problem(model, author(), train=9)
    cfg = config(mc_samples_per_step=0, beam_size=2, eval_prompts_per_round=2)
    state, infos = run(PLUGIN, given, cfg)
    # Five arms (the start and four edits), two a step: 1 + 3 steps.
    assert [len(i.candidates) for i in infos] == [4, 2, 2, 1]
    assert [arm.text for arm in state.beam] == ["edit f", "edit h"]
    assert [loss for loss, _ in state.best] == pytest.approx([1 - 6 / 9, 1 - 4 / 9])
    assert model.text(state.result) == " edit f"
    assert (state.initial_loss, infos[-1].accepted) == (pytest.approx(7 / 9), None), "its winner was in an earlier pull"
    rows = {seen for texts, seen in model.scored[1:]}
    assert len(rows) == 1, "every arm on the same rows"
    assert [(s.number, s.text) for s in state.archive][:2] == [(0, START), (1, "edit e")]
    assert {s.parent for s in state.archive} == {None, 0}
    assert {i.loss for i in infos[:-1]} == {None}


@pytest.mark.parametrize(
    ("evaluator", "steps"),
    [
        # One expansion and three turns, then two expansions and three turns.
        ("ucb", 1 + 3 + 2 + 3),
        ("ucb-e", 1 + 3 + 2 + 3),
        # From 1 + 4 arms to 2 in three phases. "edit f" is never wrong and gets one paraphrase, its neighbour four
        # edits: from 2 + 5 arms to 2 in five phases.
        ("successive-rejects", 1 + 3 + 2 + 5),
    ],
)
def test_two_rounds_with_a_bandit(evaluator: str, steps: int):
    model = LetterModel(right={START: ids("t", 2), "edit f": ids("t", 9)})
    given, _ = problem(model, author(), train=9)
    cfg = config(
        rounds=2, mc_samples_per_step=0, beam_size=2, evaluator=evaluator, eval_rounds=3, eval_prompts_per_round=6,
        samples_per_eval=9, max_expansion_factor=4,
    )  # fmt: skip
    state, infos = run(PLUGIN, given, cfg)
    found = [len(s) for _, s in model.scored]
    assert max(found) == 9, "no more rows than there are"
    assert (state.finished, state.rounds) == (True, 2)
    assert state.beam[0].text == "edit f"
    assert len(infos) == steps
    assert model.text(state.result) == " edit f"
    losses = [loss for loss, _ in state.best]
    assert losses == sorted(losses)


def test_the_phases_of_successive_rejects_become_steps():
    model = LetterModel(right={"edit f": ids("t", 9)})
    given, _ = problem(model, author(), train=9)
    cfg = config(
        mc_samples_per_step=0, beam_size=2, evaluator="successive-rejects", eval_rounds=1, eval_prompts_per_round=4,
        samples_per_eval=5,
    )  # fmt: skip
    _, infos = run(PLUGIN, given, cfg)
    # 5 arms to 2 with 20 answers: 4, 4 and 6 rows, see the tests of the schedule.
    assert [(len(texts), len(rows)) for texts, rows in model.scored[1:]] == [(5, 4), (4, 4), (3, 6)]
    assert len(infos) == 4


def test_the_rounds_of_ucb_draw_new_rows_for_its_arms():
    model = LetterModel()
    given, _ = problem(model, author(), train=9)
    cfg = config(
        mc_samples_per_step=0, beam_size=2, evaluator="ucb", eval_rounds=4, eval_prompts_per_round=2,
        samples_per_eval=3,
    )  # fmt: skip
    run(PLUGIN, given, cfg)
    pulls = model.scored[1:]
    assert [(len(texts), len(rows)) for texts, rows in pulls] == [(2, 3)] * 4
    assert len({rows for _, rows in pulls}) > 1


def test_estimates_are_renewed_and_parents_are_numbers():
    def arm(text: str, parent: str | None = None) -> Arm:
        return Arm(text=text, ids=(1,), parent=parent)

    arms = (arm("a"), arm("b", "a"), arm("c", "a"))
    tally = bandits.Tally(counts=(4, 2, 0), rights=(1, 1, 0), alive=(0, 1, 2), latest=(0.0, 0.0, 0.0))
    archive = estimated((), arms, tally, 3)
    assert [(s.number, s.text, s.score, s.parent) for s in archive] == [(0, "a", 0.25, None), (1, "b", 0.5, 0)]
    tally = tally.model_copy(update={"counts": (0, 4, 4), "rights": (0, 1, 4)})
    archive = estimated(archive, arms, tally, 9)
    assert [(s.number, s.score, s.step) for s in archive] == [(0, 0.25, 3), (1, 0.25, 9), (2, 1.0, 9)]


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["No tags at all.", None])
def test_when_nothing_can_be_used_the_start_prompt_stays(reply: str | None):
    given, _ = problem(LetterModel(), lambda c, row: reply)
    state, infos = run(PLUGIN, given, config(rounds=3))
    assert (len(infos), state.finished, state.best, state.result) == (3, True, (), given.encode(START))
    assert infos[-1].notes[-2:] == (
        "no proposal of this round could be used", "no proposal could be used: the start prompt stays",
    )  # fmt: skip
    assert ("the writer gave nothing: refused" in infos[-1].notes) is (reply is None)
    assert {c.status for i in infos for c in i.candidates} == {"unreadable"}


def test_where_all_are_duplicates_a_warmer_attempt_follows():
    def stubborn(conversation: Conversation, row: int) -> str:
        return "<reason>vague</reason>" if kind(conversation) == "gradient" else tag(START)

    _, info, writer = expanded(stubborn, n_gradients=1, mc_samples_per_step=1)
    assert [(num, t) for num, _, t, _ in writer.settings] == [(1, 0.7)] * 3 + [(1, 1.0)] * 3
    assert {c.status for c in info.candidates} == {"duplicate"}


def test_same_seed_same_path_and_another_seed_another():
    def path(seed: int) -> list[tuple]:
        model = LetterModel()
        given, _ = problem(model, author(), train=9, seed=seed)
        run(PLUGIN, given, config(rounds=2, beam_size=2, evaluator="ucb", eval_rounds=2, samples_per_eval=3))
        return model.scored

    assert path(0) == path(0)
    assert path(0) != path(1)


# -- meta-prompts and reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "truncated", "expected"),
    [
        ("<reason>one</reason> then <reason> two </reason><reason>three</reason>", False, ["one", "two"]),
        ("<reason>  </reason><reason>two</reason>", False, ["two"]),
        ("<reason>open <reason>inner</reason>", False, ["inner"]),
        ("<reason>not closed\n\nmore", False, ["not closed"]),
        ("<reason>cut off", True, None),
        ("<reason>not closed\n\ncut off", True, ["not closed"]),
        ("<reason>whole</reason> <reason>cut off", True, ["whole"]),
        ("<reason>...</reason>", False, None),
        ("none", False, None),
    ],
)
def test_reading_several_texts_between_tags(text: str, truncated: bool, expected: list[str] | None):
    assert all_tagged(*REASON_TAGS, 2).read(Generation(text, truncated)) == expected


def test_the_requests_on_a_real_row():
    given, _ = problem(LetterModel(), author(), train=1)
    failures = find_failures(given, given.encode(START), 1, 1).failures
    prompt = "Reply with {answer}; %s <b>"
    text = last(gradient_request(prompt, failures, 3))
    for part in (f'"{prompt}"', "Case 1\nText: question t0?\nLabel: (Yes)\nPrediction: No", "3 different reasons",
                 "<reason>...</reason>"):  # fmt: skip
        assert part in text
    text = last(edit_request(prompt, failures, "It is {vague}.", 1, None))
    for part in (
        f'"{prompt}"',
        "Text: question t0?",
        "It is {vague}.",
        "one improved prompt",
        "<prompt>...</prompt>",
    ):
        assert part in text
    assert "words at most" not in text
    assert "2 different improved prompts" in last(edit_request(prompt, failures, "x", 2, 9))
    assert "9 words at most" in last(edit_request(prompt, failures, "x", 2, 9))


def test_settings_of_the_released_code():
    held = ProtegiConfig()
    assert (held.rounds, held.beam_size, held.minibatch_size, held.max_expansion_factor) == (6, 4, 64, 8)
    assert (held.n_gradients, held.errors_per_gradient, held.gradients_per_error) == (4, 4, 1)
    assert (held.steps_per_gradient, held.mc_samples_per_step, held.temperature) == (1, 2, 0.7)
    assert held.evaluator == "brute-force"
    assert held.plan.budget == 2048
    paper = ProtegiConfig(**PLUGIN.presets["paper"]["method_config"])
    assert (paper.evaluator, paper.temperature, paper.exploration) == ("ucb", 1.0, 1.0)

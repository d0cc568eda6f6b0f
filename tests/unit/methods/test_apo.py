"""APO: collecting wrong answers, critique and rewrite, and the end at a perfect prompt; counts are by hand."""

import pytest

from greater_ray.methods._failures import CUT, Failure, draw, find_failures, shortened, shuffled_train
from greater_ray.methods.apo import PLUGIN, ApoConfig, critique_request, rewrite_request
from greater_ray.types import Conversation
from tests.prompt_table import START, LetterModel, ids, in_turn, last, outcome, problem, run, tag


def config(**values: object) -> ApoConfig:
    settings = {"initial_prompt": START, "train_steps": 2, "n_beam": 2, "n_expand": 2, "retries": 0} | values
    return ApoConfig(**settings)


def answers(*prompts: str | None):
    """Reply to a critique request with a critique, and to everything else with these prompts."""
    write = in_turn(*prompts)

    def reply(conversation: Conversation, row: int) -> str | None:
        return f"critique {row}" if "List the reasons" in last(conversation) else write(conversation, row)

    return reply


# -- wrong answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "n_expand", "needed"),
    [(2, 4, 4), (2, 2, 2), (2, 1, 2), (3, 3, 5)],  # batch_size * max(n_expand, 2) / 2, rounded up
)
def test_how_many_wrong_answers_are_enough(batch_size: int, n_expand: int, needed: int):
    assert config(batch_size=batch_size, n_expand=n_expand).needed == needed


@pytest.mark.parametrize(
    ("wrong_at", "needed", "chunks", "found"),
    [
        ({0, 1, 2, 3}, 4, [3, 3], 4),  # three in the first chunk, the fourth in the second
        ({0, 1, 2}, 3, [3], 3),
        ({0, 1, 2, 3, 4, 5}, 4, [3, 3], 6),  # a chunk is used whole
        ({7}, 1, [3, 3, 2], 1),
        ({1}, 4, [3, 3, 2], 1),  # all rows are used
        (set(), 4, [3, 3, 2], 0),
    ],
)
def test_train_rows_are_answered_in_chunks_until_enough_are_wrong(
    wrong_at: set[int], needed: int, chunks: list[int], found: int
):
    model = LetterModel()
    given, _ = problem(model, in_turn(), train=8)
    order = [e.id for e in shuffled_train(given)]
    model.right = {START: {name for k, name in enumerate(order) if k not in wrong_at}}
    search = find_failures(given, given.encode(START), needed, 3)
    assert [len(rows) for _, rows in model.scored] == chunks
    assert [name for _, rows in model.scored for name in rows] == order[: sum(chunks)]
    assert len(search.failures) == found
    assert (search.num_rows, search.accuracy) == (sum(chunks), pytest.approx(1 - found / sum(chunks)))


def test_a_batch_is_drawn_without_replacement_and_no_larger_than_what_there_is():
    given, _ = problem(LetterModel(), in_turn(), train=5)
    search = find_failures(given, given.encode(START), 5, 5)
    drawn = draw(given.rng(0, "test"), search.failures, 3)
    assert len({f.example.id for f in drawn}) == 3
    assert len(draw(given.rng(0, "test"), search.failures, 9)) == 5


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("  short ", 5, "short"),
        ("abcdefghijklmnop", 12, "abc" + CUT + "op"),
        ("abcdefghijklmnop", 13, "abc [...] nop"),
    ],
)
def test_the_middle_of_long_reasoning_is_left_out(text: str, limit: int, expected: str):
    assert shortened(text, limit) == expected
    assert len(shortened(text, limit)) <= limit


# -- the update --------------------------------------------------------------------------------------------------------


def test_one_step_asks_for_critiques_and_then_for_greedy_rewrites():
    model = LetterModel(right={"beta": ids("d", 3)})
    given, writer = problem(model, answers("alpha", "beta"))
    state, infos = run(PLUGIN, given, config(max_new_tokens=99))
    assert [s[:3] for s in writer.settings] == [(2, 99, 0.7), (2, 99, 0.0)]
    assert outcome(infos[0]) == [("alpha", "scored"), ("beta", "scored")]
    assert model.text(state.result) == " beta"
    critiques, rewrites = [last(c) for c in writer.asked[:2]], [last(c) for c in writer.asked[2:]]
    for k in range(2):
        situation = critiques[k].partition("Name 5 reasons")[0]
        assert rewrites[k].startswith(situation), "the same wrong answers are shown again"
        assert situation.count("Case ") == 2
        assert f"critique {k}" in rewrites[k]
    train = [rows for texts, rows in model.scored if texts == (START,) and rows[0].startswith("t")]
    assert [len(rows) for rows in train] == [4]


def test_fewer_wrong_answers_than_asked_for_are_all_shown():
    model = LetterModel(right={START: {"t0", "t1", "t3"}})
    given, writer = problem(model, answers("alpha", "beta"))
    run(PLUGIN, given, config())
    assert all("question t2?" in last(c) and last(c).count("Case ") == 1 for c in writer.asked)


def test_without_a_wrong_answer_the_prompt_is_put_in_other_words():
    model = LetterModel(right={START: ids("t", 4)})
    given, writer = problem(model, in_turn("alpha", "beta"))
    _, infos = run(PLUGIN, given, config(chunk_size=3))
    assert outcome(infos[0]) == [("alpha", "scored"), ("beta", "scored")]
    assert infos[0].notes == ("every train row is answered right: paraphrases only",)
    assert [len(rows) for _, rows in model.scored] == [4, 3, 1, 4], "dev, all of train in two chunks, dev"
    assert len(writer.asked) == 2
    assert not any("Case" in last(c) for c in writer.asked), "never a list without a case"


@pytest.mark.parametrize("train_steps", [3, 9])
def test_a_prompt_that_answers_every_dev_row_ends_the_search(train_steps: int):
    model = LetterModel(right={"gamma": ids("d", 4)})
    given, _ = problem(model, answers("alpha", "beta", "gamma", "delta", "epsilon"))
    state, infos = run(PLUGIN, given, config(train_steps=train_steps))
    assert (len(infos), state.finished, state.rounds) == (2, True, 1), "in the middle of the second round"
    assert model.text(state.result) == " gamma"


def test_a_perfect_start_prompt_ends_it_before_anything_is_written():
    model = LetterModel(right={START: ids("d", 4)})
    given, writer = problem(model, answers())
    state, infos = run(PLUGIN, given, config())
    assert (len(infos), state.finished, writer.asked) == (1, True, [])
    assert infos[0].notes == ("the start prompt answers every row",)
    assert state.best == ((0.0, given.encode(START)),)


def test_a_lost_critique_loses_its_child_only():
    def reply(conversation: Conversation, row: int) -> str | None:
        if "List the reasons" in last(conversation):
            return "   " if row == 0 else "critique"
        return tag("alpha")

    given, writer = problem(LetterModel(), reply)
    _, infos = run(PLUGIN, given, config())
    assert outcome(infos[0]) == [("", "unreadable"), ("alpha", "scored")]
    assert len(writer.asked) == 3


def test_a_greedy_rewrite_that_cannot_be_read_is_asked_for_again_above_zero():
    given, writer = problem(LetterModel(), answers(None, "beta", "alpha"))
    _, infos = run(PLUGIN, given, config(retries=1))
    assert outcome(infos[0]) == [("alpha", "scored"), ("beta", "scored")]
    assert [temperature for _, _, temperature, _ in writer.settings] == [0.7, 0.0, 0.3]


@pytest.mark.parametrize("reply", ["No tags at all.", "  ", None])
def test_when_nothing_can_be_used_the_start_prompt_stays(reply: str | None):
    given, _ = problem(LetterModel(), lambda c, row: reply)
    state, infos = run(PLUGIN, given, config(train_steps=4))
    assert len(infos) == 3, "the start is expanded in each of three rounds"
    assert state.result == given.encode(START)
    assert infos[-1].notes[-1] == "no proposal could be used: the start prompt stays"
    assert ("the writer gave nothing: refused" in infos[-1].notes) is (reply is None)


def test_a_copied_question_is_refused():
    question = "question t0? " + "one two three four five six seven eight"
    given, _ = problem(LetterModel(), answers(question, "alpha"), train=1)
    given = type(given)(
        (type(given.examples[0])("t0", question, "(Yes)", "Yes"),),
        given.model, given.seed, given.dev, given.optimizer, given.read,
    )  # fmt: skip
    _, infos = run(PLUGIN, given, config())
    assert outcome(infos[0]) == [(question, "copied"), ("alpha", "scored")]


def test_same_seed_same_path_and_another_seed_other_wrong_answers():
    def shown(seed: int) -> list[str]:
        names = [f"word {'abcdefgh'[k]}" for k in range(8)]
        given, writer = problem(LetterModel(), answers(*names), train=9, seed=seed)
        run(PLUGIN, given, config(train_steps=3, n_beam=1))
        return [last(c) for c in writer.asked]

    assert shown(0) == shown(0)
    assert shown(0) != shown(1)
    assert len(set(shown(0))) == 8, "every child and every round draws anew"


# -- meta-prompts ------------------------------------------------------------------------------------------------------


def test_the_requests_on_a_real_row():
    given, _ = problem(LetterModel(), in_turn(), train=1)
    search = find_failures(given, given.encode(START), 1, 1)
    odd = Failure(
        search.failures[0].example,
        search.failures[0].record.model_copy(update={"prediction": None, "answer_text": " "}),
    )
    prompt = "Reply with {answer}; %s <b>"
    text = last(critique_request(prompt, [search.failures[0], odd], config(n_reasons=3)))
    for part in (f'"{prompt}"', "Input: question t0?", "thinking about t0", "Answer of the model: No",
                 "Answer of the model: (no answer)", "Right answer: (Yes)", "Name 3 reasons", "Case 2"):  # fmt: skip
        assert part in text
    text = last(rewrite_request(prompt, [odd], "It is {vague}.", config(max_words=20)))
    for part in (f'"{prompt}"', "It is {vague}.", "20 words", "<prompt>...</prompt>"):
        assert part in text
    assert "<prompt>" not in last(rewrite_request(prompt, [odd], "x", config(reply="whole")))


def test_settings_of_the_released_script():
    held = ApoConfig()
    assert (held.train_steps, held.n_beam, held.n_expand, held.backtrack, held.batch_size) == (4, 4, 4, True, 2)
    assert (held.n_reasons, held.temperature, held.rewrite_temperature, held.chunk_size) == (5, 0.7, 0.0, 20)
    assert ApoConfig(**PLUGIN.presets["released"]["method_config"]).reply == "whole"

"""TextGrad's rules, one by one; expected values are worked out by hand."""

import pytest

from greater_ray.methods import _textgrad_prompts as prompts
from greater_ray.methods.textgrad import PLUGIN, TextGradConfig, TextGradState, batch
from tests.letters import asked, asked_at, setting, statuses, steps, tag

START = "Begin."
SCORES = {START: 0.5, "Worse one": 0.4, "Equal one": 0.5, "Better one": 0.9}


def config(**values) -> TextGradConfig:
    return TextGradConfig(**({"initial_prompt": START, "retries": 0} | values))


def kind(conversation) -> str:
    """Which of the writer's tasks a conversation is."""
    text = asked(conversation)
    if conversation[0].content == prompts.JUDGE:
        return "judge"
    for name, words in (("rewrite", prompts.REWRITE), ("on prompt", prompts.ABOUT_PROMPT)):
        if words in text:
            return name
    return "on response"


def writing(*texts: str):
    """Feedback is always the same; the n-th rewriting is the n-th text."""
    left = iter(texts)
    return lambda conversation, row: (
        tag(next(left)) if kind(conversation) == "rewrite" else f"{kind(conversation)} {row}"
    )


# -- validation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "taken"), [("Better one", True), ("Equal one", True), ("Worse one", False)])
def test_a_tie_is_taken_and_a_lower_dev_score_is_taken_back(text: str, taken: bool):
    problem, _, _ = setting(SCORES, writing(text))
    state, (info,) = steps(PLUGIN, problem, config(), 1)
    assert info.prompt_text == (f" {text}" if taken else f" {START}")
    assert info.accepted == (0 if taken else None)
    assert state.result == problem.encode(text if taken else START)
    assert state.initial_loss == 0.5
    assert info.candidates[0].loss == pytest.approx(1 - SCORES[text])
    assert ("taken back: 0.400 on dev is lower than 0.500" in info.notes) == (not taken)


def test_the_next_step_starts_from_the_prompt_that_was_kept():
    problem, _, writer = setting(SCORES, writing("Worse one", "Better one", "Equal one"))
    state, infos = steps(PLUGIN, problem, config(), 3)
    assert [info.prompt_text for info in infos] == [" Begin.", " Better one", " Better one"]
    shown = [asked(c).splitlines()[1] for c in writer.asked if kind(c) == "rewrite"]
    assert shown == ["Begin.", "Begin.", "Better one"]
    assert [s.parent for s in state.archive] == [None, 0, 0, 2]


def test_without_the_revert_every_new_prompt_is_taken_and_the_last_one_is_the_result():
    problem, _, _ = setting(SCORES, writing("Better one", "Worse one"))
    state, infos = steps(PLUGIN, problem, config(revert=False, batch_size=10), 2)
    assert [info.loss for info in infos] == pytest.approx([0.1, 0.6])
    assert state.result == problem.encode("Worse one")
    assert state.best[0][1] == problem.encode("Better one")


# -- the calls of a step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_writer_is_called_twice_per_row_and_once_for_the_step(size: int):
    problem, model, writer = setting(SCORES, writing("Better one"))
    steps(PLUGIN, problem, config(batch_size=size), 1)
    assert [kind(c) for c in writer.asked] == ["on response"] * size + ["on prompt"] * size + ["rewrite"]
    assert model.answered == [(START, 10), (START, size), ("Better one", 10)]


def test_an_epoch_takes_the_first_batches_of_a_new_order():
    problem, _, _ = setting({}, writing(), train=20)
    ids = [[row.id for row in batch(problem, config(), step)] for step in range(8)]
    assert [len({row for rows in ids[k : k + 4] for row in rows}) for k in (0, 4)] == [12, 12]
    assert ids[:4] != ids[4:]
    assert ids[0] == [row.id for row in batch(problem, config(), 0)]


def test_few_rows_make_fewer_batches_per_epoch_and_a_shorter_last_one():
    problem, _, _ = setting({}, writing(), train=4)
    assert [len(batch(problem, config(), step)) for step in range(5)] == [3, 1, 3, 1, 3]
    assert [len(batch(problem, config(batch_size=9), step)) for step in range(2)] == [4, 4]


# -- nothing to criticize ----------------------------------------------------------------------------------------------

SKIPPED = "every row of the batch was answered rightly: the prompt stays as it is"


def test_a_batch_without_mistakes_is_skipped_without_a_call_of_the_writer_and_the_next_one_is_not():
    # Of two training rows "Begin." answers one: of the two steps of the epoch one has nothing to criticize.
    problem, _, writer = setting({START: 0.1}, writing("Worse one"), train=2)
    state, infos = steps(PLUGIN, problem, config(batch_size=1), 2)
    assert (state.step, state.failed, state.finished) == (2, 0, False)
    assert [kind(c) for c in writer.asked] == ["on response", "on prompt", "rewrite"]
    (skipped,) = [info for info in infos if SKIPPED in info.notes]
    assert (skipped.candidates, skipped.accepted, skipped.prompt_text) == ((), None, f" {START}")
    assert skipped.loss == pytest.approx(0.9)


def test_with_a_judge_its_verdicts_tell_whether_there_is_something_to_criticize():
    # Exact match finds half of the rows wrong, the judge none; a verdict that cannot be read is no right answer.
    for verdict, notes in (("1", (SKIPPED,)), ("?", None)):
        reply = judging(lambda text, row, v=verdict: f"<score>{v if row == 2 else 1}</score>", "Better one")
        problem, _, writer = setting(SCORES, reply)
        _, (info,) = steps(PLUGIN, problem, config(evaluator="judge", batch_size=3), 1)
        assert (info.notes == notes) == (verdict == "1")
        assert len(writer.asked) == (3 if verdict == "1" else 3 + 2 * 3 + 1)


# -- the texts ---------------------------------------------------------------------------------------------------------


def conversations(**values) -> dict[str, list]:
    problem, _, writer = setting(SCORES, writing("Better one"))
    steps(PLUGIN, problem, config(batch_size=10, **values), 1)
    names = ("on response", "on prompt", "rewrite")
    return {name: [c for c in writer.asked if kind(c) == name] for name in names}


def test_the_loss_is_shown_with_the_response_and_the_reference():
    texts = [asked(c) for c in conversations()["on response"]]
    right = next(t for t in texts if "t question 4?" in t)
    wrong = next(t for t in texts if "t question 5?" in t)
    assert "Response:\nreasoning about t4\nFinal answer: Yes" in right
    assert "Reference: Yes; the answer read was: Yes. Score: 1 of 1." in right
    assert "Reference: Yes; the answer read was: No. Score: 0 of 1." in wrong
    assert all(prompts.ABOUT_RESPONSE in t for t in texts), "right answers beside wrong ones get feedback too"


def test_the_feedback_on_a_response_becomes_feedback_on_the_prompt_and_then_a_rewriting():
    shown = conversations(constraints=("At most ten words.",))
    on_prompt = [asked(c) for c in shown["on prompt"]]
    assert [f"Remark on the response:\non response {k}\n" in t for k, t in enumerate(on_prompt)] == [True] * 10
    assert all("Prompt:\nBegin.\n" in t for t in on_prompt)
    (rewrite,) = shown["rewrite"]
    text = asked(rewrite)
    assert rewrite[0] == ("system", prompts.EDITOR)
    assert [f"Remark on the prompt:\non prompt {k}\n" in text for k in range(10)] == [True] * 10
    assert "- At most ten words." in text
    assert text.endswith(prompts.FORMAT)
    assert "It must keep to this" not in asked(conversations()["rewrite"][0])


def test_an_answer_that_could_not_be_read_is_told_apart():
    problem, _, _ = setting({}, writing())
    (records,) = problem.score([problem.encode(START)], problem.examples[:1])
    unread = records[0].model_copy(update={"prediction": None})
    assert "no answer could be read. Score: 0 of 1." in prompts.matched(problem.examples[0], unread)


def test_long_responses_are_cut_in_the_middle():
    problem, _, _ = setting({}, writing())
    (records,) = problem.score([problem.encode(START)], problem.examples[:1])
    record = records[0].model_copy(update={"reasoning_text": "a b c d e f g"})
    assert prompts.respond(problem.examples[0], record, 3).startswith("a b [...] g\n")
    assert prompts.respond(problem.examples[0], record, 7).startswith("a b c d e f g\n")


# -- a judge -----------------------------------------------------------------------------------------------------------


def judging(verdict, *texts: str):
    write = writing(*texts)
    return lambda conversation, row: (
        verdict(asked(conversation), row) if kind(conversation) == "judge" else write(conversation, row)
    )


def test_a_judge_can_take_the_place_of_the_loss():
    reply = judging(lambda text, row: f"Fine. <score>{row % 2}</score>", "Better one")
    problem, _, writer = setting(SCORES, reply)
    steps(PLUGIN, problem, config(evaluator="judge", batch_size=3), 1)
    assert [kind(c) for c in writer.asked][:4] == ["judge", "judge", "judge", "on response"]
    shown = [asked(c) for c in writer.asked if kind(c) == "on response"]
    assert [f"a judge's score: {row % 2} of 1." in text for row, text in enumerate(shown)] == [True] * 3
    assert "Reference: Yes\n\nResponse:\nreasoning about" in asked(writer.asked[0])


def test_a_judge_can_give_the_dev_score_and_is_asked_once_per_prompt():
    # By the judge "Begin." has 4 of 10 and "Worse one" 5 of 10, whatever exact match says.
    def verdict(text: str, row: int) -> str:
        judged.append(row)
        return f"<score>{int(row < (4 if len(judged) <= 10 else 5))}</score>"

    judged: list[int] = []
    problem, _, _ = setting(SCORES, judging(verdict, "Worse one", "<SLOT>"))
    state, infos = steps(PLUGIN, problem, config(validation="judge"), 2)
    assert infos[0].prompt_text == " Worse one"
    assert [s.score for s in state.archive] == [0.4, 0.5]
    assert len(judged) == 2 * 10


def test_verdicts_that_cannot_be_read_count_as_wrong_and_are_noted():
    reply = judging(lambda text, row: ["<score>1</score>", "<score>maybe</score>", "yes"][row % 3], "Better one")
    problem, _, _ = setting(SCORES, reply, dev=3)
    state, (info,) = steps(PLUGIN, problem, config(evaluator="judge", validation="judge"), 1)
    assert [s.score for s in state.archive] == pytest.approx([1 / 3, 1 / 3])
    assert info.notes == (
        "2 unreadable verdicts on dev rows, counted as wrong",
        "2 unreadable verdicts on training rows, counted as wrong",
        "2 unreadable verdicts on dev rows, counted as wrong",
    )


# -- failures ----------------------------------------------------------------------------------------------------------


def test_where_no_rewriting_can_be_used_the_start_prompt_is_the_result_and_the_notes_say_so():
    problem, _, writer = setting({}, lambda conversation, row: "no tags")
    state, infos = steps(PLUGIN, problem, config(retries=2, batch_size=1), 2)
    assert state.result == problem.encode(START)
    assert (state.failed, len(state.archive)) == (2, 1)
    assert [statuses(info) for info in infos] == [["unreadable"], ["unreadable"]]
    assert all("no new prompt (unreadable): the prompt stays" in info.notes for info in infos)
    assert len(writer.asked) == 2 * (2 + 3), "the rewriting is asked for twice more"


def test_a_prompt_that_was_tried_before_is_not_tried_again():
    problem, model, _ = setting(SCORES, writing("Worse one", "worse  ONE", "Worse one"))
    state, infos = steps(PLUGIN, problem, config(), 2)
    assert statuses(infos[1]) == ["duplicate"] * 2
    assert [prompt for prompt, _ in model.answered].count("Worse one") == 1
    assert state.failed == 2


def test_a_duplicate_is_followed_by_one_warmer_attempt():
    problem, _, writer = setting(SCORES, writing(START, "Better one"))
    _, (info,) = steps(PLUGIN, problem, config(), 1)
    assert statuses(info) == ["duplicate", "scored"]
    assert info.prompt_text == " Better one"
    assert asked_at(writer)[-2:] == [(1, 0.0), (1, 0.3)]


def test_rows_without_feedback_are_left_out_and_without_any_no_step_is_made():
    def reply(conversation, row):
        if kind(conversation) == "on response":
            return None if row == 0 else "criticism"
        return tag("Better one") if kind(conversation) == "rewrite" else " "

    problem, _, writer = setting(SCORES, reply)
    _, (info,) = steps(PLUGIN, problem, config(), 1)
    assert [kind(c) for c in writer.asked] == ["on response"] * 3 + ["on prompt"] * 2
    assert "feedback on 0 of 3 rows" in info.notes
    assert statuses(info) == ["unreadable"]
    problem, _, writer = setting(SCORES, lambda c, row: reply(c, row) if kind(c) != "on prompt" else "criticism")
    _, (info,) = steps(PLUGIN, problem, config(), 1)
    assert info.notes == ("the writer gave nothing: refused", "feedback on 2 of 3 rows")
    assert asked(writer.asked[-1]).count("Remark on the prompt") == 2
    assert info.prompt_text == " Better one"


def test_the_state_holds_the_number_of_the_current_prompt():
    problem, _, _ = setting(SCORES, writing("Worse one", "Better one"))
    state, _ = steps(PLUGIN, problem, config(), 2)
    assert isinstance(state, TextGradState)
    assert (state.number, [s.text for s in state.archive]) == (2, ["Begin.", "Worse one", "Better one"])


def test_the_defaults_are_three_rows_four_steps_an_epoch_exact_match_and_the_revert():
    values = TextGradConfig()
    assert (values.batch_size, values.steps_per_epoch, values.revert) == (3, 4, True)
    assert (values.evaluator, values.validation, values.constraints) == ("match", "match", ())
    assert (values.temperature, values.max_new_tokens, values.max_prompt_tokens) == (0.0, 1024, 1000)
    assert PLUGIN.presets["paper"]["budget"] == {"steps": 3 * 4}

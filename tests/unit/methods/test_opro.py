"""OPRO's rules, one by one; expected values are worked out by hand."""

import pytest

from greater_ray.methods import opro
from greater_ray.methods.opro import PLUGIN, OproConfig, OproState, bucket, refusal, trajectory
from tests.letters import archive, asked, asked_at, setting, statuses, steps, tag

START = "Begin."
SCORES = {START: 0.5, "Worse one": 0.4, "Better one": 0.9}


def config(**values) -> OproConfig:
    return OproConfig(**({"initial_prompt": START, "num_proposals": 2, "retries": 0} | values))


# -- the trajectory ----------------------------------------------------------------------------------------------------


def shown(config: OproConfig, *scores: float) -> list[int]:
    notes: list[str] = []
    return [s.number for s in trajectory(archive(*((f"p{k}", score) for k, score in enumerate(scores))), config, notes)]


def test_the_trajectory_ascends_and_among_equals_the_later_prompt_is_further_down():
    assert shown(config(), 0.5, 0.9, 0.4, 0.5) == [2, 0, 3, 1]


def test_only_the_best_twenty_are_shown():
    scores = [0.30 + k / 100 for k in range(25)]
    assert shown(config(), *scores) == list(range(5, 25))
    assert shown(config(), *reversed(scores)) == list(range(19, -1, -1))
    assert shown(config(history=1), 0.9, 0.9) == [1]


def test_prompts_below_the_threshold_are_left_out():
    assert shown(config(), 0.29, 0.3, 0.31) == [1, 2]
    assert shown(config(score_threshold=0.0), 0.29, 0.3, 0.0) == [2, 0, 1]


def test_a_threshold_that_nothing_reaches_does_not_hold_and_the_notes_say_so():
    notes: list[str] = []
    assert [s.number for s in trajectory(archive(("a", 0.2), ("b", 0.1)), config(), notes)] == [1, 0]
    assert notes == ["no prompt reaches the threshold of 0.3: the best ones are shown anyway"]


@pytest.mark.parametrize(
    ("score", "buckets", "expected"), [(0.0, 100, 0), (2 / 3, 100, 67), (0.9, 100, 90), (2 / 3, 20, 13), (1.0, 20, 20)]
)
def test_a_score_is_shown_as_the_nearest_bucket(score: float, buckets: int, expected: int):
    assert bucket(score, buckets) == expected


# -- filters -----------------------------------------------------------------------------------------------------------


def test_long_prompts_are_refused_and_digits_where_asked_for():
    assert refusal("x" * 500, config()) is None
    assert refusal("x" * 501, config()) == "too long"
    assert refusal("Do 2 passes.", config()) is None
    assert refusal("Do 2 passes.", config(refuse_digits=True)) == "digit"


def test_replies_are_cleaned_begin_with_a_capital_and_are_filtered_with_a_reason():
    replies = ["**better** one", "begin.", "two 2", "x" * 30, "Better one", "Put <SLOT> here", "", "worse one"]
    problem, model, _ = setting(SCORES, lambda conversation, row: tag(replies[row]))
    cfg = config(num_proposals=8, refuse_digits=True, max_characters=20)
    state, (info,) = steps(PLUGIN, problem, cfg, 1)
    assert statuses(info) == [
        "scored", "duplicate", "digit", "too long", "duplicate", "unfilled slot or tag", "empty", "scored"
    ]  # fmt: skip
    assert [c.text for c in info.candidates if c.loss is not None] == ["Better one", "Worse one"]
    assert state.failed == 6
    assert model.answered == [(START, 10), ("Better one", 10), ("Worse one", 10)], "on all training rows"


# -- exemplars ---------------------------------------------------------------------------------------------------------


def exemplars(question: str) -> list[str]:
    return [line for line in question.splitlines() if line.startswith("Question: ")]


def questions(num_steps: int, seed: int = 0, **values) -> list[list[str]]:
    replies = iter(["Worse one", "Another one"])
    problem, _, writer = setting(SCORES, lambda conversation, row: tag(next(replies)), seed=seed)
    steps(PLUGIN, problem, config(num_proposals=1, **values), num_steps)
    return [exemplars(asked(conversation)) for conversation in writer.asked]


def test_constant_exemplars_are_the_first_rows():
    expected = [f"Question: t question {k}?" for k in range(3)]
    assert questions(2, exemplars_by="constant") == [expected, expected]


def test_exemplars_by_mistakes_are_the_rows_answered_wrongly_most_often():
    # "Begin." fails on rows 5 to 9; "Worse one", scored in step 1, on row 4 too. Row 4 then has 1 mistake, 5 to 9 two.
    first, second = questions(2, exemplars_by="wrong", exemplars=6)
    assert first == [f"Question: t question {k}?" for k in (5, 6, 7, 8, 9, 0)]
    assert second == [f"Question: t question {k}?" for k in (5, 6, 7, 8, 9, 4)]


def test_random_exemplars_depend_on_seed_and_step_alone():
    assert questions(2) == questions(2)
    assert questions(2)[0] != questions(2)[1]
    assert questions(1, seed=1) != questions(1)
    assert questions(1, exemplars=0) == [[]]
    assert len(questions(1, exemplars=50)[0]) == 10, "as many as there are"


# -- steps -------------------------------------------------------------------------------------------------------------


def test_a_known_better_prompt_is_found_and_moves_to_the_end_of_the_trajectory():
    replies = iter(["worse one", "better one", "unknown one"])
    problem, _, writer = setting(SCORES, lambda conversation, row: tag(next(replies)))
    state, infos = steps(PLUGIN, problem, config(num_proposals=1, score_threshold=0), 3)
    assert state.result == problem.encode("Better one")
    assert [info.loss for info in infos] == pytest.approx([0.5, 0.1, 0.1]), "the best prompt is the current one"
    assert [info.accepted for info in infos] == [None, 0, None]
    last = asked(writer.asked[-1])
    places = [last.index(f"Prompt: {text}\nScore: {score}") for text, score in
              [("Worse one", 40), ("Begin.", 50), ("Better one", 90)]]  # fmt: skip
    assert places == sorted(places)
    assert state.initial_loss == pytest.approx(0.5)


def test_where_no_reply_can_be_used_the_start_prompt_is_the_result_and_the_notes_say_so():
    problem, _, writer = setting(SCORES, lambda conversation, row: ["no tags", None][row])
    state, infos = steps(PLUGIN, problem, config(retries=2), 2)
    assert state.result == problem.encode(START)
    assert (state.failed, len(state.archive)) == (4, 1)
    assert all("no proposal of this step can be used: the prompts stay as they are" in info.notes for info in infos)
    assert len(writer.asked) == 2 * 2 * 3, "each asked for twice more"


def test_where_all_are_duplicates_a_warmer_attempt_follows_and_the_record_holds_both():
    replies = iter(["begin.", "Begin.", "Better one", "begin."])
    problem, model, writer = setting(SCORES, lambda conversation, row: tag(next(replies)))
    state, (info,) = steps(PLUGIN, problem, config(), 1)
    assert asked_at(writer) == [(2, 1.0), (2, 1.3)]
    assert len({seed for *_, seed in writer.settings}) == 2
    assert statuses(info) == ["duplicate", "duplicate", "scored", "duplicate"]
    assert (info.accepted, state.failed) == (2, 3)
    assert model.answered == [(START, 10), ("Better one", 10)]


def test_duplicates_twice_are_a_step_without_effect():
    problem, _, writer = setting(SCORES, lambda conversation, row: tag(START))
    state, infos = steps(PLUGIN, problem, config(), 2)
    assert asked_at(writer) == [(2, 1.0), (2, 1.3)] * 2
    assert (state.result, len(state.archive), state.failed) == (problem.encode(START), 1, 8)
    assert infos[0].notes == ("no proposal of this step can be used: the prompts stay as they are",)


def test_a_reply_is_asked_for_again_until_it_can_be_read():
    problem, _, writer = setting(SCORES, lambda conversation, row: tag("Better one") if len(writer.asked) > 3 else "-")
    _, infos = steps(PLUGIN, problem, config(retries=1), 1)
    assert statuses(infos[0]) == ["scored", "duplicate"]
    assert len(writer.asked) == 4


def test_the_meta_prompt_holds_scores_exemplars_request_and_format_in_this_order():
    problem, _, writer = setting({START: 0.7}, lambda conversation, row: tag("Worse one"))
    steps(PLUGIN, problem, config(exemplars_by="constant", exemplars=1, score_buckets=20), 1)
    assert asked(writer.asked[0]) == "\n\n".join(
        [
            f"{opro.OPENING} Scores run from 0 to 20.",
            "Prompt: Begin.\nScore: 14",
            opro.EXAMPLES,
            "Question: t question 0?\n<SLOT>\nCorrect answer: Yes",
            opro.REQUEST,
            opro.FORMAT,
        ]
    )


def test_a_step_counts_mistakes_of_new_prompts_alone():
    problem, _, _ = setting(SCORES, lambda conversation, row: tag("Better one"))
    state, _ = steps(PLUGIN, problem, config(), 2)
    assert isinstance(state, OproState)
    assert state.wrong == (0, 0, 0, 0, 0, 1, 1, 1, 1, 2)


def test_the_preset_chooses_among_the_best_by_dev_accuracy():
    assert PLUGIN.presets["paper"]["evaluation"] == {"dev_select_top": 10}
    assert (PLUGIN.presets["paper"]["budget"], PLUGIN.presets["short"]["budget"]) == ({"steps": 200}, {"steps": 25})


def test_the_defaults_are_those_of_the_code_for_chat_models():
    values = OproConfig()
    assert (values.num_proposals, values.history, values.exemplars, values.exemplars_by) == (8, 20, 3, "random")
    assert (values.temperature, values.max_new_tokens, values.score_threshold) == (1.0, 512, 0.3)
    assert (values.score_buckets, values.max_characters, values.refuse_digits) == (100, 500, False)

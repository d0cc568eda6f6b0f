"""GPO's rules, one by one; expected numbers are worked out by hand."""

import re
from dataclasses import replace

import pytest

from greater_ray.config import parse
from greater_ray.errors import ConfigError, ModelError, UnsupportedError
from greater_ray.methods import _gpo_prompts as prompts
from greater_ray.methods._similarity import embedded, word_overlap
from greater_ray.methods._trajectory import retrieve
from greater_ray.methods.gpo import PLUGIN, GpoConfig, GpoState, edit_limit, num_steps, select
from tests.letters import LetterModel, archive, asked, asked_at, setting, statuses, steps, tag

START = "Begin."


def config(**values) -> GpoConfig:
    return GpoConfig(**({"initial_prompt": START, "num_proposals": 2, "retries": 0, "batch_size": 2} | values))


# -- the edit limit ----------------------------------------------------------------------------------------------------


def limits(total: int, **values) -> list[int | None]:
    return [edit_limit(config(**values), current, total) for current in range(1, total + 1)]


def test_the_cosine_limit_over_18_steps():
    assert limits(18) == [49, 48, 47, 45, 42, 40, 36, 33, 30, 26, 23, 20, 17, 14, 12, 11, 10, 10]


def test_the_linear_limit_falls_by_the_same_share_in_every_step():
    # 50 - 40 k / 18, cut: 47.8, 45.6, 43.3, 41.1, 38.9, 36.7, 34.4, 32.2, 30, ...
    assert limits(18, decay="linear") == [47, 45, 43, 41, 38, 36, 34, 32, 30, 27, 25, 23, 21, 18, 16, 14, 12, 10]


def test_a_fixed_limit_and_none():
    assert limits(3, decay="fixed") == [50, 50, 50]
    assert limits(3, decay="none") == [None, None, None]


def test_warm_up_rises_linearly_and_the_decay_runs_over_the_rest():
    # 50 k / 4 before step 4; then the whole decay over 4 steps: cosine at 0, 1/4, 1/2, 3/4 and 1 of the way is
    # 50, 10 + 20 (1 + 0.7071) = 44.1, 30, 10 + 20 (1 - 0.7071) = 15.9 and 10.
    assert limits(8, warmup_steps=4) == [12, 25, 37, 50, 44, 30, 15, 10]
    assert limits(8, warmup_steps=4, decay="linear") == [12, 25, 37, 50, 40, 30, 20, 10]
    assert limits(4, warmup_steps=3, decay="fixed") == [16, 33, 50, 50]


def test_the_limit_is_never_below_one_word_and_stays_at_its_end():
    assert edit_limit(config(max_edit=2, min_edit=1, warmup_steps=8), 1, 10) == 1
    assert edit_limit(config(), 30, 18) == 10
    assert limits(2, warmup_steps=5) == [10, 20], "a warm-up longer than the run"
    assert limits(2, warmup_steps=2) == [25, 50]


def test_a_limit_that_would_rise_is_refused_where_it_would_matter():
    with pytest.raises(ConfigError, match="min_edit"):
        parse(GpoConfig, {"max_edit": 5}, "method_config")
    assert GpoConfig(max_edit=5, decay="fixed").max_edit == 5


@pytest.mark.parametrize(("rows", "expected"), [(50, 18), (48, 18), (51, 18), (52, 21), (100, 39), (4, 3), (2, 3)])
def test_the_number_of_steps_counts_a_last_batch_that_is_half_full(rows: int, expected: int):
    assert num_steps(GpoConfig(), rows) == expected


# -- the trajectory ----------------------------------------------------------------------------------------------------

PAST = archive(("a b d", 0.3), ("x y z", 0.9), ("a b c e", 0.1), ("a b c f", 0.9), ("a b c", 0.5))


def retrieved(by: str, num: int = 3, trajectory: tuple[int, ...] = (0, 1, 2, 3, 4)) -> list[int]:
    return [scored.number for scored in retrieve(PAST, trajectory, num, by, word_overlap)]


def test_relevance_shows_the_newest_prompt_and_then_those_most_like_it():
    # Overlap with "a b c": 2 of 4 words, none, 3 of 4, 3 of 4. Among equals the newer one goes first.
    assert retrieved("relevance") == [4, 3, 2]
    assert retrieved("relevance", 5) == [4, 3, 2, 0, 1]
    assert retrieved("relevance", 1) == [4]


def test_recency_shows_the_newest_and_importance_the_best():
    assert retrieved("recency") == [4, 3, 2]
    assert retrieved("recency", 9) == [4, 3, 2, 1, 0]
    assert retrieved("importance") == [1, 3, 4]


def test_a_prompt_that_was_taken_twice_is_shown_once():
    assert retrieved("recency", 9, (0, 1, 0)) == [0, 1]
    assert retrieved("relevance", 9, (0, 2, 0)) == [0, 2]
    assert retrieved("importance", 9, (0, 1, 0)) == [1, 0]


# -- selection ---------------------------------------------------------------------------------------------------------


def chosen(offered: list[int], current: int, trajectory: tuple[int, ...]) -> int | None:
    scored = select([PAST[number] for number in offered], PAST[current], trajectory)
    return None if scored is None else scored.number


def test_the_best_prompt_that_was_never_current_is_taken_even_if_it_is_worse():
    assert chosen([2, 0], current=1, trajectory=(1,)) == 0
    assert chosen([1, 2, 0], current=4, trajectory=(1, 4)) == 0, "the better one was current before"
    assert chosen([1, 3], current=4, trajectory=(4,)) == 1, "the first one among equals"


def test_where_all_were_current_before_the_best_of_them_is_taken_again_but_not_the_current_one():
    assert chosen([0, 1, 4], current=4, trajectory=(0, 1, 4)) == 1
    assert chosen([4], current=4, trajectory=(4,)) is None
    assert chosen([], current=4, trajectory=(4,)) is None


# -- steps -------------------------------------------------------------------------------------------------------------

SCORES = {START: 0.5, "Worse one": 0.2, "Better one": 0.9, "Middle one": 0.4}


def test_a_known_better_prompt_is_found_and_the_path_goes_on_from_the_best_proposal():
    replies = [
        ["worse one", "middle one"],
        ["better one", "Begin."],
        ["begin.", "MIDDLE ONE"],
        ["begin.", "MIDDLE ONE"],
    ]
    taken = iter(replies)
    batch: list[str] = []

    def reply(conversation, row):
        if row == 0:
            batch[:] = next(taken)
        return tag(batch[row])

    problem, model, writer = setting(SCORES, reply)
    state, infos = steps(PLUGIN, problem, config(momentum="recency"), 3)
    assert [info.prompt_text for info in infos] == [" Middle one", " Better one", " Begin."]
    assert [info.loss for info in infos] == pytest.approx([0.6, 0.1, 0.5]), "taken though worse, with its true score"
    assert [statuses(info) for info in infos] == [["scored", "scored"], ["scored", "known"], ["known"] * 4]
    assert "every proposal was current before: the best of them is taken again" in infos[2].notes
    assert (problem.encode("Better one"), state.failed) == (state.result, 0)
    scored = [prompt for prompt, _ in model.answered]
    assert scored == [START, "Worse one", "Middle one", "Better one"], "known prompts are not scored again"
    third = asked(writer.asked[4])
    assert third.index("Text: Begin.\nScore: 50") < third.index("Text: Middle one\nScore: 40")
    assert third.index("Text: Middle one\nScore: 40") < third.index("Text: Better one\nScore: 90"), "newest last"
    assert len(writer.asked) == 4 * 2, "once more in the step in which nothing was new"


def test_a_start_prompt_that_was_scored_is_tabu():
    problem, _, _ = setting(SCORES, lambda conversation, row: tag(["worse one", "begin."][row]))
    state, infos = steps(PLUGIN, problem, config(), 2)
    assert infos[0].prompt_text == " Worse one"
    assert isinstance(state, GpoState)
    assert state.trajectory == (0, 1, 0), "only then is it the best of those that were current before"


def test_where_no_reply_can_be_used_the_start_prompt_is_the_result_and_the_notes_say_so():
    problem, _, writer = setting(SCORES, lambda conversation, row: ["no tags", None][row])
    state, infos = steps(PLUGIN, problem, config(retries=1), 3)
    assert state.result == problem.encode(START)
    assert (state.failed, len(state.archive)) == (6, 1)
    assert isinstance(state, GpoState)
    assert state.trajectory == (0,)
    for info in infos:
        assert statuses(info) == ["unreadable", "unreadable"]
        assert "no proposal of this step can be used: the prompt stays" in info.notes
        assert "the writer gave nothing: refused" in info.notes
    assert len(writer.asked) == 3 * 2 * 2, "each asked for once more"


def test_where_all_are_duplicates_a_warmer_attempt_follows_and_what_is_known_stays_a_candidate():
    replies = iter(["Middle one", "Better one", "MIDDLE one", "begin.", "Worse one", "better ONE"])
    problem, model, writer = setting(SCORES, lambda conversation, row: tag(next(replies)))
    state, infos = steps(PLUGIN, problem, config(), 2)
    assert asked_at(writer) == [(2, 1.0), (2, 1.0), (2, 1.3)]
    assert len({seed for *_, seed in writer.settings}) == 3
    assert statuses(infos[1]) == ["known", "known", "scored", "known"]
    # "Better one" is current and "Begin." was: of the others "Middle one" (0.4) is better than "Worse one" (0.2).
    assert [info.prompt_text for info in infos] == [" Better one", " Middle one"]
    assert (infos[1].accepted, state.failed) == (0, 0)
    assert [prompt for prompt, _ in model.answered] == [START, "Middle one", "Better one", "Worse one"]


def test_a_reply_that_comes_twice_in_a_step_is_a_duplicate():
    problem, _, _ = setting(SCORES, lambda conversation, row: tag("Better one"))
    state, infos = steps(PLUGIN, problem, config(), 1)
    assert statuses(infos[0]) == ["scored", "duplicate"]
    assert state.failed == 1


def test_the_words_changed_are_noted_beside_the_limit():
    long = "Begin. " + " ".join(f"w{k}" for k in range(20))
    problem, _, _ = setting({}, lambda conversation, row: tag([long, "Begin. now"][row]))
    cfg = config(max_edit=10, min_edit=1, decay="fixed")
    assert steps(PLUGIN, problem, cfg, 1)[1][0].notes == (
        "edit limit 10 words; words changed: [20, 1]; above the limit: 1 of 2",
    )
    assert steps(PLUGIN, problem, config(decay="none"), 1)[1][0].notes == ("no edit limit; words changed: [20, 1]",)


def test_it_ends_after_its_own_number_of_steps():
    problem, _, _ = setting(SCORES, lambda conversation, row: "nothing", train=4)
    cfg = config(epochs=2)
    assert num_steps(cfg, 4) == 4
    assert not steps(PLUGIN, problem, cfg, 3)[0].finished
    assert steps(PLUGIN, problem, cfg, 4)[0].finished


# -- what the writer is asked ------------------------------------------------------------------------------------------


def first_question(**values) -> str:
    problem, _, writer = setting(SCORES, lambda conversation, row: "<summary>so far</summary> <reason>why</reason>")
    steps(PLUGIN, problem, config(**values), 1)
    return asked(writer.asked[-1])


def test_the_meta_prompt_holds_history_current_prompt_exemplars_request_limit_and_format_in_this_order():
    text = first_question(decay="fixed", max_edit=1, min_edit=1, exemplars=2)
    parts = [
        prompts.TASK,
        prompts.HISTORY,
        "Text: Begin.\nScore: 50",
        f"{prompts.CURRENT}\nBegin.",
        prompts.EXEMPLARS,
        f"?\n{prompts.SLOT}\nRight answer: Yes",
        prompts.GENERATE,
        "Change at most 1 word of the text in use now.",
        prompts.FORMAT,
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count(f"\n{prompts.SLOT}\nRight answer: Yes") == 2
    assert text.endswith(f"Change at most 1 word of the text in use now.\n\n{prompts.FORMAT}")


def test_every_part_can_be_left_out():
    assert prompts.HISTORY not in first_question(momentum="none")
    assert "Change at most" not in first_question(decay="none")
    assert prompts.EXEMPLARS not in first_question(exemplars=0)
    assert prompts.EDIT in first_question(refinement="edit")
    assert prompts.GENERATE not in first_question(refinement="edit")
    assert prompts.REASON not in first_question()


def test_most_alike_by_embeddings_stands_last_and_descending_order_puts_it_first():
    """Letters of "abcd" against "abce" and "xyza": 3/4 and 1/4 in common."""
    past = archive(("xyza", 0.9), ("abce", 0.1), ("abcd", 0.5))
    _, model, _ = setting({}, lambda conversation, row: None)
    for order, expected in (("ascending", ["xyza", "abce", "abcd"]), ("descending", ["abcd", "abce", "xyza"])):
        problem, _, writer = setting({}, lambda conversation, row: tag("Worse one"))
        state = GpoState(prompt_ids=past[2].ids, archive=past, trajectory=(0, 1, 2), step=3)
        PLUGIN.step(problem, config(order=order), state)
        text = asked(writer.asked[0])
        assert sorted(expected, key=lambda shown: text.index(f"Text: {shown}\n")) == expected
    assert embedded(model, [])("abcd", ["abce", "xyza"]) == pytest.approx([0.75, 0.25])


def test_embeddings_are_asked_for_in_the_first_step_so_that_a_model_without_any_is_refused_there():
    problem, model, _ = setting(SCORES, lambda conversation, row: tag("Worse one"))
    steps(PLUGIN, problem, config(), 1)
    assert model.questions("text_embeddings") == [["Begin."]]

    class Without(LetterModel):
        def text_embeddings(self, work, layout):
            raise UnsupportedError("'it' cannot give text embeddings.", setting="model.name")

    why = r"^method_config\.similarity: .*cannot give text embeddings; .*similarity may be tf-idf"
    with pytest.raises(ModelError, match=why):
        steps(PLUGIN, replace(problem, model=Without()), config(similarity="embeddings"), 1)
    problem = replace(setting(SCORES, lambda conversation, row: tag("Worse one"))[0], model=Without())
    _, info = PLUGIN.step(problem, config(), PLUGIN.start(problem, config()))
    assert "likeness by words: this model gives no embeddings" in info.notes, "the default goes on, and says so"


def test_without_a_trajectory_the_current_prompt_is_shown_with_its_score():
    text = first_question(momentum="none")
    assert f"{prompts.CURRENT}\nBegin.\nScore: 50\n\n{prompts.SCORED}" in text
    assert "Begin.\nScore" not in first_question().partition(prompts.CURRENT)[2]


def merging(merged: str, cfg: GpoConfig, num: int):
    calls: list[str] = []
    proposals = iter(["Worse one", "Middle one", "Better one"])

    def reply(conversation, row):
        calls.append(asked(conversation))
        if prompts.MERGE in calls[-1]:
            return tag(merged) if merged else "no tags"
        return tag(next(proposals)) if row == 0 else tag("{unfilled}")

    problem, model, writer = setting({**SCORES, "Both in one": 0.7}, reply)
    return calls, model, writer, *steps(PLUGIN, problem, cfg, num)


def test_a_summary_is_a_prompt_merged_from_two_and_shown_with_the_score_that_it_has():
    calls, model, writer, state, infos = merging("both in one", config(momentum="summary"), 2)
    assert prompts.MERGED not in calls[0], "there is nothing to merge yet"
    (merge,) = (call for call in calls if prompts.MERGE in call)
    assert "Prompt 1:\nBegin.\nScore: 50\n\nPrompt 2:\nWorse one\nScore: 20" in merge
    assert f"{prompts.MERGED}\nBoth in one\nScore: 70" in calls[-1]
    assert f"{prompts.CURRENT}\nWorse one\nScore: 20" in calls[-1]
    assert prompts.HISTORY not in calls[-1]
    assert isinstance(state, GpoState)
    assert state.archive[state.merged].text == "Both in one"
    assert ("Both in one", 10) in model.answered, "on all dev rows"
    assert model.text(state.result) == " Both in one", "it is a result like any other"
    assert "merged: Both in one (score 70)" in infos[1].notes
    assert [temperature for num, temperature in asked_at(writer) if num == 1] == [0.0]


def test_the_merged_prompt_is_merged_again_and_one_that_cannot_be_used_leaves_the_one_before():
    calls, _, _, state, _ = merging("both in one", config(momentum="summary"), 3)
    again = [call for call in calls if prompts.MERGE in call][1]
    assert "Prompt 1:\nBoth in one\nScore: 70\n\nPrompt 2:\nMiddle one\nScore: 40" in again
    calls, _, _, state, infos = merging("", config(momentum="summary"), 2)
    assert state.archive[state.merged].text == START
    assert "no merged prompt that can be used (unreadable): the one before stays" in infos[1].notes
    assert f"{prompts.MERGED}\nBegin.\nScore: 50" in calls[-1]


def test_reflections_show_the_reasons_of_earlier_steps_chosen_as_prompts_are():
    reasons = iter(["first why", "second why", "third why"])
    proposals = iter(["Worse one", "Middle one", "Better one"])

    def reply(conversation, row):
        if prompts.EXPLAIN in asked(conversation):
            return f"<reason>{next(reasons)}</reason>"
        return tag(next(proposals)) if row == 0 else tag("{unfilled}")

    problem, _, writer = setting(SCORES, reply)
    cfg = config(feedback=True, reflections=True, momentum="recency", trajectory=2, batch_size=10)
    steps(PLUGIN, problem, cfg, 3)
    asked_for = [asked(c) for c in writer.asked if prompts.TASK in asked(c)]
    assert prompts.REASONS not in asked_for[0]
    assert f"{prompts.REASONS}\n- first why\n\n{prompts.REASON}\nsecond why" in asked_for[2]
    assert f"{prompts.REASONS}\n- second why\n\n{prompts.REASON}\nthird why" in asked_for[-1]
    why = r"^method_config: reflections are the feedback of earlier steps, so true needs feedback: true, not \{"
    with pytest.raises(ConfigError, match=why) as raised:
        parse(GpoConfig, {"reflections": True}, "method_config")
    assert (raised.value.setting, raised.value.value) == ("method_config", {"reflections": True})


def test_feedback_shows_the_mistakes_of_the_batch_and_adds_the_reason():
    def reply(conversation, row):
        return "<reason>too short</reason>" if prompts.EXPLAIN in asked(conversation) else tag("Better one")

    # Half of the training rows are answered wrongly, and the batch holds all of them.
    problem, model, writer = setting(SCORES, reply)
    steps(PLUGIN, problem, config(feedback=True, batch_size=10), 1)
    explain, refine = asked(writer.asked[0]), asked(writer.asked[1])
    assert explain.count("Final answer: No\nRight answer: Yes") == 5
    assert "reasoning about t7" in explain
    assert "reasoning about t4" not in explain
    assert f"{prompts.REASON}\ntoo short" in refine
    assert (START, 10) in model.answered


def test_feedback_without_mistakes_or_without_a_reply_is_left_out():
    problem, _, writer = setting({START: 1.0}, lambda conversation, row: tag("Worse one"))
    _, infos = steps(PLUGIN, problem, config(feedback=True), 1)
    assert "no mistakes on the training batch: no feedback" in infos[0].notes
    assert len(writer.asked) == 2
    problem, _, writer = setting({START: 0.0}, lambda conversation, row: tag("Worse one"))
    _, infos = steps(PLUGIN, problem, config(feedback=True), 1)
    assert "no readable feedback" in infos[0].notes
    assert prompts.REASON not in asked(writer.asked[-1])


def test_prompts_with_braces_and_slots_are_shown_as_they_are():
    odd = "Use {braces}, %s and <SLOT> {0}."
    problem, _, writer = setting({odd: 0.5}, lambda conversation, row: tag("Worse one"))
    steps(PLUGIN, problem, config(initial_prompt=odd), 1)
    assert f"Text: {odd}\nScore: 50" in asked(writer.asked[0])


def test_a_reply_in_the_words_of_the_meta_prompt_is_refused():
    problem, _, _ = setting(
        {}, lambda conversation, row: tag([prompts.GENERATE.replace("<SLOT>", "it"), "<SLOT>"][row])
    )
    _, infos = steps(PLUGIN, problem, config(), 1)
    assert statuses(infos[0]) == ["copied", "unfilled slot or tag"]


def test_percent_is_a_score_on_a_scale_of_100():
    assert [prompts.percent(score) for score in (0.0, 0.125, 1 / 3, 1.0)] == ["0", "12.5", "33.3", "100"]


def test_a_seed_changes_the_exemplars_and_nothing_is_drawn_outside_it():
    def question(seed: int) -> str:
        problem, _, writer = setting(SCORES, lambda conversation, row: tag("Worse one"), seed=seed)
        steps(PLUGIN, problem, config(), 1)
        return asked(writer.asked[0])

    assert question(0) == question(0)
    assert len({question(seed) for seed in range(5)}) > 1


@pytest.mark.parametrize(("drawn", "number"), [("once", 1), ("every-step", 4)])
def test_exemplars_are_drawn_once_or_in_every_step(drawn: str, number: int):
    problem, _, writer = setting(SCORES, lambda conversation, row: tag("{unfilled}"))
    steps(PLUGIN, problem, config(exemplars_drawn=drawn, num_proposals=1), 4)
    shown = {tuple(re.findall(r"t question \d", asked(c))) for c in writer.asked}
    assert len(shown) == number


def test_the_defaults_are_those_of_the_run_script():
    values = GpoConfig()
    assert (values.epochs, values.batch_size, values.num_proposals, values.exemplars) == (3, 8, 8, 3)
    assert (values.momentum, values.trajectory, values.refinement, values.feedback) == (
        "relevance",
        3,
        "generate",
        False,
    )
    assert (values.decay, values.max_edit, values.min_edit, values.warmup_steps) == ("cosine", 50, 10, 0)
    assert (values.similarity, values.order, values.exemplars_drawn) == ("auto", "ascending", "once")
    assert (values.temperature, values.initial_prompt) == (1.0, "Let's think step by step.")


def test_every_step_asks_for_the_limit_of_its_own_place_in_the_decay():
    problem, _, writer = setting(SCORES, lambda conversation, row: "nothing", train=8)
    steps(PLUGIN, problem, config(epochs=1, decay="linear", num_proposals=1), 4)
    said = [asked(c).partition("Change at most ")[2].split()[0] for c in writer.asked]
    assert said == ["40", "30", "20", "10"]

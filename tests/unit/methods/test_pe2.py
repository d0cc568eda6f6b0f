"""PE2: the turns of its conversation, in order, with history and step size on and off."""

import pytest

from greater_ray.methods.pe2 import PLUGIN, Pe2Config
from greater_ray.types import Conversation
from tests.prompt_table import START, LetterModel, ids, last, outcome, problem, run, tag


def config(**values: object) -> Pe2Config:
    settings = {"initial_prompt": START, "train_steps": 2, "n_beam": 1, "n_expand": 1, "retries": 0} | values
    return Pe2Config(**settings)


def kind(conversation: Conversation) -> str:
    text = last(conversation)
    if "## Full template" in text:
        return "analysis"
    return "history" if text.startswith("For the log") else "prompt" if "## Rules" in text else "paraphrase"


def talker(*prompts: str):
    left = list(prompts)

    def reply(conversation: Conversation, row: int) -> str:
        match kind(conversation):
            case "analysis":
                return f"analysis {row}"
            case "history":
                return f"lacked\n  care {row}"
        return tag(left.pop(0))

    return reply


@pytest.mark.parametrize(
    ("history", "step_size", "replies"),
    [(False, None, 2), (False, 7, 2), (True, None, 3), (True, 7, 3)],
)
def test_the_turns_in_order(history: bool, step_size: int | None, replies: int):
    given, writer = problem(LetterModel(), talker("alpha"))
    run(PLUGIN, given, config(history=history, step_size=step_size, batch_size=2))
    assert len(writer.asked) == replies
    longest = writer.asked[-1]
    roles = ["system", "user", "assistant", "user", "assistant", "user"] + ["assistant", "user"] * history
    assert [m.role for m in longest] == roles
    introduction, material, request = (longest[k].content for k in (1, 3, 5))
    assert "Step 1" in introduction
    assert "2 examples" in introduction
    assert ("a log of earlier changes" in introduction) is history
    assert ("a limit on the change" in introduction) is (step_size is not None)
    assert material.count("### Example ") == 2
    assert longest[4].content == "analysis 0"
    assert f"## Prompt to change\n{START}" in request
    assert "50 words at most" in request
    assert ("## Log" in request) is history
    assert ("Change, add or delete at most 7 words" in request) is (step_size is not None)
    if history:
        assert longest[6].content == tag("alpha"), "the whole reply stays in the conversation"
        assert "step 1" in longest[7].content


def test_each_turn_has_its_own_temperature_and_length():
    given, writer = problem(LetterModel(), talker("alpha", "beta"))
    run(PLUGIN, given, config(history=True, n_expand=2))
    assert [s[:3] for s in writer.settings] == [(2, 1500, 0.5), (2, 300, 0.7), (2, 200, 0.7)]


def test_the_history_of_a_child_goes_on_from_its_parent():
    # All four train rows lie in the first chunk of 20.
    model = LetterModel(right={START: {"t0"}, "alpha": {"t0", "t1", "t2", "d0"}})
    given, writer = problem(model, talker("alpha", "beta", "gamma"))
    state, _ = run(PLUGIN, given, config(history=True, train_steps=4))
    first = "Accuracy at step 0: 25% of 4 train rows.\nStep 1: lacked care 0"
    second = f"{first}\nAccuracy at step 1: 75% of 4 train rows.\nStep 2: lacked care 0"
    assert [n.history for n in state.nodes] == ["", first, second, second], "alpha is expanded twice"
    requests = [last(c) for c in writer.asked if kind(c) == "prompt"]
    assert "Accuracy at step 0: 25% of 4 train rows.\n\n" in requests[0]
    assert f"{first}\nAccuracy at step 1: 75% of 4 train rows.\n\n" in requests[1]


def test_without_history_nothing_is_logged():
    given, _ = problem(LetterModel(), talker("alpha", "beta"))
    state, _ = run(PLUGIN, given, config(train_steps=3))
    assert {n.history for n in state.nodes} == {""}


def test_a_history_line_that_cannot_be_read_leaves_the_log_as_it_was():
    def reply(conversation: Conversation, row: int) -> str:
        return "" if kind(conversation) == "history" else talker("alpha")(conversation, row)

    given, _ = problem(LetterModel(), reply)
    state, infos = run(PLUGIN, given, config(history=True))
    assert state.nodes[1].history == "Accuracy at step 0: 0% of 4 train rows."
    assert outcome(infos[0]) == [("alpha", "scored")]


def test_a_lost_analysis_ends_that_conversation_only():
    def reply(conversation: Conversation, row: int) -> str | None:
        if kind(conversation) == "analysis":
            return None if row == 0 else "analysis"
        return "lacked care" if kind(conversation) == "history" else tag("alpha")

    given, writer = problem(LetterModel(), reply)
    state, infos = run(PLUGIN, given, config(n_expand=2, history=True))
    assert outcome(infos[0]) == [("", "unreadable"), ("alpha", "scored")]
    assert [kind(c) for c in writer.asked] == ["analysis", "analysis", "prompt", "history"]
    assert state.nodes[1].history.endswith("Step 1: lacked care")


def test_without_a_wrong_answer_paraphrases_keep_the_history():
    model = LetterModel(right={"alpha": {"d0", *ids("t", 4)}})
    given, writer = problem(model, talker("alpha", "beta"))
    state, infos = run(PLUGIN, given, config(history=True, train_steps=3))
    assert [kind(c) for c in writer.asked] == ["analysis", "prompt", "history", "paraphrase"]
    assert outcome(infos[1]) == [("beta", "scored")]
    log = "Accuracy at step 0: 0% of 4 train rows.\nStep 1: lacked care 0"
    assert [n.history for n in state.nodes] == ["", log, log]


def test_a_perfect_prompt_ends_the_search():
    model = LetterModel(right={"alpha": ids("d", 4)})
    given, _ = problem(model, talker("alpha", "beta"))
    state, infos = run(PLUGIN, given, config(train_steps=9))
    assert (len(infos), state.finished, model.text(state.result)) == (1, True, " alpha")


@pytest.mark.parametrize("reply", ["No tags at all.", None])
def test_when_nothing_can_be_used_the_start_prompt_stays(reply: str | None):
    given, _ = problem(LetterModel(), lambda c, row: reply)
    state, infos = run(PLUGIN, given, config(train_steps=3))
    assert state.result == given.encode(START)
    assert infos[-1].notes[-1] == "no proposal could be used: the start prompt stays"
    assert ("the writer gave nothing: refused" in infos[-1].notes) is (reply is None)


def test_a_known_better_prompt_is_found():
    model = LetterModel(right={"wise": ids("d", 3), "calm": ids("d", 1)})
    given, _ = problem(model, talker("slow", "calm", "wise", "bold"))
    state, _ = run(PLUGIN, given, config(train_steps=3, n_expand=2))
    assert model.text(state.result) == " wise"


def test_the_material_on_a_real_row():
    given, writer = problem(LetterModel(), talker("alpha"), train=1)
    run(PLUGIN, given, config(initial_prompt="Use {this} form.", batch_size=1))
    introduction, material = writer.asked[0][1].content, writer.asked[0][3].content
    assert "1 example " in introduction
    for part in ("## Prompt\nUse {this} form.\n", "```\n<input> Use {this} form.\n```", "### Example 1 (id t0)",
                 "Input: question t0?", "Reasoning: thinking about t0", "Output: No", "Label: (Yes)",
                 "labels as certainly right"):  # fmt: skip
        assert part in material
    assert material.count("\n- ") == 4


def test_settings_of_the_released_script():
    held = Pe2Config()
    assert (held.train_steps, held.n_beam, held.n_expand, held.backtrack, held.batch_size) == (4, 4, 4, True, 2)
    assert (held.history, held.step_size, held.max_words, held.max_new_tokens) == (False, None, 50, 300)
    assert Pe2Config(**PLUGIN.presets["released"]["method_config"]).reply == "whole"

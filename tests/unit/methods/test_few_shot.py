"""Few-shot prompts: which rows are shown, with which rationales, and how the text reads after a question."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.methods.few_shot import PLUGIN, FewShotConfig, FewShotState, Worked, prompt_text
from greater_ray.protocols import Problem, StepInfo
from greater_ray.records import ExampleRecord
from greater_ray.tasks import load_task
from greater_ray.types import Answer, Example, Layout, Rollout, TokenIds, Usage
from greater_ray.work import Answers
from tests.scripted import ScriptedModel

ROWS = tuple(Example(f"r{k}", f"Is {k} even? {{braces}}", f"({'AB'[k % 2]})", "AB"[k % 2]) for k in range(8))
DEV = (Example("d0", "never shown", "(A)", "A"),)


class Reader(ScriptedModel):
    """Takes any text for a prompt: a token is a character. It answers the rows of ``right``."""

    right: Mapping[str, bool]  # row id: whether its reasoning was cut off

    def encoded(self, text: str) -> TokenIds:
        return tuple(map(ord, text))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        self.asked.append(("answers", ([self.text(p) for p in work.prompts], [e.id for e in work.examples])))
        return [
            [
                Answer(
                    Rollout((), self.right.get(e.id, False), 1.0, 0.0, e.id in self.right),
                    f" Because of {e.id}. \n",
                    e.label if e.id in self.right else "no",
                )
                for e in work.examples
            ]
            for _ in work.prompts
        ], Usage()


def read(example: Example, answer: Answer) -> ExampleRecord:
    return ExampleRecord(
        id=example.id,
        target=example.target,
        prediction=answer.answer_text,
        score=float(answer.answer_text == example.label),
        strict_prediction=None,
        strict_score=0.0,
        truncated=answer.rollout.truncated,
        reasoning_tokens=0,
        label_ce=1.0,
        prompt_nll=0.0,
        answer_text=answer.answer_text,
        reasoning_text=answer.reasoning_text,
    )


def step(
    right: Mapping[str, bool], seed: int = 0, room: int | None = None, **values: Any
) -> tuple[Reader, FewShotState, StepInfo]:
    model = Reader(room=room)
    model.right = right
    problem = Problem(ROWS, model, seed, dev=DEV, read=read)
    config = FewShotConfig(**{"form": "text", **values})
    return model, *PLUGIN.step(problem, config, PLUGIN.start(problem, config))


ALL = dict.fromkeys((e.id for e in ROWS), False)


def test_the_prompt_with_rationales_reads_naturally_after_the_question():
    model, state, info = step({"r1": False, "r4": False}, shots=2)
    first, second = state.drawn
    numbers = {"r1": "(B)", "r4": "(A)"}
    assert info.prompt_text == (
        "\n\nThat is the question to answer. Before it is answered, here are worked examples of the same kind of task."
        f"\n\nExample 1\nQuestion: Is {first[1]} even? {{braces}}\nReasoning: Because of {first}.\n"
        f"Answer: {numbers[first]}"
        f"\n\nExample 2\nQuestion: Is {second[1]} even? {{braces}}\nReasoning: Because of {second}.\n"
        f"Answer: {numbers[second]}"
        "\n\nNow go back to the question at the very beginning and solve it in the same way. Let's think step by step."
    )
    assert model.text(state.prompt_ids) == model.text(state.result) == info.prompt_text
    assert (state.finished, state.best, info.loss) == (True, (), None)


def test_the_prompt_with_answers_alone_needs_no_model():
    model, state, info = step({}, shots=1, style="answer-only")
    (name,) = state.drawn
    row = next(e for e in ROWS if e.id == name)
    assert info.prompt_text == (
        "\n\nThat is the question to answer. Before it is answered, here are worked examples of the same kind of task."
        f"\n\nExample 1\nQuestion: {row.question}\nAnswer: {row.target}"
        "\n\nNow go back to the question at the very beginning and state its answer in the same form."
    )
    assert model.asked == []


def test_as_turns_the_rows_leave_the_prompt_as_it_is():
    model, state, info = step({"r1": False, "r4": False}, shots=2, form="turns")
    assert (model.text(state.result), info.prompt_text) == (" Let's think step by step.", "Let's think step by step.")
    assert {d.id for d in state.demonstrations} == {"r1", "r4"} == set(state.drawn)
    first = state.demonstrations[0]
    (row,) = (e for e in ROWS if e.id == first.id)
    assert first == (row.id, row.question, row.label, f"Because of {row.id}.")
    _, bare, _ = step({}, shots=2, form="turns", style="answer-only")
    assert [d.rationale for d in bare.demonstrations] == [None, None]
    assert FewShotState.model_validate_json(state.model_dump_json()) == state
    _, cut, info = step(ALL, shots=3, form="turns", max_prompt_tokens=150)
    assert len(cut.demonstrations) == 2
    assert "is left out" in info.notes[0]


def test_it_renders_on_a_real_example():
    config = resolve_config(
        {"model": "smollm2-135m", "task": {"name": "bbh/navigate", "data": "synthetic"}, "method": "few-shot"}
    )
    assert config.layout.frozen_prefix == ""
    model = Reader()
    model.right = {}
    problem = Problem(tuple(load_task(config.task).train()), model, 0)
    settings = FewShotConfig(style="answer-only", form="text")
    state, info = PLUGIN.step(problem, settings, PLUGIN.start(problem, settings))
    assert info.prompt_text.count("\nQuestion: ") == info.prompt_text.count("\nAnswer: ") == len(state.drawn) == 5


def test_only_rows_that_were_answered_rightly_are_shown():
    right = {"r0": False, "r2": False, "r3": False, "r6": False}
    model, state, _ = step(right, shots=3)
    assert len(set(state.drawn)) == 3
    assert set(state.drawn) <= set(right)
    (asked,) = model.questions("answers")
    assert asked == ([" Let's think step by step."], [e.id for e in ROWS]), "training rows, under the trigger"


def test_rationales_that_were_cut_off_come_last():
    _, state, _ = step({"r0": True, "r1": False, "r2": True, "r3": False, "r5": True}, shots=3)
    assert set(state.drawn[:2]) == {"r1", "r3"}
    assert state.drawn[2] in {"r0", "r2", "r5"}


def test_fewer_right_rows_than_wanted_are_taken_and_told():
    _, state, info = step({"r2": False})
    assert state.drawn == ("r2",)
    assert info.notes == ("only 1 of 8 training rows were answered rightly", "1 examples: r2")


def test_without_a_right_row_the_zero_shot_prompt_stays_and_it_says_so():
    model, state, info = step({})
    assert model.text(state.result) == " Let's think step by step."
    assert info.notes[0] == "only 0 of 8 training rows were answered rightly"


@pytest.mark.parametrize("style", ["rationale", "answer-only"])
def test_zero_shots_is_the_zero_shot_prompt(style: str):
    model, state, _ = step(ALL, shots=0, style=style)
    assert (model.text(state.result), model.asked, state.finished) == (" Let's think step by step.", [], True)


@pytest.mark.parametrize("style", ["rationale", "answer-only"])
def test_rows_are_drawn_by_seed(style: str):
    draws = [step(ALL, seed, style=style)[1].drawn for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3
    assert all(len(set(drawn)) == 5 for drawn in draws)
    assert {name for drawn in draws for name in drawn} <= {e.id for e in ROWS}, "never from dev"


def test_more_shots_than_rows_are_all_rows():
    assert sorted(step(ALL, shots=99)[1].drawn) == [e.id for e in ROWS]


def test_examples_that_do_not_fit_are_left_out_from_the_end():
    _, whole, info = step(ALL, shots=3)
    fits = len(info.prompt_text)
    for smaller in ({"max_prompt_tokens": fits - 1}, {"room": fits - 1}):
        _, state, cut = step(ALL, shots=3, **smaller)
        assert state.drawn == whole.drawn[:2]
        assert cut.notes[0] == f"row '{whole.drawn[2]}' is left out: {fits} tokens are too many"
    _, state, _ = step(ALL, shots=3, max_prompt_tokens=1)
    assert state.drawn == ()
    assert prompt_text(FewShotConfig(), []) == "Let's think step by step."


@pytest.mark.parametrize("prompt_first", [False, True])
def test_the_words_say_where_the_question_is(prompt_first: bool) -> None:
    shown = [Worked(Example("a", "Is it?", "Yes", "Yes"))]
    text = prompt_text(FewShotConfig(style="answer-only"), shown, prompt_first)
    assert ("question at the very beginning" in text) == (not prompt_first)
    assert ("question that follows" in text) == prompt_first


def test_the_nearest_are_chosen_from_all_rows_or_from_those_answered_rightly():
    near = {"form": "turns", "selection": "nearest", "shots": 2}
    _, state, info = step({}, style="answer-only", **near)
    assert (state.drawn, state.nearest) == (tuple(e.id for e in ROWS), 2)
    assert info.notes == (f"the 2 nearest of 8 examples: {', '.join(state.drawn)}",)
    assert step({}, seed=5, style="answer-only", **near)[1] == state, "no seed decides"
    _, state, _ = step({"r6": False, "r1": True, "r4": False}, **near)
    assert (state.drawn, state.nearest) == (("r4", "r6"), 2), "cut-off rationales only where there are too few"
    assert state.demonstrations[0].rationale == "Because of r4."
    _, state, info = step({"r1": True}, **near)
    assert (state.drawn, state.nearest) == (("r1",), 1)
    assert info.notes[0] == "only 1 of 8 training rows were answered rightly"
    _, state, _ = step({}, **near)
    assert (state.demonstrations, state.nearest) == ((), 0)


def test_of_the_nearest_so_many_are_shown_as_fit_whatever_the_question():
    longest = max(len(" " + Worked(row).text) for row in ROWS)
    near = {"form": "turns", "selection": "nearest", "shots": 3, "style": "answer-only"}
    _, state, info = step({}, max_prompt_tokens=2 * longest, **near)
    assert (len(state.demonstrations), state.nearest) == (8, 2)
    assert info.notes[0] == f"the farthest of the 3 nearest is left out: {3 * longest} tokens are too many"
    _, state, _ = step({}, max_prompt_tokens=longest - 1, **near)
    assert (state.demonstrations, state.nearest) == ((), 0)

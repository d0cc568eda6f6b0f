"""GReaTer with textual feedback: when text is asked for, what is shown, and that GReaTer's loss alone decides."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.methods import _greater_textual_prompts as prompts
from greater_ray.methods import greater
from greater_ray.methods.greater_textual import PLUGIN, GreaterTextualConfig, GreaterTextualState
from greater_ray.protocols import Problem, StepInfo
from greater_ray.tasks import load_task
from greater_ray.types import Conversation
from greater_ray.work import Answers
from tests.scripted import START, ScriptedModel, ScriptedWriter, read, rows

# With prompt NLL 0 the fluency term exp(0) is 1, so a label CE of c gives a loss of c + 0.2.
ONE = 0.2
MISSED = 9 + ONE


def config(**values: Any) -> GreaterTextualConfig:
    settings = {
        "initial_prompt": START,
        "min_candidates": 1,
        "feedback_every": 3,
        "dynamic_length": False,
        "num_rewrites": 2,
    }
    return GreaterTextualConfig(**settings | values)


def writing(*texts: str | None, critique: str | None = "It is too short.") -> ScriptedWriter:
    """A writer of one critique and of one rewrite per row; None is a refusal."""

    def reply(conversation: Conversation, row: int) -> str | None:
        if prompts.CRITICIZE in conversation[0].content:
            return critique
        return texts[row % len(texts)]

    return ScriptedWriter(reply)


def run(
    model: ScriptedModel, writer: ScriptedWriter, cfg: GreaterTextualConfig, steps: int, seed: int = 0
) -> tuple[list[GreaterTextualState], list[StepInfo]]:
    problem = Problem(rows(4), model, seed, optimizer=writer, read=read)
    states, infos = [PLUGIN.start(problem, cfg)], []
    for _ in range(steps):
        state, info = PLUGIN.step(problem, cfg, states[-1])
        states.append(state)
        infos.append(info)
    return states, infos


def tagged(text: str) -> str:
    return f"Here it is: <prompt>{text}</prompt>"


def test_text_is_asked_for_after_every_so_many_tokens_and_between_them_it_is_greater():
    writer = writing(None)
    _, infos = run(ScriptedModel(), writer, config(feedback_every=6, retries=0), 14)
    assert [i.position for i in infos] == [0, 1, 2, 0, 1, 2, None, 0, 1, 2, 0, 1, 2, None]
    model, plain = ScriptedModel(), ScriptedModel()
    states, _ = run(model, writer, config(), 3)
    problem = Problem(rows(4), plain, 0)
    settings = greater.GreaterConfig(initial_prompt=START, min_candidates=1, dynamic_length=False)
    state = greater.PLUGIN.start(problem, settings)
    for k in range(3):
        state, _ = greater.PLUGIN.step(problem, settings, state)
        assert state.model_dump() == states[k + 1].model_dump(include=set(greater.GreaterState.model_fields))
    assert plain.asked == model.asked


def test_the_next_sweep_starts_from_the_best_rewrite_if_its_loss_is_lower():
    model = ScriptedModel(outcomes={" well": (5.0, 0, False), " check slow": (2.0, 0, False)})
    (*_, before, state), (*_, info) = run(model, writing(tagged("well"), tagged("check slow")), config(), 4)
    assert [(c.text, c.loss, c.status) for c in info.candidates] == [
        ("well", pytest.approx(5 + ONE), "scored"),
        ("check slow", pytest.approx(2 + ONE), "scored"),
    ]
    assert (info.accepted, info.loss, info.prompt_text) == (1, pytest.approx(2 + ONE), " check slow")
    assert (state.position, state.open, state.initial_length, state.tuned, before.tuned) == (0, False, 2, 0, 3)
    assert [model.text(ids) for _, ids in state.best[:2]] == [" check slow", " well"]
    assert (state.steps_since_best, state.rewrites) == (0, ("well", "check slow"))


@pytest.mark.parametrize(("ce", "accepted"), [(8.999, 0), (9.0, None), (9.5, None)])
def test_a_rewrite_must_be_strictly_better_than_the_current_prompt(ce: float, accepted: int | None):
    # Whatever token is chosen, the current prompt has the loss of every unknown one.
    model = ScriptedModel(outcomes={" well": (ce, 0, False)})
    (*_, before, state), (*_, info) = run(model, writing(tagged("well")), config(num_rewrites=1), 4)
    assert info.accepted == accepted
    assert info.loss == pytest.approx(min(ce, 9.0) + ONE)
    if accepted is None:
        assert state.prompt_ids == before.prompt_ids


def test_fluency_counts_for_rewrites_too():
    # exp(2) = 7.389: 2 + 0.2 * 7.389 = 3.478 loses against 3 + 0.2.
    model = ScriptedModel(outcomes={" well": (2.0, 2.0, False), " slow": (3.0, 0.0, False)})
    _, (*_, info) = run(model, writing(tagged("well"), tagged("slow")), config(), 4)
    assert [c.loss for c in info.candidates] == pytest.approx([3.4778, 3.2], abs=1e-4)
    assert info.accepted == 1


def test_the_critique_is_about_failures_of_the_best_prompt_and_leads_to_the_rewrites():
    model = ScriptedModel(outcomes={START: (1.0, 0, False)})
    writer = writing(tagged("well"))
    run(model, writer, config(num_failures=2), 4)
    criticism, *rewritings = (c[0].content for c in writer.asked)
    assert "The instruction at present:\nthink step by\n" in criticism
    assert criticism.count("The right answer: Yes") == criticism.count("Its answer: No") == 2
    assert len(rewritings) == 2
    assert all("A remark on it:\nIt is too short.\n" in text for text in rewritings)


def test_the_meta_prompts_render_on_a_real_example():
    settings = {
        "model": "smollm2-135m",
        "task": {"name": "bbh/navigate", "data": "synthetic"},
        "method": "greater-textual",
    }
    resolved = resolve_config(settings)
    assert resolved.layout.frozen_prefix == ""
    row = load_task(resolved.task).train()[0]
    record = read(row, ScriptedModel(outcomes={"": (1, 0, False)}).ask(Answers([row], [()]))[0][0])
    record = record.model_copy(update={"reasoning_text": "word " * 400, "answer_text": " {0} <prompt>\n"})
    (turn,) = prompts.criticize("Use {braces}.", [(row, record)])
    assert turn.content.startswith(prompts.SITUATION)
    assert turn.content.endswith(prompts.CRITICIZE)
    for part in (
        f"Question:\n{row.question}\n",
        "Its answer: {0} <prompt>\n",
        f"The right answer: {row.target}",
        "[...]",
    ):
        assert part in turn.content
    (turn,) = prompts.rewrite("Use {braces}.", "Be {careful}.")
    assert "\nUse {braces}.\n\nA remark on it:\nBe {careful}.\n" in turn.content
    assert turn.content.endswith(prompts.FORMAT)


@pytest.mark.parametrize(
    ("writer", "statuses", "note"),
    [
        (lambda: writing(None), ["unreadable"] * 2, "no rewrite could be used"),
        (lambda: writing("no tags"), ["unreadable"] * 2, "no rewrite could be used"),
        (lambda: writing(tagged("  ")), ["empty"] * 2, "no rewrite could be used"),
        (lambda: writing(tagged(START)), ["duplicate"] * 4, "no rewrite could be used"),
        (lambda: writing(tagged("well"), critique=None), [], "no rewrites: no critique was written"),
    ],
)
def test_where_nothing_can_be_used_the_search_goes_on_and_says_so(
    writer: Callable[[], ScriptedWriter], statuses: Sequence[str], note: str
):
    model = ScriptedModel(outcomes={START: (1.0, 0, False)})
    states, infos = run(model, writer(), config(retries=1, count_initial=True), 5)
    assert [c.status for c in infos[3].candidates] == statuses
    assert infos[3].notes[-1] == note
    assert states[4].failed == len(statuses)
    assert states[4].prompt_ids == states[3].prompt_ids
    assert model.text(states[-1].result) == START
    assert infos[4].position == 0


def test_unreadable_replies_are_asked_for_again():
    tries: list[int] = []

    def reply(conversation: Conversation, row: int) -> str:
        if prompts.CRITICIZE in conversation[0].content:
            return "It is too short."
        tries.append(row)
        return "not yet" if len(tries) <= 2 else tagged("well")

    _, (*_, info) = run(ScriptedModel(), ScriptedWriter(reply), config(retries=1), 4)
    assert tries == [0, 1, 0, 1]
    assert [c.status for c in info.candidates] == ["scored", "duplicate"]


def test_without_failures_nothing_is_asked():
    writer = writing(tagged("well"))
    model = ScriptedModel(outcomes={START: (1.0, 0, True)})
    _, (*_, info) = run(model, writer, config(), 4)
    assert (writer.asked, info.candidates, info.notes) == (
        [],
        (),
        ("no rewrites: every training row is answered rightly",),
    )


def test_a_rewrite_is_proposed_once():
    _, infos = run(ScriptedModel(), writing(tagged("well")), config(num_rewrites=1), 8)
    assert [c.status for i in infos if i.position is None for c in i.candidates] == ["scored", *["duplicate"] * 2]


def test_rewrites_longer_than_the_limit_are_not_scored():
    _, (*_, info) = run(
        ScriptedModel(), writing(tagged("check slow well and")), config(max_prompt_tokens=3, num_rewrites=1), 4
    )
    assert [c.status for c in info.candidates] == ["too long"]


def test_a_known_better_prompt_is_found_that_single_tokens_do_not_reach():
    model = ScriptedModel(outcomes={" check slow well": (0.0, 0, True)})
    settings = {"num_rewrites": 1, "num_evaluated": 1}
    states, _ = run(model, writing(tagged("check slow well")), config(**settings), 9)
    assert model.text(states[-1].result) == " check slow well"
    plain, _ = run(model, writing(None), config(retries=0, **settings), 9)
    assert model.text(plain[-1].result) != " check slow well"


def test_a_state_read_back_from_json_goes_on_alike():
    def reply(conversation: Conversation, row: int) -> str:
        return tagged(("well", "slow", "check")[len(conversation[0].content) % 3])

    whole, infos = run(ScriptedModel(), ScriptedWriter(reply), config(), 9)
    problem = Problem(rows(4), ScriptedModel(), 0, optimizer=ScriptedWriter(reply), read=read)
    for k in range(9):
        held = GreaterTextualState.model_validate_json(whole[k].model_dump_json())
        assert PLUGIN.step(problem, config(), held) == (whole[k + 1], infos[k])

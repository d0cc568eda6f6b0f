"""greater-race on a model whose beliefs are a table; what races, what is taken and what is not, worked out by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from greater_ray.methods._moves import showing
from greater_ray.methods._race import Lead, Runner, cut, lead, race, row_loss
from greater_ray.methods.greater_race import PLUGIN, GreaterRaceConfig, GreaterRaceState, _starts
from greater_ray.protocols import Problem, StepInfo
from greater_ray.types import Answer, Example, Layout, Rollout, Shown, TokenIds, Usage
from greater_ray.work import Answers, Proposals
from tests.scripted import ScriptedModel, read, rows

START, BETTER = " think step by", " then step by"
DEV = tuple(Example(f"dev{k}", f"dev question {k}", "Yes", "Yes") for k in range(20))


@dataclass
class Answering(ScriptedModel):
    """``right`` holds the share of rows, the first ones by number, that a prompt answers rightly; elsewhere ``on_dev``.

    With demonstrations ``helped`` holds instead, where it has the prompt.
    """

    right: Mapping[str, float] = field(default_factory=dict)
    on_dev: Mapping[str, float] = field(default_factory=dict)
    helped: Mapping[str, float] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)
    under: TokenIds = ()

    def showing(self, shown: Shown, prompt: TokenIds) -> "Answering":
        if not shown:
            return self
        return Answering(**{**self.__dict__, "shown": shown, "under": prompt})

    def answers(self, work: Answers, layout: Layout | None) -> tuple[list[list[Answer]], Usage]:
        self.asked.append(("answers", ([self.text(p) for p in work.prompts], [e.id for e in work.examples])))
        return [[self._answer(prompt, row) for row in work.examples] for prompt in work.prompts], Usage()

    def _answer(self, prompt: TokenIds, row: Example) -> Answer:
        text, number = self.text(prompt), int(row.id.strip("devr"))
        table = self.on_dev if row.id.startswith("dev") else self.right
        share = table.get(text, 0.0) if not self.shown else self.helped.get(text, 0.0)
        hit = number < share * 20
        return Answer(Rollout((), False, 1.0, 0.0, hit), "", "Yes" if hit else "No")

    def proposals(self, work: Proposals, layout: Layout | None) -> tuple[list[TokenIds], Usage]:
        return [self._ranked(example, work.depth) for example in work.examples], Usage()


def problem_with(model: ScriptedModel, dev: Sequence[Example] = DEV, seed: int = 0) -> Problem:
    return Problem(rows(20), model, seed, dev=tuple(dev), read=read)


def config(**values: Any) -> GreaterRaceConfig:
    plain = {"starts": (START,), "contexts": (), "share_weight": 0.0, "moves": ("replace",), "num_raced": 4, "heat": 4}
    return GreaterRaceConfig(**plain | values)


def steps(model: ScriptedModel, cfg: GreaterRaceConfig, num: int = 2) -> list[tuple[GreaterRaceState, StepInfo]]:
    problem = problem_with(model)
    state, done = PLUGIN.start(problem, cfg), []
    for _ in range(num):
        state, info = PLUGIN.step(problem, cfg, state)
        done.append((state, info))
    return done


PULL = {START: [[1.0]] * 3, BETTER: [[1.0]] * 3}
SLOPE = {" then": -4.0, " and": -3.0, " check": -2.0, " slow": -1.0}


def cost(said: str, label_ce: float | None, nlls: tuple[float, ...] | None = None, weight: float = 1.0) -> float:
    row = Example("r0", "q", "A", "A")
    problem = Problem((row,), ScriptedModel(), 0, read=read, choices=() if nlls is None else ("A", "B"))
    return row_loss(problem, row, Answer(Rollout((), False, label_ce, 0.0, None), "", said, nlls), weight)


def test_a_row_costs_its_mistake_and_what_the_label_lacks():
    assert cost("A", math.log(4)) == pytest.approx(0.75)
    assert cost("B", math.log(4), weight=0.5) == pytest.approx(1 + 0.5 * 0.75)
    assert cost("B", math.log(4), weight=0.0) == 1.0
    assert cost("B", None) == 1.0, "a model that tells no likelihoods"
    assert cost("A", 9.0, (0.0, math.log(3))) == pytest.approx(0.25), "the share among the choices"


def test_a_lead_is_paired_and_equal_rows_are_none():
    own = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0}
    assert lead(own, dict.fromkeys("dcbax", 1.0)) == pytest.approx((-0.5, math.sqrt(1 / 12))), "on rows of both"
    assert lead(own, own) == (0.0, 0.0)
    with pytest.raises(ValueError, match="no row"):
        lead(own, {"x": 1.0})
    assert not Lead(0.0, 0.0).beyond(1.0)
    assert Lead(-0.1, 0.0).beyond(5.0), "better by as much on every row"
    assert Lead(-0.2, 0.1).beyond(2.0)
    assert not Lead(-0.2, 0.1).beyond(2.1)


def test_who_is_behind_beyond_noise_answers_no_further_rows():
    model = Answering(right={" think": 1.0, " step": 0.9, " by": 0.0, " then": 0.0})
    runners = [Runner(model.encoded(word)) for word in (" by", " think", " step", " then")]
    found = race(problem_with(model), runners, cut(rows(20), 4), margin=1.0, weight=0.0)
    assert set(found) == {0, 1, 2}, "those that are close run to the end, and the first one"
    assert [math.fsum(found[place].values()) for place in (0, 1, 2)] == [20, 0, 2]
    answered: dict[str, int] = {}
    for texts, ids in model.questions("answers"):
        for text in texts:
            answered[text] = answered.get(text, 0) + len(ids)
    assert answered == {" by": 20, " think": 20, " step": 20, " then": 4}


def test_the_steepest_change_of_all_positions_that_wins_is_taken_and_is_the_result():
    ranking = {"": (" then", " and", " check")}
    model = Answering(
        ranking=ranking, slope=SLOPE, pull=PULL, right={START: 0.2, BETTER: 0.8}, on_dev={START: 0.2, BETTER: 0.9}
    )
    ((second, moved),) = steps(model, config(num_raced=3, per_position=1), 1)
    assert second.initial_loss == pytest.approx(0.8)
    # Every position prefers " then", whose slope is lowest, and one candidate of each is raced beside the current one.
    assert [c.text for c in moved.candidates] == [
        a.strip() for a in (START, BETTER, " think then by", " think step then")
    ]
    assert [c.gradient for c in moved.candidates] == [None, *[-4.0 * 20] * 3], "summed over the rows"
    assert (moved.accepted, moved.position, moved.prompt_text) == (1, 0, BETTER)
    assert moved.loss == pytest.approx(0.2)
    assert second.best == ((pytest.approx(0.1), model.encoded(BETTER)),)
    assert second.steps_since_best == 0


def test_what_is_no_better_is_not_taken_and_not_tried_again():
    ranking = {"": (" then",)}
    model = Answering(ranking=ranking, slope=SLOPE, pull=PULL, right={START: 0.5, BETTER: 0.5}, on_dev={START: 0.5})
    (second, info), (third, again) = steps(model, config(), 2)
    assert (info.accepted, info.prompt_text) == (0, START)
    assert len(info.candidates) == 4
    assert [c.text for c in again.candidates] == [START.strip()]
    assert again.notes == ("no change is left to try: the prompt stays",)
    assert (second.result, third.result) == (model.encoded(START),) * 2
    assert third.steps_since_best == 1, "the start was found in the first step"


@pytest.mark.parametrize(
    ("better", "on_dev", "confidence", "result", "notes"),
    [
        pytest.param(1.0, 0.5, 1.0, START, (), id="chosen on train rows and not ahead on dev rows"),
        pytest.param(
            0.55, 0.55, 1.64, START, ("not ahead of the start beyond noise: the result stays",), id="by two of forty"
        ),
        pytest.param(0.55, 0.55, 1.0, BETTER, (), id="by two of forty, and little confidence is asked for"),
        pytest.param(1.0, 0.55, 1.64, BETTER, (), id="by eleven of forty, of which one on dev rows"),
    ],
)
def test_dev_rows_have_to_agree_and_all_rows_tell_whether_it_is_noise(
    better: float, on_dev: float, confidence: float, result: str, notes: tuple[str, ...]
):
    tables = {"right": {START: 0.5, BETTER: better}, "on_dev": {START: 0.5, BETTER: on_dev}}
    model = Answering(ranking={"": (" then",)}, slope=SLOPE, pull=PULL, **tables)
    ((state, info),) = steps(model, config(confidence=confidence), 1)
    assert info.prompt_text == BETTER, "the search goes on with it"
    assert state.result == model.encoded(result)
    assert info.notes == notes


def test_demonstrations_race_too_and_stay_with_the_result():
    model = Answering(
        ranking={"": (" then",)}, slope=SLOPE, pull=PULL, right={START: 0.2}, on_dev={START: 0.2}, helped={START: 0.9}
    )
    ((_, info),) = steps(model, config(contexts=("drawn", "nearest"), shots=2, draws=1), 1)
    shown = [f"think step by [{which} rows]" for which in ("2 drawn", "the 2 nearest")]
    assert [c.text for c in info.candidates] == ["think step by", *shown]
    ((state, info),) = steps(model, config(contexts=("drawn",), shots=2, draws=1), 1)
    assert info.accepted == 1
    assert (len(state.demonstrations), state.nearest, len(state.shown)) == (2, 0, 2)
    drawn = {d.id for d in state.demonstrations}
    assert drawn <= {row.id for row in rows(20)}, "of training rows alone"


def test_a_change_that_wins_only_under_the_demonstrations_of_the_old_prompt_is_not_taken():
    @dataclass
    class Fickle(Answering):
        def showing(self, shown: Shown, prompt: TokenIds) -> "Fickle":
            # The demonstrations asked under the new prompt spoil it.
            spoilt = {**self.helped, BETTER: 0.0} if self.text(prompt) == BETTER else self.helped
            return Fickle(**{**self.__dict__, "shown": shown, "helped": spoilt}) if shown else self

    model = Fickle(ranking={"": (" then",)}, slope=SLOPE, pull=PULL, on_dev={}, helped={START: 0.5, BETTER: 1.0})
    _, (state, info) = steps(model, config(contexts=("drawn",), shots=2, draws=1))
    assert (info.accepted, state.prompt_ids) == (0, model.encoded(START))


def test_a_token_is_put_in_or_taken_out():
    model = Answering(
        ranking={"": (" and",)}, pull=PULL, right={START: 0.2, " step by": 0.9}, on_dev={START: 0.2, " step by": 0.9}
    )
    ((state, info),) = steps(model, config(moves=("insert", "delete"), num_raced=16, per_position=1), 1)
    texts = [c.text for c in info.candidates]
    assert {"step by", "think by", "think step"} <= set(texts), "one of three tokens is taken out"
    assert {"and think step by", "think and step by", "think step and by"} <= set(texts)
    assert state.result == model.encoded(" step by")


def test_start_prompts_race_alone_and_again_in_the_context_that_has_won():
    model = Answering(right={START: 0.2, " by": 0.1}, on_dev={}, helped={START: 0.5, " step by": 0.9})
    cfg = config(starts=(START, " step by", " by"), contexts=("nearest",), shots=2)
    (_, first), (_, second), (state, third) = steps(model, cfg, 3)
    assert [c.text for c in first.candidates] == ["think step by", "step by", "by"]
    assert [c.text for c in second.candidates] == ["think step by", "think step by [the 2 nearest rows]"]
    assert [c.text for c in third.candidates] == ["think step by", "step by", "by"]
    assert (third.accepted, state.result, state.nearest) == (1, model.encoded(" step by"), 2)


def test_a_start_that_is_ahead_at_all_is_taken_and_a_change_only_beyond_noise():
    tables = {"right": {START: 0.5, BETTER: 0.55}, "on_dev": {START: 0.5, BETTER: 0.5}}
    model = Answering(ranking={"": (" then",)}, slope=SLOPE, pull=PULL, **tables)
    ((_, started),) = steps(model, config(starts=(START, BETTER), margin=1.5), 1)
    assert (started.accepted, started.prompt_text) == (1, BETTER)
    ((_, changed),) = steps(model, config(margin=1.5), 1)
    assert (changed.accepted, changed.prompt_text) == (0, START)


def test_where_no_context_wins_changes_race_at_once():
    model = Answering(ranking={"": (" then",)}, slope=SLOPE, pull=PULL, right={START: 0.2, BETTER: 0.9}, on_dev={})
    *_, (_, third) = steps(model, config(starts=(START, " by"), contexts=("nearest",), shots=2), 3)
    assert third.position is not None


@pytest.mark.parametrize(
    ("choices", "starts"),
    [
        (("True", "False"), [" think", " by True or False"]),
        (("A", "B", "C"), [" think", " by A, B or C"]),
        ((), [" think"]),
        (tuple(map(str, range(11))), [" think"]),
    ],
)
def test_a_start_names_the_labels_where_there_are_few(choices: tuple[str, ...], starts: list[str]):
    problem = Problem(rows(4), Answering(), 0, read=read, choices=choices)
    assert _starts(problem, config(starts=(" think", " by {choices}"))) == starts


def test_the_start_that_the_result_is_compared_with_is_the_same_for_every_task():
    with pytest.raises(ValidationError, match="the first start cannot hold"):
        config(starts=("Answer with {choices}.",))


def test_runners_are_compared_on_rows_that_neither_of_them_shows():
    model = Answering(right={" think": 0.5}, helped={" think": 0.5})
    problem, prompt, pool = problem_with(model), model.encoded(" think"), tuple(row.shown for row in rows(20))
    found = race(problem, [Runner(prompt), Runner(prompt, Shown(pool[8:12]))], cut(rows(20), 4), margin=1.0, weight=0.0)
    assert [len(found[place]) for place in (0, 1)] == [20, 16]
    assert not {"r8", "r9", "r10", "r11"} & found[1].keys()
    assert lead(found[1], found[0]) == (0.0, 0.0), "equal on the sixteen rows of both"
    found = race(problem, [Runner(prompt), Runner(prompt, Shown(pool, 2))], cut(rows(20), 4), margin=1.0, weight=0.0)
    assert len(found[1]) == 20, "no row is among those nearest to itself"


def test_of_those_that_are_ahead_on_training_rows_dev_rows_choose_the_result():
    model = Answering(
        right={START: 0.2, " step by": 0.9, " by": 0.9},
        on_dev={START: 0.1, " step by": 0.4, " by": 0.9},
    )
    ((state, info),) = steps(model, config(starts=(START, " step by", " by"), contexts=()), 1)
    assert info.prompt_text == " step by", "the search goes on with it"
    assert state.result == model.encoded(" by")
    ((alone, _),) = steps(model, config(starts=(START, " step by", " by"), contexts=(), finalists=1), 1)
    assert alone.result == model.encoded(" step by")


def test_every_step_asks_the_same_heats_so_that_nothing_is_answered_twice():
    model = Answering(ranking={"": (" then",)}, slope=SLOPE, pull=PULL, right={START: 0.5})
    steps(model, config(), 2)
    heats = {tuple(ids) for _, ids in model.questions("answers") if not ids[0].startswith("dev")}
    assert len(heats) == 5
    assert sorted(name for ids in heats for name in ids) == sorted(row.id for row in rows(20))


def test_other_rows_are_shown_where_that_is_better():
    model = Answering(right={}, on_dev={}, helped={START: 0.5})
    problem, now = problem_with(model), model.encoded(START)
    pool = tuple(row.shown for row in rows(20))
    moved = showing(problem, Runner(now, Shown(pool, 4), now), problem.rng(0, "x"))
    assert [(m.runner.shown.nearest, m.text) for m in moved] == [(8, "the 8 nearest rows"), (2, "the 2 nearest rows")]
    moved = showing(problem, Runner(now, Shown(pool[:3]), now), problem.rng(0, "x"))
    assert len(moved) == 3
    for move in moved:
        kept = set(move.runner.shown.rows) & set(pool[:3])
        assert (len(move.runner.shown.rows), len(kept)) == (3, 2), "one is exchanged"
    assert showing(problem, Runner(now), problem.rng(0, "x")) == []
    most = Runner(now, Shown(pool[:19]), now)
    assert showing(problem, most, problem.rng(0, "x")) == [], "a row has to be left that neither shows"

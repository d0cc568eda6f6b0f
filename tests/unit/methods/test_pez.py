"""PEZ's rules on a model with five words in two dimensions; expected values are worked out by hand."""

from typing import Any

import pytest

from greater_ray.errors import ConfigError
from greater_ray.methods.pez import PLUGIN, Descent, PezConfig, PezState, readable
from greater_ray.protocols import Problem, StepInfo
from greater_ray.types import Layout, Rollout, Usage
from greater_ray.work import CheckPrompts, Rollouts
from tests.scripted import ScriptedModel, rows

TABLE = {" think": (1.0, 0.0), " well": (0.6, 0.8), " slow": (0.0, 3.0), " by": (-1.0, 0.0), " and": (0.0, -1.0)}
TURN = ((0.5, -0.5),)  # towards (-1, 1)


def scripted(**values: Any) -> ScriptedModel:
    pull = dict.fromkeys(TABLE, TURN)
    return ScriptedModel(**{"table": TABLE, "pull": pull} | values)


def config(**values: Any) -> PezConfig:
    return PezConfig(**{"initial_prompt": " think", "iterations": 1, "batch_size": 2} | values)


def run(model: ScriptedModel, cfg: PezConfig, steps: int = 1, seed: int = 0) -> tuple[PezState, list[StepInfo]]:
    problem = Problem(rows(5), model, seed)
    state, infos = PLUGIN.start(problem, cfg), []
    for _ in range(steps):
        state, info = PLUGIN.step(problem, cfg, state)
        infos.append(info)
    return state, infos


def test_adamw_by_hand():
    cfg = config(learning_rate=0.1, weight_decay=0.1)
    # First update, gradient 0.5: both corrected moments give 0.5 / 0.5 = 1, so 1 * (1 - 0.01) - 0.1 = 0.89.
    one = Descent.begin([[1.0]]).update([[0.5]], cfg)
    assert one.matrix[0][0] == pytest.approx(0.89, abs=1e-7)
    assert one.first[0][0] == pytest.approx(0.05, rel=1e-12)
    assert one.second[0][0] == pytest.approx(0.00025, rel=1e-12)
    # Second, gradient -0.5: m = 0.045 - 0.05 = -0.005, over 0.19 is -0.0263158; v over 0.001999 is 0.25;
    # 0.89 * 0.99 + 0.1 * 0.0263158 / 0.5 = 0.8863632.
    two = one.update([[-0.5]], cfg)
    assert two.first[0][0] == pytest.approx(-0.005, rel=1e-12)
    assert two.matrix[0][0] == pytest.approx(0.8863632, abs=1e-7)
    assert two.updates == 2


def test_adamw_is_that_of_torch():
    torch = pytest.importorskip("torch")
    start, gradients = [[0.3, -1.2], [0.0, 5.0]], [[[0.1, 2.0], [-3.0, 1e-4]], [[-0.2, 0.5], [0.0, 1e-4]]]
    parameter = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=0.05, weight_decay=0.2)
    descent, cfg = Descent.begin(start), config(learning_rate=0.05, weight_decay=0.2)
    for gradient in gradients * 4:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        descent = descent.update(gradient, cfg)
    assert [list(row) for row in descent.matrix] == [pytest.approx(row, rel=1e-12) for row in parameter.tolist()]


def test_the_update_goes_to_the_continuous_prompt_and_the_projection_is_by_cosine():
    # With a constant gradient every update is 0.99 p + (-0.1, 0.1): (0.89, 0.1), (0.7811, 0.199), (0.67329, 0.29701),
    # (0.56656, 0.39404). The slopes are 0.11, 0.25, 0.44 and 0.70; between " think" and " well" the bound is 0.5.
    model = scripted()
    state, (info,) = run(model, config(iterations=4))
    assert state.matrix[0] == pytest.approx((0.5665561, 0.3940399), abs=1e-6)
    assert [prompt for prompt, _, _ in model.questions("prompt_gradients")] == [" think"] * 4
    assert (info.prompt_text, model.text(state.prompt_ids)) == (" well", " well")
    # Had the updates gone to the projected rows, each would have begun at (1, 0) and ended at slope 0.11.
    state, (info,) = run(model, config(iterations=3))
    assert info.prompt_text == " think"


def test_gradients_are_taken_at_the_projection_without_reasoning_and_averaged_over_the_rows():
    model = scripted(pull={" think": ((2.0, 0.0),)})
    state, _ = run(model, config(batch_size=4))
    ((prompt, ids, with_reasoning),) = model.questions("prompt_gradients")
    assert (prompt, len(ids), ids, with_reasoning) == (" think", 4, sorted(ids), False)
    # The scripted model sums over four rows; the mean is 2, of which the first moment takes a tenth.
    assert state.first[0] == pytest.approx((0.2, 0.0))


def test_iterations_of_one_step_are_those_of_several_steps():
    model = scripted()
    whole, _ = run(model, config(iterations=6, batch_size=5))
    cut, _ = run(model, config(iterations=2, batch_size=5), steps=3)
    assert (whole.matrix, whole.first, whole.second, whole.updates) == (cut.matrix, cut.first, cut.second, 6)


def test_batches_differ_from_iteration_to_iteration_and_follow_the_seed():
    batches = []
    for seed in (0, 0, 1):
        model = scripted()
        run(model, config(iterations=8), seed=seed)
        batches.append([ids for _, ids, _ in model.questions("prompt_gradients")])
    assert batches[0] == batches[1] != batches[2]
    assert len({tuple(ids) for ids in batches[0]}) > 1


@pytest.mark.parametrize(("well", "best"), [(4.0, " well"), (5.0, " think"), (7.0, " think")])
def test_the_best_decoded_prompt_is_kept(well: float, best: str):
    model = scripted(outcomes={" think": (5.0, 0.0, False), " well": (well, 0.0, False)})
    state, infos = run(model, config(iterations=2), steps=2)
    assert [i.prompt_text for i in infos] == [" think", " well"]
    assert [i.loss for i in infos] == [5.0, well]
    assert model.text(state.result) == best
    assert (state.initial_loss, infos[-1].best_loss) == (5.0, min(well, 5.0))
    assert all(asked == () for _, asked in model.questions("rollouts")), "scored without reasoning"


def test_a_known_better_prompt_is_found():
    # The loss is the squared distance of the token's unit vector from that of " slow".
    goal = (0.0, 1.0)
    pull = {w: (tuple(2 * (x / max(map(abs, v)) - g) for x, g in zip(v, goal, strict=True)),) for w, v in TABLE.items()}
    outcomes = {w: (0.0 if w == " slow" else 1.0 + k, 0.0, w == " slow") for k, w in enumerate(TABLE)}
    state, infos = run(model := scripted(pull=pull, outcomes=outcomes), config(iterations=5), steps=8)
    assert model.text(state.result) == " slow"
    assert infos[-1].best_loss == 0.0


def test_a_projected_prompt_is_used_as_its_text_reads():
    model = ScriptedModel()
    problem = Problem(rows(2), model, 0)
    split = (model.id(" step"), model.id("s"))
    assert readable(problem, split) == ((model.id(" steps"),), " steps", ["tokenized again: 2 tokens became 1"])
    assert readable(problem, (model.id(" step"),)) == ((model.id(" step"),), " step", [])


def test_a_projection_without_words_is_not_scored_and_the_start_stays():
    class Blank(ScriptedModel):
        def check_prompts(self, work: CheckPrompts, layout: Layout | None) -> tuple[Any, Usage]:
            return [c._replace(text=" ", survives=False) for c in super().check_prompts(work, layout)[0]], Usage()

        def rollouts(self, work: Rollouts, layout: Layout | None) -> tuple[Any, Usage]:
            assert [self.text(p) for p in work.prompts] == [" think"]
            return [[Rollout((), False, 5.0, 0.0, False)] * len(work.examples)], Usage()

    state, (info,) = run(Blank(table=TABLE, pull={" think": TURN}), config())
    assert [(c.status, c.loss) for c in info.candidates] == [("empty", None)]
    assert info.accepted is None
    assert info.notes == ("tokenized again: 1 tokens became 0",)
    assert state.result == state.prompt_ids == (ScriptedModel().id(" think"),)


def test_an_empty_start_is_refused():
    with pytest.raises(ConfigError, match="has no tokens"):
        PLUGIN.start(Problem(rows(2), scripted(), 0), config(initial_prompt=""))

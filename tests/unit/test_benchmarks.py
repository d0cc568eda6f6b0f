"""The simulated engine and a miniature of the large grid: that the benchmarks measure what they say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import faults
from benchmarks.generating import GeneratingEngine
from benchmarks.orchestrator import Session, make_grid, run_cells
from benchmarks.processes import drift
from benchmarks.rates import measure
from benchmarks.simulated import LONGEST, PROMPT, SimulatedEngine, seconds_of
from benchmarks.stragglers import MEAN, REPLICAS, Shape, Stoic, at_best, makespan
from greater_ray.cluster.patience import Patience
from greater_ray.models._head import widen_head
from greater_ray.models._packed import can_pack, pack
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec
from greater_ray.work import Answers, CheckPrompts, EncodePrompt, Gradients, Proposals, Rollouts, Unit
from tests.families import tiny_model

ROOT = Path(__file__).parents[2]
LAYOUT = Layout(extractor="So the answer is")
SHORT = Layout(extractor="So the answer is", max_reasoning_tokens=6)
SHARD = (Example("a", "Is it so?", "Yes", "Yes"), Example("b", "Or so?", "No", "No"))


def everything(engine: SimulatedEngine) -> list:
    prompt, _ = engine.run(Unit(EncodePrompt(PROMPT), LAYOUT))
    return [
        prompt,
        engine.run(Unit(CheckPrompts([prompt]), LAYOUT)),
        engine.run(Unit(Rollouts(SHARD, [prompt, prompt[1:]], LossSpec(1.0)), LAYOUT)),
        engine.run(Unit(Answers(SHARD, [prompt]), LAYOUT)),
        engine.run(
            Unit(
                Gradients(SHARD, prompt, LossSpec(), reasoning=[(), ()], position=2, depth=20, token_filter="none"),
                LAYOUT,
            )
        ),
        engine.run(Unit(Proposals(SHARD, prompt, 2, 20, "none"), LAYOUT)),
    ]


def test_two_simulated_engines_answer_alike_and_their_prompts_survive():
    first, second = everything(SimulatedEngine(0.0)), everything(SimulatedEngine(0.0))
    assert first == second
    ((check,), _) = first[1]
    assert check == (PROMPT, True)


def test_times_depend_on_the_content_alone_and_have_the_stated_mean_and_tail():
    times = [seconds_of(1.5, "rollouts", k) for k in range(20_000)]
    assert times == [seconds_of(1.5, "rollouts", k) for k in range(20_000)]
    assert sum(times) / len(times) == pytest.approx(1.5, rel=0.05)
    assert sorted(times)[-200] > 4 * 1.5
    assert max(times) <= LONGEST * 1.5
    assert seconds_of(0.0, "rollouts", 1) == 0.0


def test_the_simulated_engine_imports_no_torch():
    code = "import sys, benchmarks.simulated; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_drift_tells_growth_from_a_level():
    level, growing = ([(float(t), 100.0 + rise * t) for t in range(60)] for rise in (0.0, 1.0))
    assert drift(level, 0, 60) == pytest.approx((100.0, 100.0, 0.0))
    first, last, slope = drift(growing, 0, 60)
    assert (first, last) == pytest.approx((109.5, 149.5))
    assert slope == pytest.approx(60.0)


def test_a_miniature_of_the_large_grid_runs_through():
    with Session(2) as session:
        measured = run_cells(make_grid("quick", 4, steps=1, rows=8, shard_size=4), 2, session.folder, concurrency=2)
    assert measured.complete
    assert measured.cells == 4
    # 2 shards: initial rollouts, gradient, candidates, and the test rows with the first prompt and, if new, the best.
    assert 4 * 2 * 4 <= len(measured.spans) <= 4 * 2 * 5
    assert 0 < measured.busy_share() <= 1
    assert measured.sampler.most["replicas"] == 2
    assert measured.sampler.most["broker"] == 1


def test_a_slow_replica_costs_a_grid_little_more_than_its_own_share():
    shape = Shape("small", cells=1, steps=1, shards=22 * REPLICAS)
    best = at_best(shape, 0, lambda unit: MEAN, 0.1)
    slow = [makespan(shape, 0, lambda k, unit: MEAN / (0.1 if k == 0 else 1), kind) for kind in (Stoic, Patience)]
    (before, none), (now, repeated) = slow
    assert (none, repeated) == (0, 1)
    # The slow one begins its third unit after 200 s, and the others have done the rest 40 s later.
    assert best <= now <= best + 2 * MEAN + 1 < before


# -- a step ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate_in_the_place_of_our_decoding_gives_the_same_rollouts(cache: str):
    engine = Engine(*tiny_model("llama"))
    prompts = [engine.run(Unit(EncodePrompt(text), SHORT))[0] for text in (" think step by step.", " think.")]
    work = Rollouts(SHARD, prompts, LossSpec(fluency="nll"))
    (ours, _), (theirs, _) = (e.rollouts(work, SHORT) for e in (engine, GeneratingEngine.beside(engine, cache)))
    for mine, its in zip(ours, theirs, strict=True):
        assert [r.reasoning for r in mine] == [r.reasoning for r in its]
        assert [r.label_ce for r in mine] == pytest.approx([r.label_ce for r in its], rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_products_of_a_pass_are_a_part_of_its_time(dtype: torch.dtype):
    model, tokenizer = tiny_model("llama", dtype)
    widen_head(model)
    if not can_pack(model):
        pytest.skip("this CPU has nothing to pack for")
    pack(model)
    engine = Engine(model, tokenizer)
    prompt, _ = engine.run(Unit(EncodePrompt(" think step by step."), SHORT))
    examples = [Example(str(k), f"Is {k} it?", "Yes", "Yes") for k in range(24)]
    rates = measure(engine, SHORT, examples, [(*prompt[:2], token) for token in prompt[2:5]])
    assert [(rate.name, rate.rows) for rate in rates] == [
        ("decode", 8),
        ("decode", 24),
        ("decode", 72),
        ("gradient", 8),
    ]
    for rate in rates:
        assert 0 < rate.share < 1
        assert rate.gflops > 0


# -- faults ------------------------------------------------------------------------------------------------------------


def a_round(kind: str, seconds: float, **details: Any) -> faults.Round:
    values = {"hit": True, "equal": True, "codes": [0], "at": 1.0, "left": [], "texts": []}
    return faults.Round(kind=kind, seconds=seconds, **{**values, **details})


def test_the_table_of_faults_counts_what_differs_and_what_stays():
    found = [a_round("none", 10.0), a_round("broker killed", 14.0, codes=[1, 0])]
    found += [a_round("broker killed", 30.0, equal=False, left=["replicas"])]
    assert "| broker killed | 2 | 1 | 1 to 2 | 12 s | 20 s | 1 |" in faults.table(found).splitlines()


def test_rounds_that_are_noted_are_not_done_again(tmp_path: Path):
    noted = [a_round("none", 10.0)] * 3 + [a_round(kind, 11.0) for kind in faults.KINDS]
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(one._asdict()) + "\n" for one in noted))
    assert list(faults.rounds(tmp_path, "nowhere", 1, {}, 0, faults.KINDS, 1.0)) == noted

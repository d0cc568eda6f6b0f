"""What dies costs only the shard in flight, and what cannot work is said at once."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greater_ray.cluster import connect
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.pool import Pool
from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError, DataError, PoolError
from greater_ray.grid.cells import replica_configs
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import GridObserver, run_grid
from greater_ray.records import TrialRecord
from greater_ray.sharding import ShardedModel, ShardedWriter
from greater_ray.types import Example, Layout, LossSpec, Message
from greater_ray.work import (
    Answers,
    CheckPrompts,
    EncodePrompt,
    Gradients,
    OneHotGradient,
    Proposals,
    Rollouts,
    TokenTexts,
    Unit,
)
from tests.cluster.engines import control

pytestmark = pytest.mark.usefixtures("local_ray")

LAYOUT = Layout("So the answer is", max_reasoning_tokens=4)
ROWS = [Example(f"r{k}", f"What is {k}?", str(k), str(k)) for k in range(4)]


def launched(settings: dict[str, Any], count: int = 1) -> Pool:
    return Pool.launch(ModelConfig(**settings), Demand("fragile", count, 1, 0), ReplicaConfig(prefix_memory_gib=1.0))


def work(pool: Pool) -> list[Any]:
    """Do every kind of unit of work."""
    model = ShardedModel(pool.executor, LAYOUT, 2)
    prompt = model.ask(EncodePrompt(" think step by step."))
    loss = LossSpec()
    gradient = model.ask(Gradients(ROWS, prompt, loss, position=1, with_reasoning=True, depth=3, token_filter="ascii"))
    writer = ShardedWriter(pool.executor)
    return [
        model.ask(Rollouts(ROWS, [prompt], loss)),
        gradient,
        model.ask(Answers(ROWS, [prompt])),
        model.ask(Proposals(ROWS, prompt, 1, 3, "ascii")),
        model.ask(OneHotGradient(gradient.gradient, [1, 2, 3])),
        model.ask(CheckPrompts([prompt])),
        writer.generate([(Message("user", "Say it."),)] * 3, max_tokens=4, temperature=1.0, seed=1),
        model.usage.tokens,
    ]


def test_a_replica_killed_in_every_kind_of_call_changes_nothing(tmp_path: Path):
    # What is computed anew does not matter here, only that it is: a simulated model starts again in a moment.
    calm = launched(control(tmp_path / "calm"))
    try:
        undisturbed = work(calm)
    finally:
        calm.stop()
    units = ["rollouts", "gradients", "answers", "proposals", "one_hot_gradient", "check_prompts", "generate"]
    settings = control(tmp_path / "control")
    for unit in units:
        (tmp_path / "control" / f"die-{unit}").write_text("1")
    pool = launched(settings)
    try:
        assert work(pool) == undisturbed
        stats = pool.stats()
        assert stats["slots"][0]["deaths"] == len(units)
        reasons = [event["why"] for event in stats["events"] if event["event"] == "replica died"]
        assert all(any(f"'{unit}'" in reason for reason in reasons) for unit in units)
    finally:
        pool.stop()


def test_a_shard_that_kills_three_replicas_fails_its_cell_and_the_grid_goes_on(small_grid: Callable, tmp_path: Path):
    settings = control(tmp_path / "control")
    grid = small_grid(models=[settings], methods=["zero-shot-cot"], tasks=["bbh/boolean_expressions", "bbh/navigate"])
    first = run_grid(grid, tmp_path / "calm", RayBackend(default=ReplicaConfig(count=2)))
    record = TrialRecord.model_validate_json((first.cells[0][1].folder / "record.json").read_bytes())
    row = record.evaluations[-1].examples[0].id
    (tmp_path / "control" / "die-row").write_text(row)
    result = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=2)))
    states = {cell.task: state for cell, state in result.cells}
    failed, other = states["bbh/boolean_expressions"], states["bbh/navigate"]
    assert (failed.state, other.state) == ("failed", "done")
    assert not result.complete
    assert f"set aside after it ended 3 replicas: 'answers' of rows {row}" in failed.reason
    (file,) = (tmp_path / "out" / "failures").glob("*.json")
    assert json.loads(file.read_text())["reason"] == failed.reason
    # It is not tried again unless asked for, and then it is.
    (tmp_path / "control" / "die-row").unlink()
    again = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=1)))
    assert not again.complete
    retried = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=1)), retry_failed=True)
    assert retried.complete


def test_an_error_of_the_engine_is_the_callers_and_kills_nobody(tiny_folder: Path, tmp_path: Path):
    pool = launched(control(tmp_path / "control", tiny_folder))
    try:
        model = ShardedModel(pool.executor, LAYOUT, 2)
        prompt = model.ask(EncodePrompt(" think"))
        with pytest.raises(DataError, match="context window"):
            model.ask(Rollouts([Example("long", "word " * 5000, "1", "1")], [prompt], LossSpec()))
        assert len(model.ask(Rollouts(ROWS, [prompt], LossSpec()))[0]) == len(ROWS)
        assert pool.stats()["slots"][0]["deaths"] == 0
    finally:
        pool.stop()


def test_a_model_that_cannot_load_stops_its_pool_at_once_and_other_models_go_on(small_grid: Callable, tmp_path: Path):
    ended: list[tuple[str, str, str | None]] = []

    class Ends(GridObserver):
        def ended(self, cell, state, reason):
            ended.append((cell.model, state, reason))

    missing = str(tmp_path / "missing")
    other = "benchmarks.simulated:instant"
    grid = small_grid(methods=["zero-shot-cot"], models=[missing, other])
    result = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=1)), observer=Ends())
    assert {cell.model: state.state for cell, state in result.cells} == {missing: "open", other: "done"}
    (stopped,) = [end for end in ended if end[1] == "stopped"]
    assert stopped[0] == missing
    assert "cannot be served" in (stopped[2] or "")
    assert missing in (stopped[2] or "")
    noted = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert [(event["model"], event["reason"]) for event in noted if event["event"] == "pool stopped"] == [
        (missing, stopped[2])
    ]


def test_coordinators_start_while_the_model_loads_and_a_long_load_is_told(
    small_grid: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("greater_ray.cluster.watch._PATIENCE", 1.0)
    settings = control(tmp_path / "control")
    order = tmp_path / "control" / "wait-loading"
    order.touch()
    told: list[str] = []

    class Patient(GridObserver):
        def started(self, cell):
            told.append("a cell started")

        def message(self, text):
            told.append(text)
            if "a cell started" in told and "waiting for 1 of 1 replicas" in text:
                order.unlink(missing_ok=True)

    grid = small_grid(methods=["zero-shot-cot"], models=[settings])
    result = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=1)), observer=Patient())
    assert result.complete
    (waited, *_) = [text for text in told if "waiting" in text]
    assert waited.endswith("loading, or 1 CPU and 0 GPU for each are in use by others")


def test_calls_in_flight_get_the_reason_when_a_pool_stops(tmp_path: Path):
    settings = control(tmp_path / "control")
    pool = launched(settings)
    try:
        (tmp_path / "control" / "die-loading").touch()
        (tmp_path / "control" / "die-rollouts").write_text("1")
        model = ShardedModel(pool.executor, LAYOUT, 2)
        with pytest.raises(PoolError, match="3 replicas in a row died while loading"):
            model.ask(Rollouts(ROWS, [model.ask(EncodePrompt(" a"))], LossSpec()))
        with pytest.raises(PoolError, match="died while loading"):
            pool.executor.run([Unit(TokenTexts([1]))])
    finally:
        pool.stop()


def test_too_few_cpus_or_gpus_is_said_before_anything_starts(small_grid: Callable, tmp_path: Path):
    begin = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"^replicas\.count: 99 replicas of .* 1 CPU each do not fit: the cluster has"
    ):
        run_grid(small_grid(), tmp_path / "a", RayBackend(default=ReplicaConfig(count=99)))
    with pytest.raises(ConfigError, match=r"1 replica of .* with 1 CPU and 1 GPU each do not fit"):
        run_grid(small_grid(), tmp_path / "b", RayBackend(default=ReplicaConfig(count=1, gpus=1)))
    # What only phase two needs is not found missing after phase one.
    far = small_grid(transfer={"models": [{"name": "far", "replicas": {"count": 99}}]})
    backend = RayBackend(default=ReplicaConfig(count=1), replicas=replica_configs(far))
    with pytest.raises(ConfigError, match=r"99 replicas of 'far' with 1 CPU each do not fit"):
        run_grid(far, tmp_path / "c", backend)
    assert time.monotonic() - begin < 10
    assert list(tmp_path.glob("*/cells/*")) == []


def test_waiting_for_nodes_is_said_aloud_and_ends(small_grid: Callable, tmp_path: Path):
    told: list[str] = []
    with pytest.raises(ConfigError, match="wait"):
        connect.require([Demand("m", 99, 1, 0)], 1.0, told.append)
    assert "waiting for 99 replicas of 'm'" in told[0]

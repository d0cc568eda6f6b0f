"""A single run: what it loads, and how often."""

from pathlib import Path

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.config import TaskConfig, TrialConfig
from greater_ray.errors import Interrupted
from greater_ray.protocols import Task
from greater_ray.runs import run_config
from greater_ray.tasks import load_task

_loaded: list[Task] = []


def noted_task(config: TaskConfig) -> Task:
    """Build a task of this package and note that."""
    task = load_task(config.model_copy(update={"name": "bbh/navigate"}))
    _loaded.append(task)
    return task


@pytest.fixture
def config() -> TrialConfig:
    """Return a search whose task is noted whenever it is built."""
    return resolve_config(
        {
            "task": {
                "name": f"{__name__}:noted_task",
                "data": "synthetic",
                "train_size": 3,
                "dev_size": 3,
                "test_size": 3,
            },
            "model": {"name": "benchmarks.simulated:instant"},
            "method": "opro",
            "budget": {"steps": 2},
            "evaluation": {"splits": ["test"]},
        }
    )


def test_a_run_loads_its_task_once_whether_it_is_new_goes_on_or_is_finished(config: TrialConfig, tmp_path: Path):
    _loaded.clear()
    new = run_config(config, tmp_path / "new")
    assert len(_loaded) == 1
    stops = iter([False])
    with pytest.raises(Interrupted):
        run_config(config, tmp_path / "other", should_stop=lambda: next(stops, True))
    assert not (tmp_path / "other" / "record.json").exists()
    _loaded.clear()
    record = run_config(config, tmp_path / "other")
    assert len(_loaded) == 1, "it goes on"
    assert [e.accuracy for e in record.evaluations] == [e.accuracy for e in new.evaluations]
    _loaded.clear()
    assert run_config(config, tmp_path / "other") == record
    assert len(_loaded) == 1, "it is finished"
    _loaded.clear()
    run_config(config)
    assert len(_loaded) == 1, "it has no folder"

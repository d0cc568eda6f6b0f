"""Trackers and Ray's own metrics, on one grid that runs on a real Ray."""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.logger import TBXLoggerCallback

from greater_ray.cluster.connect import connected
from greater_ray.cluster.grid import RayBackend
from greater_ray.cluster.trackers import check_trackers
from greater_ray.errors import ConfigError
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import run_grid
from tests.grids import Told, loaded

MODEL = "benchmarks.simulated:quick"


class Scraper:
    """Reads the metrics of this machine's Ray as Prometheus would, again and again."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        address = f"http://{ray.nodes()[0]['NodeManagerAddress']}:{ray.nodes()[0]['MetricsExportPort']}/metrics"
        while not self._ended.wait(0.3):
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                continue
            for name, tags, value in re.findall(r"^(ray_greater_ray_\w+)\{([^}]*)\} ([-+.\de]+)$", text, re.MULTILINE):
                key = dict(re.findall(r'(\w+)="([^"]*)"', tags))
                highest = self.seen.setdefault(name, {})
                tag = key.get("state") or key.get("model") or ""
                highest[tag] = max(highest.get(tag, 0.0), float(value))

    def wait_for(self, name: str, tag: str | None) -> None:
        """Wait until a metric is above zero, for half a minute at most."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            values = self.seen.get(name, {})
            if any(values.values()) if tag is None else values.get(tag):
                return
            time.sleep(0.05)

    def stop(self) -> dict[str, dict[str, float]]:
        self._ended.set()
        self._thread.join()
        return self.seen


class Patient(Told):
    """Keeps the grid from ending before its numbers have been read."""

    def __init__(self, scraper: Scraper) -> None:
        super().__init__()
        self.scraper = scraper

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        super().ended(cell, state, reason)
        for name, tag in (("calls_total", None), ("tokens_total", None), ("cells", state)):
            self.scraper.wait_for(f"ray_greater_ray_{name}", tag)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Ray hands its metrics on every ten seconds unless told otherwise.
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        patch.delenv("RAY_ADDRESS", raising=False)
        with connected("local"):
            yield


@pytest.fixture(scope="module")
def tracked(on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run a grid with TensorBoard twice; the second one breaks at its first result."""
    out, made, scraper = tmp_path_factory.mktemp("tracked"), [], Scraper()
    told = Patient(scraper)
    init, log = TBXLoggerCallback.__init__, TBXLoggerCallback.log_trial_result

    def remembered(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        init(self, *args, **kwargs)

    def breaking(self: Any, *args: Any, **kwargs: Any) -> None:
        if self is made[1]:
            raise OSError("the disk is\nfull")
        log(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TBXLoggerCallback, "__init__", remembered)
        patch.setattr(TBXLoggerCallback, "log_trial_result", breaking)
        backend = RayBackend(ReplicaConfig(count=1), trackers=check_trackers(["tensorboard", "tensorboard"]))
        result = run_grid(loaded(MODEL), out, backend, observer=told)
    return {"out": out, "told": told, "result": result, "metrics": scraper.stop(), "model": MODEL}


def test_tensorboard_gets_the_losses_of_every_cell(tracked: dict[str, Any]):
    from tensorboardX.proto.event_pb2 import Event

    scalars: dict[str, set[str]] = {}
    for path in tracked["out"].rglob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            # A TFRecord: length, its checksum, the event, its checksum.
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            scalars.setdefault(path.parent.name, set()).update(value.tag for value in event.summary.value)
            at += size + 16
    cells = [cell for cell, _ in tracked["result"].cells]
    assert sorted(scalars) == [f"{number:03d}-{cell.slug}" for number, cell in enumerate(cells)]
    assert sum("ray/tune/best_loss" in tags for tags in scalars.values()) == 2
    assert all({"ray/tune/step", "ray/tune/tokens"} <= tags for tags in scalars.values())
    scores = {f"ray/tune/test_{name}{when}" for name in ("accuracy", "label_loss") for when in ("", "_before")}
    assert all(scores <= tags for tags in scalars.values())


def test_a_tracker_that_fails_is_left_out_with_one_line_and_the_grid_goes_on(tracked: dict[str, Any]):
    lines = [text for text in tracked["told"].texts if "tracker" in text]
    assert lines == ["tracker tensorboard failed and is left out: OSError: the disk is full"]
    assert tracked["result"].complete
    assert sorted(state for _, state, _ in tracked["told"].ends) == ["done"] * 3


def test_ray_metrics_tell_what_the_pool_and_the_cells_do(tracked: dict[str, Any]):
    metrics, model = tracked["metrics"], tracked["model"]
    assert metrics["ray_greater_ray_replicas"][model] == 1
    assert metrics["ray_greater_ray_calls_total"][model] > 0
    assert metrics["ray_greater_ray_tokens_total"][model] > 0
    assert {"ray_greater_ray_busy", "ray_greater_ray_queue"} <= metrics.keys()
    assert metrics["ray_greater_ray_cells"].keys() == {"waiting", "running", "done", "failed", "stopped"}
    assert metrics["ray_greater_ray_cells"]["done"] > 0
    assert min(metrics["ray_greater_ray_seconds_left"].values()) >= 0


def test_an_error_of_ones_own_model_is_one_line_with_a_traceback_in_the_record(on_ray: None, tmp_path: Path):
    told, backend = Told(), RayBackend(ReplicaConfig(count=1))
    run_grid(loaded("tests.grids:breaking_model", methods=["zero-shot-cot"]), tmp_path, backend, observer=told)
    assert [end[1:] for end in told.ends] == [("failed", "internal error: ValueError: the rope is too short")]
    (failure,) = (tmp_path / "failures").iterdir()
    assert 'grids.py", line' in json.loads(failure.read_text())["trace"]


def test_an_unknown_tracker_is_named():
    with pytest.raises(ConfigError, match=r"tracker: 'wandbb' is unknown.*Did you mean 'wandb'"):
        check_trackers(["tensorboard", "wandbb"])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_without_its_package_says_what_to_install(name: str):
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=f"tracker: '{name}' needs the package {name}; pip install {name}"):
        check_trackers([name])

"""The benchmark of a GPU runs without one, and what it holds figures against is counted right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import bench_gpu
from benchmarks.gpu_models import TINY, Load, engine_of, sizes_of
from benchmarks.gpu_parts import Step
from greater_ray.models.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Return the tiny random model; one thread is enough for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield engine_of("tiny", torch.device("cpu"), torch.float32)
    torch.set_num_threads(before)


@pytest.mark.usefixtures("engine")
def test_it_runs_on_a_cpu_and_says_that_no_figure_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "report.md"
    words = ["--device", "cpu", "--tiny", "--parts", "environment", "llama-3.2-1b", "--out", str(out)]
    assert bench_gpu.main(words) == 0
    report = out.read_text(encoding="utf-8")
    assert report.startswith("# A run of the mechanics, no GPU: no figure of time here counts\n")
    for what in (
        "gradient, of the matrix rate",
        "decode at 18 rows, of the bandwidth",
        "step against the published structure",
    ):
        (line,) = [line for line in report.splitlines() if line.startswith(f"| {what} |")]
        assert "bar " in line
    assert "Took " in capsys.readouterr().out


def test_the_operations_of_a_gradients_matrices_are_those_that_torch_counts(engine: Engine):
    for load in (TINY, Load(rows=4, question=40, prompt=8, reasoning=30)):
        step = Step(engine, load)
        with FlopCounterMode(display=False) as counted:
            step.gradients()
        assert counted.get_total_flops() == pytest.approx(step.gradient_operations()[0], rel=1e-3)


def test_the_bytes_of_weights_and_keys_are_those_of_the_tensors(engine: Engine):
    sizes, step = sizes_of(engine), Step(engine, TINY)
    read = sum(p.nbytes for name, p in engine.model.named_parameters() if p.dim() == 2 and "embed" not in name)
    assert sizes.weight_bytes == read
    prefix = next(reversed(engine._prefixes.values()))
    assert prefix.nbytes == sizes.kv_bytes * prefix.positions.numel()
    assert step.lengths()[0] == prefix.positions.shape[1]

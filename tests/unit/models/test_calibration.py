"""The rates of a machine: measured, remembered for what they hold for, and measured again where they do not."""

import pytest
import torch

from greater_ray.models import footprint, rates
from greater_ray.models.calibration import ROWS, calibrate
from greater_ray.models.footprint import Footprint
from greater_ray.prediction import Hardware

HELD = Footprint(process=2**20, entry=100, slack=1.5)
_PER_ROW = ("touched", "kept", "shared", "attention", "attention_backward", "softmax")


@pytest.fixture(scope="module")
def measured() -> Hardware:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = calibrate("a machine", width=64, matrices=2, repeats=1, held=HELD)
    assert torch.equal(torch.rand(3), expected), "measuring takes nothing from the program's random numbers"
    return found


def test_every_rate_is_measured_and_more_rows_take_longer(measured: Hardware):
    assert all(getattr(measured, name) > 0 for name in _PER_ROW)
    for curve in (measured.products, measured.backward):
        assert tuple(rows for rows, _ in curve) == ROWS
        assert 0 < curve[0][1] < curve[-1][1], "1024 rows take longer than one"
    assert measured.backward[-1][1] > measured.products[-1][1], "a product and one back take longer than the first"
    assert 0 < measured.layer < measured.layer_backward, "a layer forwards and back takes longer than forwards"
    assert (measured.process, measured.entry, measured.slack) == HELD


def test_rates_are_measured_once_for_a_dtype_and_a_number_of_threads(measured, tmp_path, monkeypatch):
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path))
    threads, seen, told = torch.get_num_threads(), [], []

    def measure(machine: str, dtype: str) -> Hardware:
        seen.append((machine, dtype, torch.get_num_threads()))
        return measured

    for dtype, count in (("float32", 1), ("float32", 1), ("bfloat16", 1), ("float32", 2)):
        assert rates.rates("a machine", dtype, count, told.append, measure) == measured
    assert seen == [("a machine", "float32", 1), ("a machine", "bfloat16", 1), ("a machine", "float32", 2)]
    assert (
        told[0]
        == "measuring how fast this machine is in float32 on 1 thread, about half a minute of processor time, once"
    )
    assert len(told) == 3
    assert torch.get_num_threads() == threads
    assert rates.remembered("another machine", "float32", 1) is None


@pytest.mark.parametrize("text", ["", "{}", "not JSON"])
def test_what_cannot_be_read_is_measured_again(text: str, measured, tmp_path, monkeypatch):
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path))
    path = rates.path_of("a machine", "float32", 1)
    path.parent.mkdir()
    path.write_text(text)
    assert rates.remembered("a machine", "float32", 1) is None
    assert rates.rates("a machine", "float32", 1, lambda _: None, lambda *_: measured) == measured
    assert rates.remembered("a machine", "float32", 1) == measured


def test_rates_that_cannot_be_remembered_are_used_and_that_is_said(measured, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path / "file"))
    told: list[str] = []
    assert rates.rates("a machine", "float32", 1, told.append, lambda *_: measured) == measured
    assert "not remembered" in told[-1]


@pytest.mark.long
def test_a_program_of_its_own_tells_what_lies_beside_tensors():
    held = footprint.measure()
    assert held is not None
    assert 100 * 2**20 < held.process < 2**30
    assert 100 < held.entry < 10_000
    assert 1 <= held.slack < 2

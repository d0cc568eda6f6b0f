"""Which device computes, and what is said where that is not the one that people think of."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from greater_ray.models._device import gpu_left_out, hardware, numbers, round_once
from greater_ray.models.checks import available_memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of devices of a machine with a GPU and its driver's other files."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    return tmp_path


def test_auto_that_comes_to_the_cpu_of_a_machine_with_a_gpu_says_so(machine: Path):
    told = gpu_left_out("auto", CPU, machine)
    assert told is not None
    assert told.startswith(
        f"warning: there is a GPU here ({machine / 'nvidia0'}) that torch {torch.__version__}, built "
    )
    assert told.endswith("so the CPU computes; install a driver or a torch that fit each other, or set model.device "
                         "to cpu to be told no more")  # fmt: skip


def test_nothing_is_said_where_the_cpu_was_asked_for_or_the_gpu_hidden(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert gpu_left_out("cpu", CPU, machine) is None
    assert gpu_left_out("auto", torch.device("cuda:0"), machine) is None
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert gpu_left_out("auto", CPU, machine) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert gpu_left_out("auto", CPU, machine) is not None


def test_nothing_is_said_on_a_machine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()
    assert gpu_left_out("auto", CPU, tmp_path) is None


@pytest.fixture
def products() -> Iterator[object]:
    """Give the settings of matrix products on a GPU, and put them back."""
    kind = torch.backends.cuda.matmul
    before = kind.allow_bf16_reduced_precision_reduction, kind.allow_fp16_reduced_precision_reduction
    precision = torch.get_float32_matmul_precision()
    yield kind
    kind.allow_bf16_reduced_precision_reduction, kind.allow_fp16_reduced_precision_reduction = before
    torch.set_float32_matmul_precision(precision)


def test_on_a_gpu_no_sum_of_products_is_rounded_on_the_way(products):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_float32_matmul_precision("high")
        round_once(CPU)
        assert products.allow_bf16_reduced_precision_reduction, "a CPU has no such setting to change"
        assert torch.get_float32_matmul_precision() == "high"
        round_once(torch.device("cuda"))
    assert not products.allow_bf16_reduced_precision_reduction
    assert not products.allow_fp16_reduced_precision_reduction
    assert torch.get_float32_matmul_precision() == "highest"


def test_auto_numbers_are_float32_on_a_cpu_and_as_saved_elsewhere():
    assert numbers("auto", CPU) is torch.float32
    assert numbers("auto", torch.device("cuda")) == "auto"
    assert numbers("float64", CPU) is torch.float64


def test_of_several_gpus_the_fullest_decides_and_all_are_named(monkeypatch: pytest.MonkeyPatch):
    cards = [torch.device("cuda", number) for number in range(3)]
    free, names = {0: 10, 1: 4, 2: 12}, {0: "big", 1: "big", 2: "small"}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device.index], 80))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[device.index])
    assert [available_memory(*few) for few in (cards[:1], cards[:2], cards)] == [10, 8, 12]
    assert [hardware(few) for few in (cards[:1], cards[:2], cards)] == ["big", "2 x big", "2 x big, small"]
    assert hardware([CPU]) is None

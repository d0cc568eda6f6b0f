"""One replica in this process: it computes on what it was given, or says that it does not."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.errors import ModelError
from greater_ray.models import sources
from greater_ray.models.engine import Engine
from tests.unit.models.refusals import sentence

SIMULATED = ModelConfig(name="tests.cluster.engines:fragile", revision="/nowhere")


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("gpus", [1.0, 0.25])
def test_a_replica_with_a_gpu_does_not_compute_on_the_cpu(
    tiny_folder: Path, gpus: float, device: str, monkeypatch: pytest.MonkeyPatch
):
    # As with a build of torch without CUDA, also on a machine with a GPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = ModelConfig(name=str(tiny_folder), device=device)
    where = f"model.device: '{device}' put '{tiny_folder}' on the cpu of {socket.gethostname()}"
    with pytest.raises(ModelError, match=re.escape(where)) as error:
        Replica(2**20, ".", gpus).load(config)
    assert f"was given {gpus:g} GPU" in sentence(error)


def test_a_replica_with_several_gpus_spreads_its_model_over_them(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(sources._device, "find", lambda name: asked.append(name) or torch.device(name))
    # Before anything is put there: to this point a machine needs no GPU.
    monkeypatch.setattr(sources._device, "round_once", lambda device: 1 / 0)
    for device, names in (("auto", ["cuda:0", "cuda:1"]), ("cuda", ["cuda:0", "cuda:1"]), ("cuda:1", ["cuda:1"])):
        asked.clear()
        with pytest.raises(ZeroDivisionError):
            Replica(2**20, ".", 2.0).load(ModelConfig(name=str(tiny_folder), device=device))
        assert asked == names


def test_gpus_that_are_not_there_are_the_replicas_matter_not_a_wrong_setting(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "empty", unavailable)
    with pytest.raises(ModelError) as error:
        Replica(2**20, ".", 2.0).load(ModelConfig(name=str(tiny_folder)))
    assert sentence(error) == (
        f"model.device: 'auto' put '{tiny_folder}' on none of its GPUs of {socket.gethostname()}, though its replica "
        "was given 2 GPU; install a torch that can use them, or set replicas.gpus to 0."
    )


def unavailable(*_: Any, **__: Any) -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


def test_without_a_gpu_it_computes_on_the_cpu(tiny_folder: Path):
    replica = Replica(2**20, ".", 0)
    loaded = replica.load(ModelConfig(name=str(tiny_folder), device="cpu"))
    assert (loaded["model"]["device"], replica.up()) == ("cpu", socket.gethostname())
    assert isinstance(replica.engine, Engine)
    assert replica.engine._prefixes.memory == 2**20


def test_a_model_of_ones_own_need_not_tell_its_device():
    assert "device" not in Replica(0, ".", 1).load(SIMULATED)["model"]

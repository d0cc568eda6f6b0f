"""One replica in this process: it computes on what it was given, or says that it does not."""

import re
import socket
from pathlib import Path

import pytest
import torch

from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.errors import ModelError
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


def test_without_a_gpu_it_computes_on_the_cpu(tiny_folder: Path):
    replica = Replica(2**20, ".", 0)
    loaded = replica.load(ModelConfig(name=str(tiny_folder), device="cpu"))
    assert (loaded["model"]["device"], replica.up()) == ("cpu", socket.gethostname())
    assert isinstance(replica.engine, Engine)
    assert replica.engine._prefixes.memory == 2**20


def test_a_model_of_ones_own_need_not_tell_its_device():
    assert "device" not in Replica(0, ".", 1).load(SIMULATED)["model"]

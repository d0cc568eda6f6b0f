"""What errors of torch mean: memory that ran out, a device that is lost, or neither."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.errors import DeviceError, ModelError, PoolError
from greater_ray.models._memory import MicroBatch
from greater_ray.models.engine import Engine
from greater_ray.models.faults import device_faults, is_fault, is_out_of_memory
from greater_ray.types import Usage
from greater_ray.work import BaseEngine, TextEmbeddings, TokenTexts, Unit

Made = Callable[[str], RuntimeError]

FULL = [
    (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
    (torch.OutOfMemoryError, "HIP out of memory. Tried to allocate 2.00 GiB."),
    (torch.AcceleratorError, "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    (RuntimeError, "CUDA driver error: out of memory"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    (RuntimeError, "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    (RuntimeError, "NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled cuda error\nCuda failure 2 'out of memory'"),
    (RuntimeError, "Triton Error [CUDA]: out of memory"),
    (RuntimeError, "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
]
BROKEN = [
    (torch.AcceleratorError, "CUDA error: an illegal memory access was encountered"),
    (torch.AcceleratorError, "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    (torch.AcceleratorError, "CUDA error: uncorrectable ECC error encountered"),
    (torch.AcceleratorError, "CUDA error: unspecified launch failure"),
    (torch.AcceleratorError, "CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    (torch.AcceleratorError, "HIP error: unknown"),
    (torch.AcceleratorError, "a text that nobody has seen yet"),
    (RuntimeError, "CUDA driver error: unknown error"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`"),
    (RuntimeError, "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    (RuntimeError, "NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled cuda error (run with NCCL_DEBUG=INFO)"),
    (RuntimeError, "Triton Error [CUDA]: an illegal memory access was encountered"),
]
ORDINARY = [
    (RuntimeError, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    (RuntimeError, "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    (torch.AcceleratorError, "CUDA error: invalid argument"),
    (torch.AcceleratorError, "CUDA error: no kernel image is available for execution on the device"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"),
]


@pytest.mark.parametrize(("kind", "text"), FULL)
def test_memory_that_ran_out_is_known_from_its_text_and_is_no_fault(kind: Made, text: str):
    assert is_out_of_memory(kind(text))
    assert not is_fault(kind(text))


@pytest.mark.parametrize(("kind", "text"), BROKEN)
def test_an_error_after_which_all_calls_fail_is_a_fault(kind: Made, text: str):
    assert is_fault(kind(text))
    assert not is_out_of_memory(kind(text))


@pytest.mark.parametrize(("kind", "text"), ORDINARY)
def test_an_error_of_one_call_is_neither(kind: Made, text: str):
    assert not is_fault(kind(text))
    assert not is_out_of_memory(kind(text))


@pytest.mark.parametrize(("kind", "text"), FULL)
def test_a_batch_is_halved_however_a_device_says_that_it_is_full(kind: Made, text: str):
    def work(start: int, stop: int) -> list[int]:
        if stop - start > 2:
            raise kind(text)
        return list(range(start, stop))

    batch = MicroBatch()
    assert batch.map(work, 7) == list(range(7))
    assert batch.limit == 1


@pytest.mark.parametrize(("kind", "text"), BROKEN)
def test_a_batch_is_not_tried_again_on_a_broken_device(kind: Made, text: str):
    tried = []

    def work(start: int, stop: int) -> list[int]:
        tried.append((start, stop))
        raise kind(text)

    with pytest.raises(DeviceError, match="nothing more on its device"), device_faults():
        MicroBatch().map(work, 7)
    assert tried == [(0, 7)]


class Broken(BaseEngine):
    """An engine of one's own on a device that has failed."""

    facts = {"name": "broken"}  # noqa: RUF012 - as its users write it

    def run(self, unit: Unit) -> tuple[object, Usage]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ...")


def test_a_replica_says_that_its_device_is_broken_and_that_no_trial_is_to_blame():
    replica = Replica(2**20, ".")
    replica.engine = Broken()
    with pytest.raises(DeviceError) as error:
        replica.run(Unit(TokenTexts([1])))
    assert isinstance(error.value, PoolError)
    assert not isinstance(error.value, ModelError)
    assert str(error.value) == (
        "this process can compute nothing more on its device: CUDA error: an illegal memory access was encountered; "
        "another process may."
    )


def test_the_engine_itself_says_so_too_and_keeps_its_other_errors(tiny_folder: Path):
    engine = Engine.load(ModelConfig(name=str(tiny_folder), device="cpu"))
    forward = engine.model.get_input_embeddings()

    def fail(module: object, args: object) -> None:
        raise failure

    forward.register_forward_pre_hook(fail)
    failure = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(DeviceError, match="device-side assert"):
        engine.run(Unit(TextEmbeddings(["a"])))
    failure = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        engine.run(Unit(TextEmbeddings(["a"])))

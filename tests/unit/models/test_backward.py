"""A layer without a backward pass, as kernels of some quantizations are, is found and named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from greater_ray.assembly import _refuse_missing, load_method, resolve_config
from greater_ray.errors import ConfigError, UnsupportedError
from greater_ray.models._backward import _NO_BACKWARD, layer_without_gradient
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec
from greater_ray.work import Gradients, PromptGradients, Rollouts, Unit
from tests.families import save_tiny


class ForwardOnly(nn.Module):
    """A linear layer whose kernel computes no gradient; the residual connection beside it still carries one."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight

    @torch.no_grad()
    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.weight)


class ForeignKernel(ForwardOnly):
    """A linear layer on an operator that was given to torch without a word of autograd, as one in C++ may be."""

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = torch.ops.greater_ray_tests.product(states, self.weight)
        return product


class ChangesForGood(ForwardOnly):
    """A linear layer that repacks its weight in the first pass without autograd, for a kernel that knows none."""

    packed = False

    def forward(self, states: Tensor) -> Tensor:
        self.packed |= not states.requires_grad
        return ForeignKernel.forward(self, states) if self.packed else nn.functional.linear(states, self.weight)


class PythonKernel(ForwardOnly):
    """A linear layer on an operator that was written in Python, without a formula for its derivative."""

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = product_in_python(states, self.weight)
        return product


@torch.library.custom_op("greater_ray_tests::product_in_python", mutates_args=())
def product_in_python(states: Tensor, weight: Tensor) -> Tensor:
    return states @ weight.T


@pytest.fixture(scope="module")
def foreign() -> Iterator[None]:
    """Give torch the operator of ``ForeignKernel``."""

    def product(states: Tensor, weight: Tensor) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            return states @ weight.T

    library = torch.library.Library("greater_ray_tests", "FRAGMENT")
    library.define("product(Tensor states, Tensor weight) -> Tensor")
    library.impl("product", product, "CPU")
    yield
    library._destroy()


def engine_with(folder: Path, layer: Any) -> Engine:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    mlp = model.model.layers[1].mlp
    mlp.down_proj = layer(mlp.down_proj)
    return Engine(model, AutoTokenizer.from_pretrained(folder), facts={"name": "half-made"})


def test_layers_of_all_kinds_let_the_gradient_through(tmp_path: Path):
    for name in ("llama", "gemma3", "gpt2"):
        folder = save_tiny(name, tmp_path / name)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)
        assert layer_without_gradient(model) is None, name


def test_a_model_with_such_a_layer_does_all_but_gradients(tiny_folder: Path):
    engine = engine_with(tiny_folder, ForwardOnly)
    assert Engine.all_kinds() - engine.kinds == {Gradients, PromptGradients}
    layout, shard = Layout("so", max_reasoning_tokens=2), (Example("1", "How many?", "3", "3"),)
    rollouts, _ = engine.run(Unit(Rollouts(shard, [(5, 6)], LossSpec()), layout))
    assert len(rollouts) == 1
    work = PromptGradients(shard, (5, 6), LossSpec(), reasoning=[()])
    with pytest.raises(UnsupportedError) as error:
        engine.run(Unit(work, layout))
    assert str(error.value) == (
        "model.name: 'half-made' cannot give prompt gradients, as its layers of type ForwardOnly have no backward "
        "pass; choose a method that goes by answers, for instance gepa, gpo or few-shot, or weights that are quantized "
        "otherwise or not at all."
    )


@pytest.mark.parametrize("layer", [ForwardOnly, ForeignKernel, PythonKernel, ChangesForGood])
def test_a_layer_without_a_backward_pass_is_found_however_torch_takes_it(
    layer: Any, foreign: None, tiny_folder: Path, recwarn: pytest.WarningsRecorder
):
    engine = engine_with(tiny_folder, layer)
    assert engine._cut == layer.__name__
    assert not recwarn.list


def test_beside_a_residual_connection_such_a_layer_makes_a_wrong_gradient_and_no_error(foreign: None):
    states, weight = torch.ones(1, 3, requires_grad=True), torch.ones(3, 3)
    with pytest.warns(UserWarning, match=_NO_BACKWARD):
        (gradient,) = torch.autograd.grad((states + torch.ops.greater_ray_tests.product(states, weight)).sum(), states)
    assert gradient.tolist() == [[1, 1, 1]], "four times as much is right"


def test_a_method_that_needs_gradients_is_refused_before_anything_is_computed(tiny_folder: Path):
    engine = engine_with(tiny_folder, ForwardOnly)
    config = resolve_config({"method": "greater", "model": {"name": str(tiny_folder)}, "task": {"name": "gsm8k"}})
    with pytest.raises(ConfigError, match=r"needs gradients, which .* cannot give; choose a method that goes by"):
        _refuse_missing(config, *load_method(config), engine.kinds)

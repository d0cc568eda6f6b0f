"""Which part of a model lies on which of several devices; what is computed there is shown on pretended GPUs."""

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, LlamaConfig

from greater_ray.errors import ConfigError, ModelError
from greater_ray.models._device import find_all
from greater_ray.models._spread import connect, devices_of, spread_map
from tests.families import tiny_model
from tests.unit.models.refusals import sentence

CARDS = [torch.device("cuda", number) for number in range(4)]
GIB = 2**30
# Layers of the size of Llama-3-70B's and Gemma-2-27B's, but fewer.
LLAMA_70B = LlamaConfig(
    vocab_size=128256,
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=14,
    num_attention_heads=64,
    num_key_value_heads=8,
    tie_word_embeddings=False,
)
GEMMA_27B = Gemma2Config(
    hidden_size=4608, intermediate_size=36864, num_hidden_layers=9, num_attention_heads=32, num_key_value_heads=16
)


def bytes_on(config: Any, places: dict[str, torch.device]) -> list[float]:
    """Return GiB in half precision on every device."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    held: Counter[torch.device] = Counter()
    for name, parameter in model.named_parameters():
        path = next(path for path in places if name == path or name.startswith(f"{path}."))
        held[places[path]] += 2 * parameter.numel()
    return [held[device] / GIB for device in dict.fromkeys(places.values())]


@pytest.mark.parametrize(("config", "number"), [(LLAMA_70B, 4), (GEMMA_27B, 2)])
def test_every_card_holds_as_much_as_the_others_within_a_layer(config: Any, number: int):
    places = spread_map(config, CARDS[:number], "large")
    held = bytes_on(config, places)
    layer = 1.6 if config is LLAMA_70B else 1.1
    assert len(held) == number
    assert max(held) - min(held) < layer
    layers = [device.index for path, device in places.items() if path.startswith("model.layers.")]
    assert len(layers) == config.num_hidden_layers
    assert layers == sorted(layers), "one part behind the other"


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox"])
def test_a_map_names_every_weight_once(family: str):
    model, _ = tiny_model(family)
    places = spread_map(model.config, CARDS[:2], family)
    for name, _ in (*model.named_parameters(), *model.named_buffers()):
        assert sum(name == path or name.startswith(f"{path}.") for path in places) == 1, name
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    modules = {module: path for path, module in model.named_modules()}
    assert places[modules[embed]].index == 0
    assert places[modules[head]].index == (0 if head.weight is embed.weight else 1)


def test_more_devices_than_layers_are_refused():
    model, _ = tiny_model("llama")
    with pytest.raises(ModelError) as error:
        spread_map(model.config, CARDS[:3], "small")
    assert sentence(error) == "model.device: 'small' has 2 layers, so it cannot be spread over 3 devices."


def test_what_layers_share_is_fetched_once_in_a_pass_and_forgotten_after_it():
    class Layer(nn.Module):
        def forward(self, states: Tensor, mask: dict[str, Tensor], past_key_values: Tensor) -> tuple[Tensor, ...]:
            return states, mask["near"], past_key_values

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(2))

        def forward(self, states: Tensor, fail: bool = False) -> list[tuple[Tensor, ...]]:
            mask, kept = {"near": torch.zeros(1)}, torch.zeros(1)
            if fail:
                self.layers[0](states, mask=mask, past_key_values=kept)
                raise RuntimeError("out of memory")
            return [layer(states, mask=mask, past_key_values=kept) for layer in self.layers]

    model, meta = Model(), torch.device("meta")
    connect(model, {"layers.0": meta, "layers.1": meta})
    first, second = model(torch.zeros(1))
    assert first[0] is second[0]
    assert first[1] is second[1]
    assert first[1].device == meta
    assert first[2].device.type == "cpu", "keys and values stay"
    assert model(torch.zeros(1))[0][1] is not first[1]
    fetch = next(iter(model.layers[0]._forward_pre_hooks.values()))
    there = (torch.zeros(1, device=meta), {"far": torch.zeros(1, device=meta)}, [1])
    assert fetch._here(there) is there, "what is there already stays itself"
    angles = (torch.zeros(1), torch.zeros(1))
    assert fetch._here(angles) is fetch._here(angles) is not angles, "for whoever goes by whether it is the same"
    model(torch.zeros(1))
    with pytest.raises(RuntimeError):
        model(torch.zeros(1), fail=True)
    # As doctor does it, for its differences in float64.
    twin = copy.deepcopy(model)
    assert twin(torch.zeros(1))[1][1].device == meta
    own, other = (next(iter(m.layers[0]._forward_pre_hooks.values())).fetched for m in (model, twin))
    assert own is not other
    assert not own
    assert not other


def test_a_model_on_one_device_has_one():
    model, _ = tiny_model("gemma3")
    assert devices_of(model) == (torch.device("cpu"),)


@pytest.mark.parametrize("names", ["cpu,cpu", "cpu,meta:0", "cuda:0,cuda:0", "cpu,", "auto,cpu"])
def test_devices_that_are_not_there_or_not_two_are_refused(names: str):
    with pytest.raises(ConfigError) as error:
        find_all(names)
    assert error.value.setting == "model.device"

"""Embeddings of whole texts: those of the slow twin, whatever lies beside a text, and computed once."""

import pytest
import torch

from greater_ray.errors import DataError, ModelError
from greater_ray.models._attention import register
from greater_ray.models.engine import Engine
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.types import Layout
from greater_ray.work import TextEmbeddings
from greater_ray.work.kinds import TEXT_CHUNK
from greater_ray.work.memory import TEXT_EMBEDDINGS
from tests.babbler import Babbler
from tests.families import FAMILIES, tiny_model
from tests.slow_twin import SlowTwin

LAYOUT = Layout(" Therefore, the final answer is")
TEXTS = [
    "Think step by step.",
    "A",
    "Check every option, write down why it fails, and take the one that is left. Then say it once more in one word.",
]


def embedded(engine: Engine, texts: list[str]) -> torch.Tensor:
    return torch.tensor(ShardedModel(LocalExecutor(engine), LAYOUT).ask(TextEmbeddings(texts)), dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_equal_the_slow_twin(family: str, dtype: torch.dtype, tolerance: float):
    model, tokenizer = tiny_model(family, dtype)
    if family == "gemma2" and dtype == torch.float64:
        # Its eager attention takes the softmax in float32, where batching shows in the eighth digit.
        model.set_attn_implementation(register())
    ours = embedded(Engine(model, tokenizer), TEXTS)
    theirs = torch.tensor(SlowTwin(model, tokenizer, LAYOUT).ask(TextEmbeddings(TEXTS)), dtype=torch.float64)
    assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert torch.allclose(ours.norm(dim=-1), torch.ones(len(TEXTS), dtype=torch.float64))
    assert len({tuple(row) for row in ours.tolist()}) == len(TEXTS), "different texts are told apart"


def test_a_text_beyond_the_context_window_is_cut_there():
    engine = Engine(*tiny_model("llama"))
    engine.model.config.max_position_embeddings = 12
    short, long, longer = embedded(engine, ["step " * 5, "step " * 40, "step " * 80])
    assert torch.allclose(long, longer)
    assert not torch.allclose(long, short)


def test_a_known_text_is_not_computed_again_and_is_saved():
    model = ShardedModel(LocalExecutor(Engine(*tiny_model("llama"))), LAYOUT)
    many = [f"{text} {k}" for k in range(TEXT_CHUNK) for text in TEXTS[:2]]
    first = model.ask(TextEmbeddings(many))
    assert (model.usage.calls, model.usage.passes) == (len(many), 2)
    cost = model.usage.tokens
    assert model.ask(TextEmbeddings([many[5], *many])) == [first[5], *first]
    assert model.usage.tokens == cost
    again = ShardedModel(model.executor, LAYOUT)
    again.memory.restore(TEXT_EMBEDDINGS, map(TEXT_EMBEDDINGS.read, model.memory.fresh(TEXT_EMBEDDINGS)))
    assert again.ask(TextEmbeddings(many)) == first
    assert again.usage.tokens == 0


def test_a_text_without_tokens_and_a_model_without_embeddings_are_one_sentence():
    engine = Engine(*tiny_model("gpt2"))
    with pytest.raises(DataError, match="text '' has no tokens"):
        embedded(engine, ["a", ""])
    with pytest.raises(ModelError, match="'babbler' cannot give text embeddings; it can give: generate"):
        ShardedModel(LocalExecutor(Babbler()), None).ask(TextEmbeddings(["a"]))

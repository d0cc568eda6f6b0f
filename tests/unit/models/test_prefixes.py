"""What all rows of a shard begin with is run once, and every row has the keys and values it would have alone."""

import random

import pytest
import torch

from greater_ray.models._kv import NEVER
from greater_ray.models._prefixes import LEAST_SHARED, Heads, Prefixes, fed_tokens
from greater_ray.models.engine import Engine
from tests.families import tiny_model

RNG = random.Random(0)
SHARED = tuple(RNG.randrange(20, 200) for _ in range(LEAST_SHARED + 8))


def heads_behind(shared: tuple[int, ...], lengths: tuple[int, ...] = (1, 5, 9)) -> Heads:
    """Heads of unequal length, one of which has nothing of its own but the token that is fed again."""
    return tuple((*shared, *(RNG.randrange(20, 200) for _ in range(own))) for own in lengths)


def prefix_of(engine: Engine, heads: Heads):
    return Prefixes(2**30).of(heads, engine.decoder, engine._decode_batch)


@pytest.mark.parametrize("lengths", [(1, 5, 9), (1, 1, 1)], ids=["unequal", "last token alone"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2"])
def test_a_shared_beginning_gives_every_row_the_keys_and_values_it_has_alone(
    family: str, lengths: tuple[int, ...]
) -> None:
    engine = Engine(*tiny_model(family, torch.float64))
    heads = heads_behind(SHARED, lengths)
    together = prefix_of(engine, heads)
    for row, head in enumerate(heads):
        alone = prefix_of(engine, (head,))
        mine = together.positions[row] != NEVER
        assert together.positions[row][mine].tolist() == list(range(len(head) - 1))
        for ours, theirs in zip(together.layers, alone.layers, strict=True):
            for states, expected in zip(ours, theirs, strict=True):
                # Some of these models take their softmax in float32.
                torch.testing.assert_close(states[row][:, mine], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [LEAST_SHARED + 8, LEAST_SHARED, LEAST_SHARED - 1, 0])
def test_tokens_are_metered_as_the_model_reads_them(shared: int) -> None:
    model, tokenizer = tiny_model("llama", torch.float32)
    engine, heads, read = Engine(model, tokenizer), heads_behind(SHARED[:shared]), list[int]()
    forward = engine.model.forward
    engine.model.forward = lambda **given: (
        read.append(int((given["attention_mask"] == 0).any(-1).sum())) or forward(**given)
    )
    try:
        prefix_of(engine, heads)
    finally:
        del engine.model.forward
    assert sum(read) == fed_tokens(heads)
    assert len(read) == (2 if shared >= LEAST_SHARED else 1)
    alone = sum(len(head) - 1 for head in heads)
    assert fed_tokens(heads) == alone - (2 * shared if shared >= LEAST_SHARED else 0)

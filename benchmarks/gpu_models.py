"""Random models of the shapes that people run, made on the device from a config, and rows of a stated length for them.

Nothing is fetched. What such a model writes is noise; how long it takes to write is not.
"""

import dataclasses
import random
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, TokenIds

# Sizes as in the published configs.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
EXTRACTOR = " so the answer is "


class Load(NamedTuple):
    """How much one step computes: rows in shards of half of them, tokens of a question, a prompt and its reasoning."""

    rows: int = 50
    candidates: int = 3
    question: int = 160
    prompt: int = 16
    reasoning: int = 200

    @property
    def shard_size(self) -> int:
        return (self.rows + 1) // 2

    def layout(self, tokens: int | None = None) -> Layout:
        """Return the text around the prompt, with so many tokens of reasoning."""
        limit = self.reasoning if tokens is None else tokens
        return Layout(EXTRACTOR, max_reasoning_tokens=limit, max_answer_tokens=4)

    def examples(self) -> tuple[Example, ...]:
        """Return the rows; a letter or a blank is a token."""
        draw = random.Random(0)
        texts = [" ".join(draw.choices(_LETTERS, k=self.question // 2)) for _ in range(self.rows)]
        return tuple(Example(str(k), text, "7", "7") for k, text in enumerate(texts))

    def shards(self) -> list[tuple[Example, ...]]:
        """Return the rows as units of work have them."""
        rows = self.examples()
        return [rows[start : start + self.shard_size] for start in range(0, self.rows, self.shard_size)]

    def prompts(self) -> list[TokenIds]:
        """Return the candidates: they differ in one token, as those of a step do."""
        letters = tuple(range(70, 70 + self.prompt))
        middle = self.prompt // 2
        return [(*letters[:middle], 100 + k, *letters[middle + 1 :]) for k in range(self.candidates)]


TINY = Load(rows=6, question=24, prompt=6, reasoning=8)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: number for number, text in enumerate(["<s>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def engine_of(shape: str, device: torch.device, dtype: torch.dtype) -> Engine:
    """Make a random model on its device; rows never end by themselves, so that reasoning is as long as it is said."""
    words = tokenizer()
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.generation_config.eos_token_id = None
    engine = Engine(model, words, facts={"name": f"{shape}, random"})
    engine.decoder = engine._writer.decoder = dataclasses.replace(
        engine.decoder, stop_tokens=frozenset(), blank_tokens=frozenset()
    )
    return engine


class Sizes(NamedTuple):
    """What one model weighs: bytes that a decoded token reads, and parameters that multiply every token."""

    weight_bytes: int
    multiplied: int
    head: int
    kv_bytes: int
    attention: int


def sizes_of(engine: Engine) -> Sizes:
    """Count a model's weights; ``kv_bytes`` is per token, ``attention`` the width of all heads of all layers."""
    config, model = engine.config, engine.model
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, item = config.num_hidden_layers, model.dtype.itemsize
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and ".layers." in name)
    head = config.vocab_size * config.hidden_size
    kv = 2 * layers * config.num_key_value_heads * head_dim * item
    return Sizes((matrices + head) * item, matrices, head, kv, layers * config.num_attention_heads * head_dim)

"""What a program holds beside the tensors that can be counted, measured in a program of its own.

Three figures: memory with an engine that has next to no weights, what its tokenizer takes for every token of a
vocabulary, and how much a heap grows for a byte of tensors. The last is above one because freed blocks are kept for the
next tensor (``_memory.keep_freed_memory``), and batches of other lengths do not fit into the holes exactly.

    python -m greater_ray.models.footprint        # prints the three as JSON
"""

import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

# Tokens of a small and of a large vocabulary; the difference counts.
_FEW, _MANY = 1024, 33792
# A gradient of some ten million bytes, in batches of three lengths, behind rollouts as in a search.
_LAYERS, _ROWS, _LENGTHS = 8, 8, (72, 96, 84)
_SIZES = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6, "num_key_value_heads": 2}
_TINY = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}


class Footprint(NamedTuple):
    """Bytes of a program with an engine and no weights, bytes for every token of a vocabulary, heap for a byte."""

    process: int
    entry: int
    slack: float


def measure() -> Footprint | None:
    """Measure in a program of its own; None where the system does not tell how much memory a program has."""
    command = [sys.executable, "-m", "greater_ray.models.footprint"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=300)
        return Footprint(**json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _save(folder: str, entries: int) -> None:
    """Save a Llama of next to no width, and a byte-level tokenizer with so many tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [pair for pair, _ in zip(product(letters, letters), range(entries - len(letters)), strict=False)]
    vocabulary = {text: number for number, text in enumerate([*letters, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=letters[0]).save_pretrained(folder)
    config = LlamaConfig(**_TINY, vocab_size=entries, num_hidden_layers=1, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)


def _engines() -> tuple[int, int]:
    """Return a program's memory with an engine of a small vocabulary, and what a token more takes."""
    from greater_ray.config import ModelConfig
    from greater_ray.models.engine import Engine

    with tempfile.TemporaryDirectory() as few, tempfile.TemporaryDirectory() as many:
        _save(few, _FEW)
        _save(many, _MANY)
        kept = [Engine.load(ModelConfig(name=few, threads=1))]
        process = _resident()
        kept.append(Engine.load(ModelConfig(name=many, threads=1)))
        # The rows of embedding and packed head are weights, which are counted.
        entry = (_resident() - process) / (_MANY - _FEW) - 2 * 4 * _TINY["hidden_size"]
    return process, max(0, round(entry))


def _slack() -> float:
    """Return how much the heap grows for a byte of what gradients keep, in batches of several lengths."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from greater_ray.decoder_shape import Shape
    from greater_ray.models._decode import Parts, RowBatch
    from greater_ray.models._gradients import begin, row_gradients
    from greater_ray.models._memory import MicroBatch, keep_freed_memory
    from greater_ray.models._packed import can_pack, pack
    from greater_ray.models._prefixes import Prefixes
    from greater_ray.models.calibration import decoder_of
    from greater_ray.prediction import Load, kept_bytes
    from greater_ray.types import LossSpec

    keep_freed_memory()
    config = LlamaConfig(**_SIZES, vocab_size=_FEW, num_hidden_layers=_LAYERS, tie_word_embeddings=True)
    decoder = decoder_of(LlamaForCausalLM(config), torch.float32)
    if can_pack(decoder.model):
        pack(decoder.model)
    shape = Shape(
        layers=_LAYERS, hidden=config.hidden_size, inner=config.intermediate_size, heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads, head_size=config.head_dim, vocabulary=_FEW,
    )  # fmt: skip
    question, prompt = tuple(range(40)), tuple(range(8))
    parts = [Parts((number, *question), prompt, (), (8, 9)) for number in range(_ROWS)]
    prefix = Prefixes(2**30).of(tuple(part.head for part in parts), decoder, MicroBatch())

    def batch(length: int) -> None:
        with torch.no_grad():
            rows = RowBatch(decoder, prefix, range(_ROWS), parts)
            rows.reason(rows.prefill(length + 8), 4)
        begun = begin(decoder, prefix, range(_ROWS), parts, len(prompt) // 2)
        row_gradients(decoder, begun, parts, [tuple(range(length))] * _ROWS, (7,), LossSpec())

    batch(1)
    before = _resident()
    for length in (*_LENGTHS, *_LENGTHS):
        batch(length)
    load = Load(rows=_ROWS, question=len(question), prompt=len(prompt), reasoning=max(_LENGTHS), candidates=1,
                extractor=1)  # fmt: skip
    return max(1.0, (_resident() - before) / kept_bytes(shape, load, _ROWS))


if __name__ == "__main__":
    # First, while nothing of a model lies in the heap.
    first, second = _engines()
    sys.stdout.write(json.dumps(Footprint(first, second, _slack())._asdict()) + "\n")

"""A tiny random model with as large a vocabulary as is wanted: byte-level BPE whose tokens are short words."""

import itertools
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

_BLANK = "Ġ"  # how byte-level BPE writes a blank


def make_model(folder: Path, size: int) -> Path:
    """Write a Llama of two layers with so many tokens to a folder, and return it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1}
    for sign in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[sign] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for length in itertools.count(2):
        for letters in itertools.product([_BLANK, *string.ascii_lowercase], *[string.ascii_lowercase] * (length - 1)):
            if len(vocabulary) == size:
                break
            merges.append(("".join(letters[:-1]), letters[-1]))
            vocabulary["".join(letters)] = len(vocabulary)
        if len(vocabulary) == size:
            break
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder

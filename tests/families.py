"""Tiny random models of nine architectures, each with a real tokenizer and its family's chat template.

They answer nonsense, but their attention, positions, soft-caps, sliding windows and caches are the real ones, so
whatever is computed through them can be compared exactly with a reference.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt_neox", "gpt2")
SLIDING_WINDOW = 16
_SEED = 20240607

# name: (bos, eos, further special tokens)
_SPECIALS: dict[str, tuple[str | None, str, tuple[str, ...]]] = {
    "llama": ("<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>")),
    "mistral": ("<s>", "</s>", ("[INST]", "[/INST]")),
    "qwen2": (None, "<|im_end|>", ("<|im_start|>", "<|endoftext|>")),
    "qwen3": (None, "<|im_end|>", ("<|im_start|>", "<|endoftext|>")),
    "gemma2": ("<bos>", "<end_of_turn>", ("<start_of_turn>", "<eos>")),
    "gemma3": ("<bos>", "<end_of_turn>", ("<start_of_turn>", "<eos>")),
    "phi3": ("<s>", "<|end|>", ("<|user|>", "<|assistant|>", "<|endoftext|>")),
    "gpt_neox": ("<|endoftext|>", "<|endoftext|>", ()),
    "gpt2": ("<|endoftext|>", "<|endoftext|>", ()),
}
# Families whose tokenizer puts bos before any text; the others leave it to the template or have none.
_BOS_BEFORE_TEXT = frozenset({"llama", "mistral", "gemma2", "gemma3"})

_LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
_CHATML_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_PHI3_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_TEMPLATES = {
    "llama": _LLAMA_TEMPLATE,
    "mistral": _MISTRAL_TEMPLATE,
    "qwen2": _CHATML_TEMPLATE,
    "qwen3": _CHATML_TEMPLATE,
    "gemma2": _GEMMA_TEMPLATE,
    "gemma3": _GEMMA_TEMPLATE,
    "phi3": _PHI3_TEMPLATE,
}

_SENTENCES = (
    " proper logical reasoning and think step by step. Finally, give the actual correct answer.",
    "Use proper logical reasoning and think step by step. Finally, give the actual correct answer.",
    "Therefore, the final answer is (A). Therefore, the final answer is True. Therefore, the final answer is False.",
    "not ( True ) and ( False or not True ) is False. not not ( True and True ) is True.",
    "Today is Christmas Eve of 1937. What is the date tomorrow in MM/DD/YYYY? Options: (A) 12/11/1937 (B) 12/25/1937",
    "The apples cost 3 dollars each and the pears cost 2 dollars each. How much do 12 apples and 7 pears cost?",
    "First, count the apples. Then add the pears. So the answer is 50. #### 50",
    "On the table, there is one silver keychain, two pink mugs, and a green notebook. What colour is the mug? (C)",
    "If Ann is taller than Bob and Bob is taller than Carl, who is the tallest of the three? Yes. No. valid invalid",
    "Carefully examine every option, check whether the argument is valid, and only then write the result.",
    "You are a helpful assistant. user assistant system model\n\n",
)


@cache
def _trained(specials: tuple[str, ...]) -> str:
    """Train a byte-level BPE whose digits stay single, and return it as JSON; every text survives it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 + len(specials),
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Three times over, so that whole words reach the frequency at which pairs are merged.
    tokenizer.train_from_iterator(_SENTENCES * 3, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a fresh tokenizer of the family's style."""
    bos, eos, further = _SPECIALS[family]
    specials = tuple(dict.fromkeys(token for token in ("<pad>", bos, eos, *further) if token))
    backend = Tokenizer.from_str(_trained(specials))
    if family in _BOS_BEFORE_TEXT:
        backend.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
                ),
            ]
        )
    # gpt2 has no pad token, as on the hub; gpt_neox and the rest have one of their own.
    pad = None if family == "gpt2" else "<pad>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=[token for token in specials if token not in (bos, eos, pad)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _TEMPLATES.get(family)
    return tokenizer


def tiny_config(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Return a two-layer config of the family, with its peculiar features switched on."""
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # Larger than usual, so that logits differ clearly and an argmax is no matter of rounding.
        "initializer_range": 0.3,
    }
    size: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
    }
    grouped = {**shared, **size, "num_key_value_heads": 2}
    # One layer sees the window, the other everything.
    mixed = {"head_dim": 12, "sliding_window": SLIDING_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
    configs: dict[str, Any] = {
        "llama": lambda: LlamaConfig(**grouped, tie_word_embeddings=False),
        "mistral": lambda: MistralConfig(**grouped, head_dim=12, sliding_window=SLIDING_WINDOW),
        "qwen2": lambda: Qwen2Config(**grouped, tie_word_embeddings=True),
        "qwen3": lambda: Qwen3Config(**grouped, head_dim=16),
        "gemma2": lambda: Gemma2Config(
            **grouped,
            **mixed,
            query_pre_attn_scalar=12,
            attn_logit_softcapping=20.0,
            final_logit_softcapping=10.0,
            attn_implementation="eager",
        ),
        "gemma3": lambda: Gemma3TextConfig(**grouped, **mixed, query_pre_attn_scalar=12),
        "phi3": lambda: Phi3Config(**grouped, tie_word_embeddings=False),
        "gpt_neox": lambda: GPTNeoXConfig(**shared, **size, rotary_pct=0.25),
        "gpt2": lambda: GPT2Config(**shared, n_embd=48, n_layer=2, n_head=4, n_positions=2048),
    }
    return configs[family]()


@torch.no_grad()
def _liven(model: PreTrainedModel, family: str) -> None:
    """Move parameters away from the values at which mistakes would not show."""
    for parameter in model.parameters():
        # Norm weights and biases start as ones and zeros.
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    if family.startswith("gemma"):
        # Embeddings are multiplied by sqrt(hidden) and tied to the output: as drawn, the model would only repeat its
        # last token. Smaller rows, and a final norm that gives the logits their size back.
        scale = model.config.hidden_size**0.5
        model.get_input_embeddings().weight.div_(scale)
        model.model.norm.weight.add_(scale - 1)


def tiny_model(
    family: str, dtype: torch.dtype = torch.float32, layers: int = 2
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return a random model and its tokenizer, the same ones every time, as the loader would hand them out.

    Weights are drawn in float64 and then cast, so that the same model exists in every precision.
    """
    tokenizer = tiny_tokenizer(family)
    config = tiny_config(family, tokenizer)
    if layers != 2:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = (list(config.layer_types) * layers)[:layers]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
        _liven(model, family)
    model = model.to(dtype).eval().requires_grad_(False)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    pad = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    return model, tokenizer


def save_tiny(family: str, folder: Path, layers: int = 2) -> Path:
    """Write a tiny model with its tokenizer into a folder, as a user would keep one, and return the folder."""
    model, tokenizer = tiny_model(family, layers=layers)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

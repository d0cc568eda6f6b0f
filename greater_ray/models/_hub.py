"""The Hugging Face hub: pin a model to a commit, prefer what is cached, say quickly when it is out of reach."""

import json
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from greater_ray.errors import ModelError, WrongModelError

_PROBE_SECONDS = 3.0
_OFFLINE_CHOICES = "smollm2-135m, a local model folder or a GGUF file need no hub"


def find(name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Return the commit and the config.json of a hub model; a complete cached copy is used without asking the hub.

    Raises:
        ModelError: the hub is out of reach, or has no such model, revision or config, or access is not granted.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cached = snapshot(name, revision)
    if cached is not None and _has_weights(cached):
        return cached.name, _read(cached / "config.json", name)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"'{name}' is not in the local hub cache and HF_HUB_OFFLINE is set; {_OFFLINE_CHOICES}.",
            setting="model.name",
        )
    if not _reachable(constants.ENDPOINT):
        raise ModelError(
            f"'{name}' needs {constants.ENDPOINT}, which is not reachable; {_OFFLINE_CHOICES}.", setting="model.name"
        )
    try:
        path = Path(hf_hub_download(name, "config.json", revision=revision))
    except GatedRepoError as error:
        raise ModelError(
            f"access to '{name}' must be granted on its hub page first, then log in with 'hf auth login'.",
            setting="model.name",
        ) from error
    except RepositoryNotFoundError as error:
        raise WrongModelError(
            f"the hub has no model '{name}', or it is private; {_OFFLINE_CHOICES}.", setting="model.name"
        ) from error
    except RevisionNotFoundError as error:
        raise WrongModelError(f"'{name}' has no revision '{revision}' on the hub.", setting="model.revision") from error
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"config.json of '{name}' cannot be fetched from the hub ({reason}).", setting="model.name"
        ) from error
    return path.parent.name, _read(path, name)


def is_complete(name: str, revision: str | None) -> bool:
    """Tell whether the cache holds the weights of this revision, so that loading needs no hub."""
    cached = snapshot(name, revision)
    return cached is not None and _has_weights(cached)


def snapshot(name: str, revision: str | None) -> Path | None:
    """Return the cached folder of a revision when it holds at least the config.

    Raises:
        ModelError: the name cannot be that of a hub model.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise WrongModelError(
            f"'{name}' is not a hub id (org/name) and no local folder or file.", setting="model.name"
        ) from error
    return Path(path).parent if isinstance(path, str) else None


def _has_weights(folder: Path) -> bool:
    """Tell whether every shard that the index names is there, or the one file of an unsharded model."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return (folder / "model.safetensors").exists()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / shard).exists() for shard in shards)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the config.json of '{name}' cannot be read.", setting="model.name") from error
    return values if isinstance(values, dict) else {}


def _reachable(endpoint: str) -> bool:
    """Ask once, through the user's proxy if there is one, and give up after a few seconds.

    The libraries retry for minutes. A thread is needed because looking up a host name cannot be given a time limit.
    """
    answered = threading.Event()
    done = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
            answered.set()
        except urllib.error.HTTPError:
            answered.set()  # A refusal is an answer.
        except urllib.error.URLError as error:
            # A certificate this client does not trust may be trusted by the library's own settings.
            if isinstance(error.reason, ssl.SSLError):
                answered.set()
        except (OSError, ValueError):
            pass
        finally:
            done.set()

    threading.Thread(target=ask, daemon=True).start()
    done.wait(_PROBE_SECONDS + 1)
    return answered.is_set()

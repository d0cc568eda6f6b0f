"""Where a result was computed: versions, commit and hardware. Facts about the host never change a result's identity."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("greater-ray", "torch", "transformers", "tokenizers", "datasets", "ray", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """Return versions, commit (and whether the tree was clean), processor, time."""
    return {
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "commit": dict(commit) if (commit := _commit()) is not None else None,
        "hardware": {
            "machine": platform.machine(),
            "processor": processor(),
            "cpu_count": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_version() -> str:
    """Return the version of this package as records have it."""
    return str(_version("greater-ray"))


@cache  # what is imported stays as it is; a grid in one process writes many records
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@cache
def _commit() -> dict[str, Any] | None:
    """Return the commit of the checkout this package runs from, if it runs from one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        return {"id": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.SubprocessError):
        return None

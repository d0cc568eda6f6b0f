"""The rates of this machine, measured once for a version of torch, a dtype and a number of threads, then remembered.

They lie in the folder of what outlives a run (``greater_ray.cache``), a JSON file for each of them. Whatever cannot be
read there is measured again.
"""

import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pydantic import ValidationError

from greater_ray.cache import cache_folder
from greater_ray.errors import StoreError
from greater_ray.files import make_folder, write_atomic
from greater_ray.prediction import Hardware


def path_of(machine: str, dtype: str, threads: int) -> Path:
    """Return where the rates of a machine, named by its processor, are remembered."""
    # Rates of another kind, as other versions of this package have them, are others.
    form = ",".join(sorted(Hardware.model_fields))
    what = (machine, os.cpu_count(), metadata.version("torch"), dtype, threads, form)
    return cache_folder() / "rates" / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.json"


def remembered(machine: str, dtype: str, threads: int) -> Hardware | None:
    """Return the rates that were measured here before; None where there are none that can be read. Loads no torch."""
    try:
        return Hardware.model_validate_json(path_of(machine, dtype, threads).read_bytes())
    except (OSError, ValidationError):
        return None


def rates(
    machine: str,
    dtype: str,
    threads: int,
    tell: Callable[[str], None],
    measure: Callable[[str, str], Hardware] | None = None,
) -> Hardware:
    """Return the rates of this machine's CPU; ``tell`` hears one sentence when they are measured.

    ``measure`` takes the machine's name and a dtype, ``calibration.calibrate`` if it is left out.
    """
    known = remembered(machine, dtype, threads)
    if known is not None:
        return known
    import torch

    from greater_ray.models.calibration import calibrate

    kind = f"{dtype} on {threads} thread{'s' if threads > 1 else ''}"
    tell(f"measuring how fast this machine is in {kind}, about half a minute of processor time, once")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = (measure or calibrate)(machine, dtype)
    finally:
        torch.set_num_threads(before)
    path = path_of(machine, dtype, threads)
    try:
        make_folder(path.parent)
        write_atomic(path, found.model_dump_json(indent=1) + "\n")
    except (OSError, StoreError) as error:
        tell(f"these rates are not remembered: {error}")
    return found

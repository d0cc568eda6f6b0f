"""A grid as a script of its own, for ``ray submit``, which copies one file and nothing else."""

import argparse
from collections.abc import Mapping

from greater_ray.cli.app import run


def grid_script(description: str, presets: Mapping[str, str], default: str = "laptop") -> int:
    """Read ``--preset`` and ``--out``, hand everything else to ``greater-ray grid``, and return its exit code.

    ``presets`` maps the names of the script's presets to built-in grids.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--preset", choices=sorted(presets), default=default)
    parser.add_argument("--out", metavar="DIR", help="folder of the grid; the same command continues there")
    args, further = parser.parse_known_args()
    grid = presets[args.preset]
    return run(["grid", grid, "--out", args.out or f"runs/{grid}", *further])

"""GSM8K and FOLIO: the same grid on the paper's other benchmarks.

python pipelines/gsm8k_folio_grid.py
ray submit cluster.yaml pipelines/gsm8k_folio_grid.py -- --preset paper --replicas 4 --wait 1800 --out RESULTS

Without --out, results go to runs/ and the name of the grid. `ray submit` copies only this file, so configurations come
from the installed package. All options but --preset are those of `greater-ray grid`; its exit code is the one here.
"""

import argparse
import sys

from greater_ray.cli.app import run

PRESETS = {"laptop": "gsm8k-folio-laptop", "paper": "gsm8k-folio-paper"}


def main() -> int:
    """Read the preset and hand everything else to the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="laptop")
    parser.add_argument("--out", metavar="DIR", help="folder of the grid; the same command continues there")
    args, further = parser.parse_known_args()
    grid = PRESETS[args.preset]
    return run(["grid", grid, "--out", args.out or f"runs/{grid}", *further])


if __name__ == "__main__":
    sys.exit(main())

"""BBH: methods x tasks x models x seeds on Ray, from a laptop to a cluster.

python pipelines/bbh_grid.py --preset laptop --out runs/bbh
ray submit cluster.yaml pipelines/bbh_grid.py -- --preset paper --address auto --wait 1800 --out RESULTS

`ray submit` copies only this file, so configurations come from the installed package. All options but --preset are
those of `greater-ray grid`; its exit code is the one here.
"""

import argparse
import sys

from greater_ray.cli.app import run

PRESETS = {"laptop": "bbh-laptop", "smoke": "bbh-smoke", "paper": "bbh-paper"}


def main() -> int:
    """Read the preset and hand everything else to the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="laptop")
    args, further = parser.parse_known_args()
    return run(["grid", PRESETS[args.preset], *further])


if __name__ == "__main__":
    sys.exit(main())

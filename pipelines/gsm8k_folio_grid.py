"""GSM8K and FOLIO: the same grid on the paper's other benchmarks.

python pipelines/gsm8k_folio_grid.py --preset laptop --out runs/gsm8k_folio
ray submit cluster.yaml pipelines/gsm8k_folio_grid.py -- --preset paper --address auto --wait 1800 --out RESULTS

`ray submit` copies only this file, so configurations come from the installed package. All options but --preset are
those of `greater-ray grid`; its exit code is the one here.
"""

import argparse
import sys

from greater_ray.cli.app import run

PRESETS = {"laptop": "gsm8k-folio-laptop", "paper": "gsm8k-folio-paper"}


def main() -> int:
    """Read the preset and hand everything else to the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="laptop")
    args, further = parser.parse_known_args()
    return run(["grid", PRESETS[args.preset], *further])


if __name__ == "__main__":
    sys.exit(main())

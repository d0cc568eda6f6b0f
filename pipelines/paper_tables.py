"""The papers' tables: what is missing of them is run on Ray, and they are written beside the published numbers.

python pipelines/paper_tables.py                        # every table at the scale of a laptop, into runs/paper-smoke
ray submit cluster.yaml pipelines/paper_tables.py -- table1 --scale full --out RESULTS --replicas 4 --wait 1800

The table comes first. Without one it is all, without --scale it is smoke, without --out the folder is runs/paper-SCALE.
`ray submit` copies only this file, so tables come from the installed package. All other options are those of
`greater-ray paper run`; its exit code is the one here.
"""

import argparse
import sys

from greater_ray.cli.app import run


def main() -> int:
    """Read the table, scale and folder, and hand everything to the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scale", default="smoke", help="full or smoke")
    parser.add_argument("--out", metavar="DIR", help="folder of all tables; the same command continues there")
    words = sys.argv[1:]
    # Only the first word can be the table: others may be values of options that the command knows.
    table = words.pop(0) if words and not words[0].startswith("-") else "all"
    args, further = parser.parse_known_args(words)
    out = args.out or f"runs/paper-{args.scale}"
    return run(["paper", "run", table, "--scale", args.scale, "--out", out, *further])


if __name__ == "__main__":
    sys.exit(main())

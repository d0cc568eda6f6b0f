"""greater-race against GReaTer and the other methods, at equal tokens on tasks that it was not worked out on.

python pipelines/successor.py --set settings.task.data=FOLDER
python pipelines/successor.py --out RESULTS --set settings.model.dtype=bfloat16 --replicas 2

Runs the built-in grid bbh-successor, or continues it (a day on two CPU cores), and writes what the paired tests say so
far to against.md in its folder: also of an unfinished grid. All options but --out and --table-only are those of
`greater-ray grid`; its exit code is the one here.
"""

import argparse
import sys
from pathlib import Path

from greater_ray import load
from greater_ray.cli.app import run
from greater_ray.errors import GreaterRayError
from greater_ray.results.against import against, markdown

GRID, METHOD = "bbh-successor", "greater-race"


def main() -> int:
    """Run the grid, then compare the methods on what is finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", metavar="DIR", default=f"runs/{GRID}", help="folder of the grid; it continues there")
    parser.add_argument("--table-only", action="store_true", help="run nothing: compare what is finished")
    options, further = parser.parse_known_args()
    code = 0 if options.table_only else run(["grid", GRID, "--out", options.out, *further])
    try:
        table = markdown(against(load(options.out), METHOD))
    except GreaterRayError as error:
        print(f"no table yet: {error}", file=sys.stderr)
        return code or 1
    (Path(options.out) / "against.md").write_text(table)
    print(table)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""BBH: methods x tasks x models x seeds on Ray, from a laptop to a cluster.

python pipelines/bbh_grid.py
ray submit cluster.yaml pipelines/bbh_grid.py -- --preset paper --replicas 4 --wait 1800 --out RESULTS

Without --out, results go to runs/ and the name of the grid. `ray submit` copies only this file, so configurations come
from the installed package. All options but --preset are those of `greater-ray grid`; its exit code is the one here.
"""

import sys

from greater_ray.cli.scripts import grid_script

PRESETS = {"demo": "bbh-demo", "laptop": "bbh-laptop", "smoke": "bbh-smoke", "paper": "bbh-paper"}

if __name__ == "__main__":
    sys.exit(grid_script(__doc__, PRESETS))

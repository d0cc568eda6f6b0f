"""Transfer: measure the prompts that a grid found on other models, beside the prompts they started from.

python pipelines/transfer.py runs/bbh-laptop --to MODEL
python pipelines/transfer.py RESULTS --to MODEL --set model.dtype=bfloat16 --set replicas.gpus=1 --replicas 4 --wait 900

All options are those of `greater-ray transfer`; its exit code is the one here.
"""

import sys

from greater_ray.cli.app import run


def main() -> int:
    """Hand everything to the command."""
    return run(["transfer", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

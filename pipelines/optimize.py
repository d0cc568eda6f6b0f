"""Optimize one prompt through the Python interface: ``greater-ray optimize`` in forty lines.

python pipelines/optimize.py --model smollm2-135m --task bbh/navigate --data synthetic --steps 8 --out runs/navigate
"""

import argparse
from pathlib import Path

from greater_ray.assembly import resolve_config
from greater_ray.config import TrialConfig
from greater_ray.observer import Observer
from greater_ray.records import StepRecord
from greater_ray.runs import run_config
from greater_ray.settings import merged, parse_assignments


class Steps(Observer):
    """Prints one line per step."""

    def stepped(self, config: TrialConfig, record: StepRecord) -> None:
        """Print loss and prompt."""
        print(f"step {record.step}: loss {record.loss:.4f}, best {record.best_loss:.4f}: {record.prompt_text}")


def main() -> None:
    """Read the options, run, print what came of it."""
    parser = argparse.ArgumentParser(description="Optimize one prompt.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--method", default="greater")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--data", default="hub", help="hub, synthetic or a folder")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="run folder; the same command continues there")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="any setting, e.g. task.train_size=8")
    args = parser.parse_args()
    settings = {
        "model": {"name": args.model},
        "task": {"name": args.task, "data": args.data},
        "method": args.method,
        "preset": args.preset,
        "budget": {"steps": args.steps},
        "seed": args.seed,
    }
    config = resolve_config(merged(settings, parse_assignments(args.set)))
    record = run_config(config, args.out, observer=Steps())
    print(f"\nbefore: {record.initial.full_text}\nafter:  {record.best.full_text}")
    for change in record.comparisons:
        low, high = change.interval
        print(f"{change.split}: accuracy {change.difference:+.3f} [{low:.3f}, {high:.3f}], p = {change.p_value:.3g}")


if __name__ == "__main__":
    main()

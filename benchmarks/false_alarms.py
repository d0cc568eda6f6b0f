"""How often equal methods are called different, by each way of counting: the tables of docs/statistics.md.

    python benchmarks/false_alarms.py --tasks 1 --seeds 3 --rows 100 --effects 0 0.3 1.0 --draws 4000

Answers are made up: right or wrong by a logit that adds the difficulty of a row, how rows suit a method and a single
prompt, and how good a prompt a seed finds. Both methods are the same. 5 % is right.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from greater_ray.statistics.comparison import compare_over_tasks

_ROW_DIFFICULTY, _ROW_SUITS_METHOD, _ROW_SUITS_PROMPT = 1.5, 0.7, 0.7
_BOOTSTRAPS, _RESAMPLES = 1000, 500

Answers = NDArray[np.float64]


def draw(rng: np.random.Generator, tasks: int, seeds: int, rows: int, effect: float, logit: float) -> Answers:
    """Draw the answers of two equal methods, shape (tasks, 2, seeds, rows)."""
    logits = logit + rng.normal(0, _ROW_DIFFICULTY, (tasks, 1, 1, rows))
    logits = (
        logits + rng.normal(0, _ROW_SUITS_METHOD, (tasks, 2, 1, rows)) + rng.normal(0, effect, (tasks, 2, seeds, 1))
    )
    logits = logits + rng.normal(0, _ROW_SUITS_PROMPT, (tasks, 2, seeds, rows))
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float64)


def independent(before: Answers, after: Answers) -> bool:
    """McNemar's exact test over all answers of one task, as if seeds made new rows."""
    wins, losses = int((after > before).sum()), int((after < before).sum())
    return bool(2 * binom.cdf(min(wins, losses), wins + losses, 0.5) < 0.05)


def resampled(before: Answers, after: Answers, rng: np.random.Generator) -> bool:
    """Percentile bootstrap of rows, and of each method's seeds, on one task."""
    seeds, rows = before.shape
    by_row = rng.multinomial(rows, np.ones(rows) / rows, _RESAMPLES) / rows
    means = [
        (by_row @ x.T * rng.multinomial(seeds, np.ones(seeds) / seeds, _RESAMPLES) / seeds).sum(1)
        for x in (before, after)
    ]
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    return bool(low > 0 or high < 0)


def main() -> None:
    """Print one line per effect of seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--effects", type=float, nargs="+", default=[0.0, 0.3, 1.0], help="sd of seeds, in logits")
    parser.add_argument("--logit", type=float, default=0.0, help="of the accuracy: 0 is 50 %%, 2.5 about 87 %%")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for effect in options.effects:
        alarms: dict[str, list[bool]] = {}
        widths, estimates = [], []
        for number in range(options.draws):
            drawn = draw(rng, options.tasks, options.seeds, options.rows, effect, options.logit)
            result = compare_over_tasks(list(drawn[:, 0]), list(drawn[:, 1]))
            found = {"methods": result.p_value < 0.05, "prompts": result.prompts_p_value < 0.05}
            if options.tasks == 1:
                found["independent"] = independent(*drawn[0])
                if number < _BOOTSTRAPS:
                    found["bootstrap"] = resampled(*drawn[0], rng)
            for name, alarm in found.items():
                alarms.setdefault(name, []).append(alarm)
            widths.append((result.difference.high - result.difference.low) / 2)
            estimates.append(result.difference.estimate)
        rates = ", ".join(f"{name} {100 * np.mean(told):.1f} %" for name, told in alarms.items())
        known = 196 * np.std(estimates)
        print(f"effect of seeds {effect}: {rates}; half width {100 * np.mean(widths):.1f} points, known {known:.1f}")


if __name__ == "__main__":
    main()

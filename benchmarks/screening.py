"""Which screening predicts the order of candidates: their slope, losses under the current reasoning, or both?

    python -m benchmarks.screening --data FOLDER --out benchmarks/results/screening_DATE.md

Candidates are replacements of one token anywhere in greater-race's first start prompt, evenly over all slopes that one
backward pass gives. Every one reasons anew on the same training rows, and what the method goes by there is what is to
be predicted. Spearman's rank correlation; 1 is a perfect order. The last column is the most that can be hoped for: how
well the order on one half of the rows predicts that on the other.
"""

import argparse
import time
from collections.abc import Sequence
from math import fsum
from pathlib import Path

from scipy.stats import spearmanr, zscore

from benchmarks.bench_cluster import machine
from greater_ray.assembly import assemble, resolve_config
from greater_ray.methods._archive import start_ids
from greater_ray.methods._moves import gradient, replacing
from greater_ray.methods._race import Runner, asked, row_loss
from greater_ray.methods.greater_race import STARTS
from greater_ray.problem import problem_of
from greater_ray.types import LossSpec
from greater_ray.work import CheckPrompts, Rollouts

# Those on which greater-race was worked out.
TASKS = ("boolean_expressions", "navigate", "sports_understanding", "date_understanding")
HEAD = (
    "| task | candidates | slope | losses under the current reasoning | both | half of the rows against the other |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def correlated(one: Sequence[float], other: Sequence[float]) -> float:
    return float(spearmanr(one, other).statistic)


def line(task: str, options: argparse.Namespace) -> str:
    """Return a task's row of the table."""
    config = resolve_config(
        {
            "method": "greater-race",
            "model": {"name": options.model, "threads": 1, "dtype": options.dtype},
            "task": {"name": f"bbh/{task}", "data": options.data, "train_size": 50, "dev_size": 50, "test_size": 100},
            "decoding": {"max_reasoning_tokens": options.max_reasoning_tokens},
        }
    )
    problem = problem_of(assemble(config))
    rows = problem.rng(0, "rows").sample(problem.examples, options.rows)
    now = Runner(start_ids(problem, STARTS[0]))
    label = "choice" if problem.choices else "ce"
    slopes = gradient(problem, now, [rows], LossSpec(fluency="nll", fluency_weight=0.0, label=label), 10, "ascii")
    found = replacing(problem, now, slopes)
    checks = problem.model.ask(CheckPrompts([move.runner.prompt for move in found]))
    moves = [move for move, check in zip(found, checks, strict=True) if check.survives]
    moves = moves[:: max(1, len(moves) // options.candidates)][: options.candidates]
    prompts = [move.runner.prompt for move in moves]
    reasoning = [answer.rollout.reasoning for answer in asked(problem, [now.prompt], rows)[0]]
    work = [Rollouts(rows, [prompt], LossSpec(), reasoning=reasoning) for prompt in prompts]
    forced = [fsum(rollout.label_ce for rollout in problem.model.ask(one)[0]) for one in work]
    anew = [
        [row_loss(problem, row, answer, 1.0) for row, answer in zip(rows, answers, strict=True)]
        for answers in asked(problem, prompts, rows)
    ]
    truth, half = [*map(fsum, anew)], len(rows) // 2
    steep = [float(move.slope or 0.0) for move in moves]
    both = (zscore(steep) + zscore(forced)).tolist()
    halves = correlated([fsum(own[:half]) for own in anew], [fsum(own[half:]) for own in anew])
    cells = [*(f"{correlated(screen, truth):.2f}" for screen in (steep, forced, both)), f"{halves:.2f}"]
    return f"| {task} | {len(moves)} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--data", default="synthetic", help="as task.data: a folder with the official rows")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--max-reasoning-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="write a dated report there")
    options = parser.parse_args()
    print(HEAD, flush=True)
    lines = []
    for task in options.tasks:
        lines.append(line(task, options))
        print(lines[-1], flush=True)
    if options.out:
        title = f"# Which screening predicts the order of candidates\n\n{time.strftime('%Y-%m-%d')}, {machine()}."
        what = f"{options.model} in {options.dtype}, {options.rows} rows, at most {options.max_reasoning_tokens} tokens"
        options.out.write_text(f"{title} {what} of reasoning.\n\n{HEAD}\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

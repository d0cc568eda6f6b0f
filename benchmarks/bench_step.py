"""Time one GReaTer step: this engine against the published implementation's structure, same model, rows and choices.

Both run in this process, turn by turn from the same state, so a noisy machine slows both. Prints, for every step, the
seconds and tokens of each and whether their choices agree; then the ratios.

    python benchmarks/bench_step.py --steps 3
"""

import argparse
import platform
import statistics
import sys
import time
from typing import Any

import torch
from reference import ReferenceModel

from greater_ray.assembly import resolve_config
from greater_ray.methods.greater import PLUGIN, GreaterConfig
from greater_ray.models.engine import Engine
from greater_ray.protocols import Problem
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.tasks import extractor, load_task
from greater_ray.types import Usage
from greater_ray.work import Rollouts


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="bbh/object_counting")
    parser.add_argument("--data", default="synthetic", help="hub, synthetic or a folder")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--mu", type=int, default=3)
    parser.add_argument("--max-reasoning-tokens", type=int, default=48)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--shard-size", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bar", type=float, default=4.0, help="fail below this ratio of time per step")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    config = resolve_config(
        {
            "model": {"name": options.model, "threads": options.threads},
            "task": {"name": options.task, "data": options.data, "train_size": options.rows},
            "decoding": {"max_reasoning_tokens": options.max_reasoning_tokens},
            "shard_size": options.shard_size,
        }
    )
    task = load_task(config.task)
    engine = Engine.load(config.model, lambda text: print(text, file=sys.stderr))
    layout = config.make_layout(*extractor(task, config.task.extractor))
    examples = tuple(task.train())
    fast = ShardedModel(LocalExecutor(engine), layout, config.shard_size)
    slow = ReferenceModel(engine, layout)
    method = GreaterConfig(num_evaluated=options.mu, count_initial=False)
    source = task.provenance["source"]
    print(f"{config.task.name} ({source} rows), {len(examples)} rows, mu={options.mu}, ", end="")
    print(f"at most {options.max_reasoning_tokens} reasoning tokens, shard size {config.shard_size}")
    print(
        f"{options.model} {engine.facts['dtype']}, torch {torch.__version__}, {torch.get_num_threads()} threads, ",
        end="",
    )
    print(f"{platform.machine()}", flush=True)
    state = PLUGIN.start(Problem(examples, fast, 0), method)
    # The first prompt's reasoning is warm-up for both: from the second step on the engine always knows it.
    fast.ask(Rollouts(examples, [state.prompt_ids], method.loss))
    slow._generate(examples[:9], state.prompt_ids)
    ratios, token_ratios, same = [], [], True
    for step in range(options.steps):
        runs: dict[str, tuple[float, Usage, Any, Any]] = {}
        # Turns alternate in order, so that neither always finds the caches of the other warm.
        for name, model in (("fast", fast), ("slow", slow)) if step % 2 else (("slow", slow), ("fast", fast)):
            before, begin = model.usage, time.perf_counter()
            after, info = PLUGIN.step(Problem(examples, model, 0), method, state)
            runs[name] = (time.perf_counter() - begin, model.usage - before, after, info)
        (fast_s, fast_u, state, a), (slow_s, slow_u, other, b) = runs["fast"], runs["slow"]
        chosen = [[c.token for c in info.candidates] for info in (a, b)]
        same &= chosen[0] == chosen[1] and state == other.model_copy(update={"best": state.best})
        ratios.append(slow_s / fast_s)
        token_ratios.append(slow_u.tokens / fast_u.tokens)
        print(
            f"step {step + 1}: this engine {fast_s:6.1f} s {fast_u.tokens:6d} tokens | published structure "
            f"{slow_s:6.1f} s {slow_u.tokens:6d} tokens | {slow_s / fast_s:4.1f}x time, "
            f"{slow_u.tokens / fast_u.tokens:4.1f}x tokens | choices {'equal' if chosen[0] == chosen[1] else 'DIFFER'}",
            flush=True,
        )
    print(f"time per step: {statistics.median(ratios):.2f}x (min {min(ratios):.2f}, max {max(ratios):.2f})")
    print(f"tokens computed: {statistics.median(token_ratios):.2f}x; identical choices: {'yes' if same else 'NO'}")
    met = same and statistics.median(ratios) >= options.bar
    print(f"bar {options.bar}x with identical choices: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

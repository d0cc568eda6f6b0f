"""What the cost model says of a step against what the step takes: three shapes, and peak memory.

Rates are measured first, on matrix products and the like (``greater_ray.models.calibration``); no shape here has told
the model anything. Then, for every shape, the parts of a step are computed and timed in turns, in a program of its own
for the sake of its peak memory. Reasoning has exactly so many tokens, as no row is let end by itself. With one thread
times are processor time, so that other programs count for little.

    python -m benchmarks.predicted            # three shapes, a few minutes; --dtype bfloat16, --threads 2
    python -m benchmarks.predicted --tiny     # the mechanics, in seconds
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from greater_ray.assembly import resolve_config
from greater_ray.models.calibration import calibrate
from greater_ray.models.engine import Engine
from greater_ray.prediction import Hardware, Load, predict, shape_of
from greater_ray.tasks import extractor, load_task
from greater_ray.types import LossSpec, TokenIds, split_shards
from greater_ray.work import Answers, Gradients, Rollouts, Unit, Work

# Rows, tokens of the prompt, tokens of reasoning, candidates; the question's tokens are the rows' own.
SHAPES = ((8, 8, 24, 3), (24, 24, 48, 3), (16, 60, 96, 1))
TINY = ((3, 4, 3, 2),)
PARTS = ("questions", "reasoning", "gradient", "candidates", "final")
TIME, MEMORY = 0.25, 0.15  # the bars
DEPTH, LOSS = 42, LossSpec()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--task", default="bbh/object_counting")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="one small shape, rates of small products, no bars")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    return parser.parse_args()


class Step:
    """One model and one shape: its parts, and what is said of them."""

    def __init__(self, options: argparse.Namespace, shape: tuple[int, int, int, int]) -> None:
        rows, prompt, reasoning, candidates = shape
        config = resolve_config(
            {
                "model": {"name": options.model, "threads": options.threads, "dtype": options.dtype},
                "task": {"name": options.task, "data": "synthetic", "train_size": rows, "test_size": rows},
                "decoding": {"max_reasoning_tokens": reasoning},
            }
        )
        task = load_task(config.task)
        self.engine = Engine.load(config.model)
        endless = dataclasses.replace(self.engine.decoder, stop_tokens=frozenset(), blank_tokens=frozenset())
        self.engine.decoder = endless
        self.layout = config.make_layout(*extractor(task, config.task.extractor))
        self.shards = split_shards(tuple(task.train()), config.shard_size)
        self.tests = split_shards(tuple(task.test()), config.shard_size)
        words = [i for i, text in enumerate(self.engine._vocabulary()) if text.strip().isalpha()][: prompt + candidates]
        middle = prompt // 2
        self.prompts: list[TokenIds] = [
            (*words[:middle], words[prompt + k], *words[middle + 1 : prompt]) for k in range(candidates)
        ]
        spans, examples = self.engine.spans(self.layout), [e for shard in self.shards for e in shard]
        self.load = Load(
            rows=rows,
            question=round(statistics.mean(len(spans.head(e)) - 1 for e in examples)),
            prompt=prompt,
            reasoning=reasoning,
            candidates=candidates,
            shard_size=config.shard_size,
            suffix=len(spans.suffix(examples[0])),
            extractor=len(spans.extractor),
            label=max(len(spans.label(e)) for e in examples),
            answer=self.layout.max_answer_tokens,
            test_rows=len(task.test()),
        )

    def _each(self, work: Callable[[Any], Work[Any]], shards: Any) -> list[Any]:
        return [self.engine.run(Unit(work(shard), self.layout))[0] for shard in shards]

    def questions(self) -> None:
        """Keys and values of the questions, and no more than the first prompt's likeliest tokens behind them."""
        self.engine._prefixes.clear()
        for shard in self.shards:
            parts = self.engine._parts(shard, self.prompts[0], self.layout, 0)
            self.engine._prefix(parts, self.layout)

    def reasoning(self) -> None:
        """Reasoning and losses of one prompt."""
        found = self._each(lambda shard: Rollouts(shard, self.prompts[:1], LOSS), self.shards)
        self.known = [[rollout.reasoning for rollout in rollouts] for (rollouts,) in found]

    def gradient(self) -> None:
        """The gradient over all rows at the middle of the prompt."""
        known = iter(self.known)
        place = self.load.begun

        def work(shard: Any) -> Work[Any]:
            return Gradients(
                shard, self.prompts[0], LOSS, reasoning=next(known), position=place, depth=DEPTH, token_filter="none"
            )

        self._each(work, self.shards)

    def candidates(self) -> None:
        """Reasoning and losses of all candidates."""
        self._each(lambda shard: Rollouts(shard, self.prompts, LOSS), self.shards)

    def final(self) -> None:
        """Answers of the test rows under two prompts, one after the other."""
        self.engine._prefixes.clear()
        for prompt in (self.prompts[0], self.prompts[0][::-1]):
            self._each(lambda shard, prompt=prompt: Answers(shard, [prompt]), self.tests)  # type: ignore[misc]


def measure(options: argparse.Namespace, shape: tuple[int, int, int, int], hardware: Hardware) -> dict[str, Any]:
    """Time the parts in turns, after a first round; return seconds, bytes and what was said."""
    step = Step(options, shape)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in PARTS}
    for round_ in range(options.rounds + 1):
        for name in PARTS:
            begin = clock()
            getattr(step, name)()
            if round_:
                seconds[name].append(clock() - begin)
    known = shape_of(step.engine.config.to_dict(), options.dtype)
    assert known is not None
    said = predict(known, hardware, step.load)
    return {
        "load": dataclasses.asdict(step.load),
        "measured": {name: statistics.median(times) for name, times in seconds.items()},
        "spread": {name: max(times) / min(times) for name, times in seconds.items()},
        "predicted": {name: getattr(said, name) for name in PARTS},
        "memory": peak_bytes(),
        "said": said.memory._asdict() | {"peak": said.memory.peak},
    }


def peak_bytes() -> int:
    """Return the most memory that this process held."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def report(found: dict[str, Any]) -> bool:
    """Print one shape, measured against predicted; tell whether both bars are met."""
    load, measured, predicted = found["load"], found["measured"], found["predicted"]
    print("\n" + ", ".join(f"{name} {value}" for name, value in load.items() if value is not None))
    print("| | measured s | predicted s | predicted / measured | spread |\n| --- | ---: | ---: | ---: | ---: |")
    step = {"step": ("gradient", "candidates")} | {name: (name,) for name in PARTS}
    ratios = {}
    for name, parts in step.items():
        took, said = (sum(side[part] for part in parts) for side in (measured, predicted))
        ratios[name] = said / took
        spread = f"{found['spread'][name]:.2f}" if name in found["spread"] else ""
        print(f"| {name} | {took:.2f} | {said:.2f} | {said / took:.2f} | {spread} |")
    peak, memory = found["said"]["peak"], found["memory"]
    print(f"| peak memory, MiB | {memory / 2**20:.0f} | {peak / 2**20:.0f} | {peak / memory:.2f} | |", flush=True)
    return abs(ratios["step"] - 1) <= TIME and abs(peak / memory - 1) <= MEMORY


def main(options: argparse.Namespace) -> int:
    """Measure the rates, then every shape in a program of its own; return the exit code."""
    small = {"width": 64, "matrices": 2} if options.tiny else {}
    hardware = calibrate("this machine", options.dtype, **small)
    print(f"{options.model}, {options.dtype}, torch {torch.__version__}, {options.threads} threads")
    print(hardware.model_dump_json(), flush=True)
    met = []
    for shape in TINY if options.tiny else SHAPES:
        own = ["--model", options.model, "--dtype", options.dtype, "--threads", str(options.threads)]
        own += ["--task", options.task, "--rounds", "1" if options.tiny else str(options.rounds)]
        command = [sys.executable, "-m", "benchmarks.predicted", *own, "--shape", json.dumps(shape)]
        done = subprocess.run(command, input=hardware.model_dump_json(), stdout=subprocess.PIPE, text=True, check=True)
        met.append(report(json.loads(done.stdout.splitlines()[-1])))
    return 0 if options.tiny or all(met) else 1


if __name__ == "__main__":
    chosen = parse_arguments()
    torch.set_num_threads(chosen.threads)
    if chosen.shape:
        rates = Hardware.model_validate_json(sys.stdin.read())
        print(json.dumps(measure(chosen, tuple(json.loads(chosen.shape)), rates)))
        sys.exit(0)
    sys.exit(main(chosen))

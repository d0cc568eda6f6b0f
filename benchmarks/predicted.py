"""What the cost model says of a step against what the step takes: three shapes, and peak memory.

Rates are measured first, on matrix products and the like (``greater_ray.models.calibration``); no shape here has told
the model anything. Then, for every shape, the parts of a step are computed and timed in turns, in a program of its own
for the sake of its peak memory. Reasoning has exactly so many tokens, as no row is let end by itself. With one thread
times are processor time, so that other programs count for little.

    python -m benchmarks.predicted            # all shapes, many minutes; --dtype bfloat16, --threads 2
    python -m benchmarks.predicted --save FILE --figures docs/images
    python -m benchmarks.predicted --load FILE --figures docs/images      # draws what was measured before
    python -m benchmarks.predicted --tiny     # the mechanics with a tiny random model, in seconds

The formulas were worked out on the first three shapes. The fourth was never looked at before it was judged. All others
differ from ``BASE`` in one number, and are points of the figures.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from greater_ray.assembly import resolve_config
from greater_ray.decoder_shape import Shape, shape_of
from greater_ray.models.calibration import calibrate
from greater_ray.models.engine import Engine
from greater_ray.models.footprint import Footprint
from greater_ray.prediction import Hardware, Load, predict
from greater_ray.tasks import extractor, load_task
from greater_ray.types import LossSpec, TokenIds, split_shards
from greater_ray.work import Answers, Gradients, Rollouts, Unit, Work
from tests.families import tiny_model

# Rows, tokens of the prompt, tokens of reasoning, candidates; the question's tokens are the rows' own.
Numbers = tuple[int, int, int, int]
BASE: Numbers = (8, 8, 24, 3)
SHAPES: tuple[Numbers, ...] = (BASE, (24, 24, 48, 3), (16, 60, 96, 1), (12, 16, 32, 6))
AROUND: tuple[Numbers, ...] = (
    (16, 8, 24, 3), (24, 8, 24, 3), (8, 32, 24, 3), (8, 64, 24, 3), (8, 8, 48, 3), (8, 8, 96, 3), (8, 8, 24, 1),
    (8, 8, 24, 6),
)  # fmt: skip
TINY: tuple[Numbers, ...] = ((3, 4, 3, 2), (2, 4, 3, 2))
PARTS = ("questions", "reasoning", "gradient", "candidates", "final")
_NOTHING = Footprint(0, 0, 1.0)
TIME, MEMORY = 0.25, 0.15  # the bars
DEPTH, LOSS = 42, LossSpec()


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--task", default="bbh/object_counting")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="two small shapes, rates of small products, no bars")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what was measured there, as JSON")
    parser.add_argument("--load", type=Path, metavar="FILE", help="measure nothing, report what was saved")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw time and memory there")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    return parser.parse_args(given)


class Step:
    """One model and one shape: its parts, and what is said of them."""

    def __init__(self, options: argparse.Namespace, shape: Numbers) -> None:
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


def measure(options: argparse.Namespace, shape: Numbers, hardware: Hardware) -> dict[str, Any]:
    """Time the parts in turns, after a first round; return seconds, bytes and what was said."""
    step = Step(options, shape)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    parts = PARTS[:-1] if shape in AROUND else PARTS
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(options.rounds + 1):
        for name in parts:
            begin = clock()
            getattr(step, name)()
            if round_:
                seconds[name].append(clock() - begin)
    known = shape_of(step.engine.config.to_dict(), options.dtype)
    assert known is not None
    said = predict(known, hardware, step.load)
    return {
        "shape": dataclasses.asdict(known),
        "load": dataclasses.asdict(step.load),
        "measured": {name: statistics.median(times) for name, times in seconds.items()},
        "spread": {name: max(times) / min(times) for name, times in seconds.items()},
        "predicted": {name: getattr(said, name) for name in parts},
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
    step = {"step": ("gradient", "candidates")} | {name: (name,) for name in measured}
    ratios = {}
    for name, parts in step.items():
        took, said = (sum(side[part] for part in parts) for side in (measured, predicted))
        ratios[name] = said / took
        spread = f"{found['spread'][name]:.2f}" if name in found["spread"] else ""
        print(f"| {name} | {took:.2f} | {said:.2f} | {said / took:.2f} | {spread} |")
    peak, memory = found["said"]["peak"], found["memory"]
    print(f"| peak memory, MiB | {memory / 2**20:.0f} | {peak / 2**20:.0f} | {peak / memory:.2f} | |", flush=True)
    return abs(ratios["step"] - 1) <= TIME and abs(peak / memory - 1) <= MEMORY


def again(found: dict[str, Any], hardware: Hardware) -> dict[str, Any]:
    """Return what was measured of a shape with what is said of it now."""
    said = predict(Shape(**found["shape"]), hardware, Load(**found["load"]))
    return found | {
        "predicted": {name: getattr(said, name) for name in found["measured"]},
        "said": said.memory._asdict() | {"peak": said.memory.peak},
    }


def all_shapes(options: argparse.Namespace) -> tuple[Hardware, list[dict[str, Any]]]:
    """Measure the rates, then every shape in a program of its own; tiny ones in this one."""
    print(f"{options.model}, {options.dtype}, torch {torch.__version__}, {options.threads} threads")
    if options.tiny:
        hardware = calibrate("this machine", options.dtype, width=64, matrices=2, repeats=1, held=_NOTHING)
        return hardware, [measure(options, shape, hardware) for shape in TINY]
    hardware = calibrate("this machine", options.dtype)
    print(hardware.model_dump_json(), flush=True)
    found = []
    for shape in (*SHAPES, *AROUND):
        own = ["--model", options.model, "--dtype", options.dtype, "--threads", str(options.threads)]
        own += ["--task", options.task, "--rounds", str(options.rounds), "--shape", json.dumps(shape)]
        command = [sys.executable, "-m", "benchmarks.predicted", *own]
        done = subprocess.run(command, input=hardware.model_dump_json(), stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{shape}: {found[-1]['measured']}", file=sys.stderr, flush=True)
    return hardware, found


def main(options: argparse.Namespace) -> int:
    """Report every shape, and draw; return the exit code."""
    if options.load is not None:
        saved = json.loads(options.load.read_text(encoding="utf-8"))
        hardware, found = Hardware.model_validate(saved["hardware"]), saved["found"]
        found = [again(each, hardware) for each in found]
    elif options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            for part in tiny_model("llama"):
                part.save_pretrained(folder)
            options.model, options.rounds = folder, 1
            hardware, found = all_shapes(options)
    else:
        hardware, found = all_shapes(options)
    if options.save is not None:
        saved = {"hardware": hardware.model_dump(mode="json"), "found": found}
        options.save.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    met = [report(each) for each in found]
    if options.figures is not None:
        from benchmarks.predicted_figures import draw

        for path in draw(hardware, found, options.figures):
            print(path)
    return 0 if options.tiny or all(met) else 1


if __name__ == "__main__":
    chosen = parse_arguments()
    torch.set_num_threads(chosen.threads)
    if chosen.shape:
        rates = Hardware.model_validate_json(sys.stdin.read())
        print(json.dumps(measure(chosen, tuple(json.loads(chosen.shape)), rates)))
        sys.exit(0)
    sys.exit(main(chosen))

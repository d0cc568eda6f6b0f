"""What one GPU makes of a step, against its own limits and against the published structure. Minutes, and no network.

    python -m benchmarks.bench_gpu --out benchmarks/results/gpu.md
    python -m benchmarks.bench_gpu --device cpu --tiny        # the mechanics alone, on any machine

Models of Llama-3-8B's and Llama-3.2-1B's shape are made on the device from random numbers, so nothing is fetched. On a
machine with torch and transformers alone this needs pydantic and accelerate too; where that has no network:

    pip download --only-binary :all: -d wheels pydantic accelerate     (here)
    pip install --no-index --find-links wheels pydantic accelerate     (there)
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from benchmarks import gpu_parts as parts
from benchmarks.gpu_models import TINY, Load, engine_of
from benchmarks.gpu_parts import Row
from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError
from greater_ray.models._device import round_once
from greater_ray.models.engine import Engine

PARTS = ("environment", "exactness", "llama-3.2-1b", "llama-3-8b")
# What is asked of an H100 or better.
STEP, DECODE, GRADIENT = 25.0, 0.60, 0.45


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="models and rows that show the mechanics alone")
    parser.add_argument("--no-published", action="store_true", help="leave the published structure out")
    parser.add_argument("--rows", type=int, default=Load().rows)
    parser.add_argument("--tokens", type=int, default=Load().reasoning, help="tokens of reasoning, exactly")
    parser.add_argument("--seconds", type=float, default=500.0, help="begin no part after so many")
    parser.add_argument("--out", type=Path, help="a file for the report, in Markdown")
    return parser.parse_args(words)


class Report:
    """Collects tables, prints each row as it comes, and knows which bars were missed."""

    def __init__(self, *, on_gpu: bool) -> None:
        title = "A step on one GPU" if on_gpu else "A run of the mechanics, no GPU: no figure of time here counts"
        self.lines, self.on_gpu = [f"# {title}", ""], on_gpu
        self.missed: list[str] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)
        print(text, flush=True)

    def table(self, title: str) -> None:
        for line in ("", f"## {title}", "", "| what | figure | |", "| --- | --- | --- |"):
            self.say(line)

    def row(self, what: str, figure: str, remark: str = "") -> None:
        self.say(f"| {what} | {figure} | {remark} |")

    def bar(self, what: str, value: float, least: float, form: Callable[[float], str]) -> None:
        met = "met" if value >= least else "MISSED"
        if self.on_gpu and value < least:
            self.missed.append(what)
        self.row(what, form(value), f"bar {form(least)}: {met if self.on_gpu else 'for a GPU'}")


def environment(device: torch.device) -> list[Row]:
    rows = [
        (
            "Python, torch, transformers",
            f"{platform.python_version()}, {torch.__version__}, {transformers.__version__}",
            "",
        ),
        ("device", str(device), f"CUDA of torch: {torch.version.cuda or 'none'}"),
    ]
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        rows.append(
            ("GPU", facts.name, f"{facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}")
        )
        free = torch.cuda.mem_get_info(device)[0]
        rows.append(("free memory", f"{free / 2**30:.1f} GiB", ""))
    return rows


def exact_engine(device: torch.device, *, tiny: bool) -> tuple[Engine, str]:
    """Return the built-in model where this machine has it, else a small random one."""
    if not tiny:
        try:
            config = ModelConfig(name="smollm2-135m", device=str(device), dtype="float32")
            return Engine.load(config), config.name
        except GreaterRayError as error:
            print(f"the built-in model is not at hand: {error}", file=sys.stderr)
    return engine_of("tiny", device, torch.float32), "a small random model"


def measured(report: Report, shape: str, device: torch.device, load: Load, options: argparse.Namespace) -> None:
    """Measure one shape of model: a step, its parts against the hardware, and what it is compared with."""
    dtype = torch.float32 if options.tiny else torch.bfloat16
    report.table(f"{shape}, random weights, {str(dtype).removeprefix('torch.')}")
    rate, speed = parts.matrix_rate(device, dtype, tiny=options.tiny), parts.bandwidth(device, tiny=options.tiny)
    report.row("matrix products", f"{rate / 1e12:.2f} TFLOP/s", "measured now")
    report.row("memory, read and written", f"{speed / 1e9:.0f} GB/s", "measured now")
    engine = engine_of(shape, device, dtype)
    step = parts.Step(engine, load)
    gradient, rollouts = step.seconds(repeats=2)
    report.row("gradient of a step", f"{gradient:.3f} s", f"{load.rows} rows in {len(step.shards)} units")
    report.row("rollouts of a step", f"{rollouts:.3f} s", f"{load.candidates} prompts, {load.reasoning} tokens a row")
    report.row("step", f"{gradient + rollouts:.3f} s", "")
    report.bar(
        "gradient, of the matrix rate", sum(step.gradient_operations()) / gradient / rate, GRADIENT, "{:.1%}".format
    )
    for shards in (1, 2):
        token, needed, share = step.decode(shards, speed)
        rows = load.candidates * min(load.rows, shards * load.shard_size)
        report.row(f"a token of {rows} rows", f"{token * 1e3:.2f} ms", f"memory alone takes {needed * 1e3:.2f} ms")
        if shards == 2:
            report.bar(f"decode at {rows} rows, of the bandwidth", share, DECODE, "{:.1%}".format)
    if device.type == "cuda":
        peak, said = step.memory()
        report.row("peak memory above the weights", f"{peak / 2**30:.2f} GiB", f"formula {said / 2**30:.2f} GiB")
    rows = load.rows * load.candidates
    theirs = parts.hugging_face(engine, load, rows)
    report.row(f"transformers' generate, a token of {rows} rows", f"{theirs * 1e3:.2f} ms", "one batch, dynamic cache")
    if not options.no_published:
        seconds, told = parts.published(engine, load)
        for line in told:
            report.row(*line)
        report.row("published: a step, scaled", f"{seconds:.2f} s", "sum of the three, times their numbers")
        report.bar("step against the published structure", seconds / (gradient + rollouts), STEP, "{:.1f}x".format)


def main(words: list[str] | None = None) -> int:
    options = parse_arguments(words)
    device = torch.device(options.device)
    begin = time.monotonic()
    round_once(device)
    if options.tiny:
        torch.set_num_threads(1)  # what it computes is too small to share
        options.parts = [part for part in options.parts if part != "llama-3-8b"]
    load = TINY if options.tiny else Load(rows=options.rows, reasoning=options.tokens)
    report = Report(on_gpu=device.type == "cuda")
    report.say(f"{load.rows} rows, {load.candidates} candidates; tokens of a question {load.question}, of a prompt")
    report.say(f"{load.prompt}, of reasoning {load.reasoning}. Command:")
    report.say(f"`python -m benchmarks.bench_gpu {' '.join(words or sys.argv[1:])}`")
    for part in options.parts:
        if time.monotonic() - begin > options.seconds:
            report.table(f"{part}: left out, as {options.seconds:.0f} s were used up")
        elif part == "environment":
            report.table("Environment")
            for line in environment(device):
                report.row(*line)
        elif part == "exactness":
            engine, what = exact_engine(device, tiny=options.tiny)
            report.table(f"Exactness: {what} in float32")
            for line in parts.exactness(engine, TINY.layout(), TINY.shards()[0], TINY.prompts()[0]):
                report.row(*line)
        else:
            measured(report, "tiny" if options.tiny else part, device, load, options)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    report.say()
    missed = f" Bars missed: {', '.join(report.missed) or 'none'}." if report.on_gpu else ""
    report.say(f"Took {time.monotonic() - begin:.0f} s.{missed}")
    if options.out is not None:
        options.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())

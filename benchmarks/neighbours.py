"""How much decoding slows down beside another program on the same cores, by how long waiting threads spin.

    python -m benchmarks.neighbours --seconds 10 --rounds 3

A run is a process that decodes with the built-in model, on as many threads as there are cores. Every round measures
each setting alone and as two equal runs side by side, in turns. Prints passes a second: of one run alone, of each of
two, and how many times longer a pass takes beside the other (2 is what sharing the cores costs). It ends with 1 if that
is above ``--bar`` with the package's own setting.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

# None: as the package sets it.
SETTINGS: dict[str, dict[str, str] | None] = {
    "package": None,
    "libgomp's default": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def decode(seconds: float, rows: int) -> float:
    """Return passes of ``rows`` rows a second, over ``seconds`` of decoding."""
    import torch

    from greater_ray.config import ModelConfig
    from greater_ray.models.engine import Engine

    torch.manual_seed(0)
    engine = Engine.load(ModelConfig(name="smollm2-135m"))
    cache, tokens = None, torch.randint(100, 2000, (rows, 40))
    passes, begin = 0, time.perf_counter()
    with torch.no_grad():
        while time.perf_counter() - begin < seconds:
            if cache is None or passes % 60 == 0:
                cache = engine.model(tokens, use_cache=True, logits_to_keep=1).past_key_values
            logits = engine.model(tokens[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            logits.argmax(-1).tolist()
            passes += 1
    return passes / (time.perf_counter() - begin)


def measure(environment: dict[str, str] | None, how_many: int, options: argparse.Namespace) -> list[float]:
    """Run equal processes side by side; return the passes a second of each."""
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks.neighbours", "--one", f"--seconds={options.seconds}"]
    command.append(f"--rows={options.rows}")
    started = [
        subprocess.Popen(command, env=clean | (environment or {}), stdout=subprocess.PIPE, text=True)
        for _ in range(how_many)
    ]
    return [float(process.communicate()[0]) for process in started]


def main() -> int:
    """Measure every setting in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--bar", type=float, default=2.2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import greater_ray  # noqa: F401  (sets how long threads spin, before torch is there)

        print(decode(options.seconds, options.rows))
        return 0
    slower: dict[str, list[float]] = {name: [] for name in SETTINGS}
    alone: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for number in range(options.rounds):
        for name, environment in SETTINGS.items():
            (one,), two = measure(environment, 1, options), measure(environment, 2, options)
            alone[name].append(one)
            slower[name].append(one / statistics.mean(two))
            shown = " and ".join(f"{value:.2f}" for value in two)
            print(f"round {number + 1}, {name}: alone {one:.2f} passes/s, side by side {shown}", flush=True)
    for name in SETTINGS:
        spread = f"{min(slower[name]):.2f} to {max(slower[name]):.2f}"
        print(
            f"{name}: alone {statistics.median(alone[name]):.2f} passes/s, "
            f"side by side {statistics.median(slower[name]):.2f} times slower ({spread})"
        )
    met = statistics.median(slower["package"]) <= options.bar
    print(f"bar {options.bar} times with the package's setting: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

"""How many rows and texts one step of every method of the papers' tables takes: ``greater_ray/paper/costs.yaml``.

python -m benchmarks.paper_costs > greater_ray/paper/costs.yaml
python -m benchmarks.paper_costs --table          # the table of docs/reproducing.md

Methods run at the settings of each scale, on few rows (at full half as many for training as to choose by), with a
tiny random model that answers and one that writes a few random words in the form that is asked for. So counts are those
of a writer whose replies can nearly all be used. Steps that only begin a search are shared out among the first six.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from greater_ray.assembly import load_method, local_models
from greater_ray.config import TrialConfig
from greater_ray.paper.catalog import shared, tables
from greater_ray.paper.plan import View, grid_plan, plan_table
from greater_ray.runs import run_config
from greater_ray.trial import steps_at_most
from tests.families import tiny_model

STEPS = 6
TRAIN, DEV, TEST = 8, 16, 8


def probes(scale: str) -> dict[str, TrialConfig]:
    """Return one config for every method that searches at a scale, by its own name."""
    plans = [plan_table(name, View(scale=scale)) for name in tables()]
    configs = {cell.config.method: cell.config for cell in reversed(grid_plan(plans).cells)}
    return {name: config for name, config in sorted(configs.items()) if name not in ("fixed", "zero-shot-cot")}


def small(config: TrialConfig, model: str) -> TrialConfig:
    """Return a few steps of it on made rows."""
    dev = DEV if config.task.dev_size is None else TRAIN
    task = {"name": "bbh/navigate", "data": "synthetic", "train_size": TRAIN, "dev_size": dev, "test_size": TEST}
    own = steps_at_most(config.budget, *load_method(config), TRAIN) or STEPS
    value = config.model_dump(mode="json") | {
        "model": {"name": model, "threads": 1},
        "optimizer_model": {"name": "tests.babbler:load"},
        "task": {**config.task.model_dump(mode="json"), **task},
        "decoding": {"max_reasoning_tokens": 2, "max_answer_tokens": 2},
        "budget": {"steps": min(STEPS, own)},
        "evaluation": {"splits": ["test"], "dev_select_top": 0},
    }
    return TrialConfig.model_validate(value)


def print_table() -> None:
    """Print what every table costs at scale full, as Markdown."""
    done = subprocess.run(
        [sys.executable, "-m", "greater_ray", "paper", "list", "--json"], capture_output=True, check=True
    )
    print("| table | | cells | million tokens | GPU hours |\n| --- | --- | --- | --- | --- |")
    for e in json.loads(done.stdout)["tables"]:
        print(f"| {e['table']} | {e['title']} | {e['cells']:,} | {e['tokens'] / 1e6:,.1f} | {e['hours']:,.1f} |")


def main() -> None:
    """Print the counts as YAML."""
    if "--table" in sys.argv:
        print_table()
        return
    print("# Per step of a method at the settings of a scale: see benchmarks/paper_costs.py.")
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = tiny_model("llama")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        models = local_models()
        for scale, name, config in [(s, *item) for s in shared().scales for item in probes(s).items()]:
            if name == next(iter(probes(scale))):
                print(f"{scale}:")
            record = run_config(small(config, str(Path(folder))), models=models)
            search, final, steps = record.optimization_usage, record.evaluation_usage, max(1, record.steps)
            backward = search.backward_tokens / (final.tokens / final.calls)
            rows = max(0.0, search.calls - backward)
            per_row = TRAIN * steps
            print(
                f"  {name}: {{rows: {rows / per_row:.2f}, backward: {backward / per_row:.2f}, "
                f"texts: {record.optimizer_usage.calls / steps:.2f}, "
                f"written: {'true' if search.generated_tokens else 'false'}}}",
                flush=True,
            )
            print(f"{name}: {record.steps} steps, {record.stop_reason}, {record.proposals}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""A grid before it runs: its cells, what is done already, and what the rest will cost by a short probe."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greater_ray.cli._display import as_json
from greater_ray.cli._options import Given
from greater_ray.config import ModelConfig
from greater_ray.grid.cells import expand_grid, model_titles, replica_configs
from greater_ray.grid.config import GridConfig
from greater_ray.grid.estimate import Estimate, estimate
from greater_ray.grid.inputs import Inputs
from greater_ray.grid.run import open_cells
from greater_ray.grid.store import GridStore
from greater_ray.grid.transfer import transfer_models
from greater_ray.models.sizes import known as known_of
from greater_ray.prediction import Known
from greater_ray.progress.door import rewrite_line
from greater_ray.progress.screen import clock, console
from greater_ray.provenance import processor

_MEASURING = 60.0  # seconds


def print_plan(
    grid: GridConfig,
    out: Path,
    only: dict[str, list[str]],
    given: Given,
    *,
    probe: bool,
    replicas: int | None,
    retry_failed: bool,
) -> None:
    """Print the plan; nothing is run but the probe, nothing is written."""
    cells = expand_grid(grid, only)
    models = transfer_models(cells[0].config, grid.transfer)
    inputs, store = Inputs(cells), GridStore(out)
    states = [state.state for _, state in inputs.states(store, cells)]
    todo = open_cells(store, cells, inputs, retry_failed)
    costs: dict[str, Estimate] = {}
    if probe and todo:
        from greater_ray.assembly import local_models

        def tell(text: str) -> None:
            if sys.stderr.isatty():
                rewrite_line(text)

        tell("probing: one step of every method on a few rows")
        costs = dict(zip((c.trial_id for c in todo), estimate(todo, local_models(tell), _knows), strict=True))
        tell("")
    entries: list[dict[str, Any]] = [
        {**cell.labels, "trial_id": cell.trial_id, "state": state} for cell, state in zip(cells, states, strict=True)
    ]
    for entry in entries:
        cost = costs.get(entry["trial_id"])
        if cost is not None:
            entry |= {"tokens": round(cost.tokens), "seconds": round(cost.seconds, 1), "note": cost.note}
            entry["by"] = "cost model" if cost.by_model else "probe"
    # Each is one evaluation of a prompt that is not known yet, where the target is another model than its own.
    transfers = sum(cell.config.model != model for cell in cells for model in models)
    targets = [str(entry.get("label", entry["name"])) for entry in grid.transfer.models]
    count = replicas or grid.replicas.count or 1
    known = [c for c in costs.values() if c.note is None]
    total: dict[str, Any] = {"cells": len(cells), "done": states.count("done"), "to_run": len(todo)}
    if targets:
        total["transfers"] = transfers
    served = replica_configs(grid)
    titles = model_titles(model for cell in cells for model in (*cell.models, *models))
    each = {title: served.get(model, grid.replicas).gpus_of(model, lambda: False) for model, title in titles.items()}
    several = {title: gpus for title, gpus in each.items() if gpus > 1}
    if several:
        total["gpus_per_replica"] = several
    if probe:
        tokens, seconds = sum(c.tokens for c in known), sum(c.seconds for c in known)
        total |= {"tokens": round(tokens), "replica_seconds": round(seconds, 1), "replicas": count}
        total["hours"] = round(seconds / count / 3600, 3)
    if given.json:
        sys.stdout.write(as_json({"cells": entries, "total": total}) + "\n")
        return
    screen = console(sys.stdout, given.no_color)
    for entry in entries:
        cost_text = ""
        if entry.get("note"):
            cost_text = f"  no estimate: {entry['note']}"
        elif "tokens" in entry:
            cost_text = f"  about {entry['tokens']:,} tokens, {clock(entry['seconds'])} on one replica"
        title = f"{entry['method']} on {entry['task']} with {entry['model']}, seed {entry['seed']}"
        screen.print(f"{entry['state']:<7}{title}{cost_text}", soft_wrap=True)
    screen.print(f"{total['cells']} cells, {total['done']} done, {total['to_run']} to run", style="bold")
    for title, gpus in several.items():
        screen.print(f"each replica of {title} takes {gpus:g} GPUs of one machine", soft_wrap=True)
    if targets:
        screen.print(f"then {transfers} of transfer at most, to {', '.join(targets)} (not estimated)", soft_wrap=True)
    if known:
        screen.print(
            f"about {total['tokens']:,} tokens and {total['hours']:,.2f} hours ({clock(total['hours'] * 3600)}) with "
            f"{count} replica{'s' if count > 1 else ''} (an order of magnitude, {_basis(known)})",
            soft_wrap=True,
        )


def _basis(costs: Sequence[Estimate]) -> str:
    """Say where the times of some cells are from."""
    modelled = sum(cost.by_model for cost in costs)
    if not modelled:
        return "from a probe on this machine"
    cells = "all" if modelled == len(costs) else f"{modelled} of {len(costs)} cells"
    return f"from a probe on this machine; times of {cells} by the cost model with the probe's lengths"


def _knows(config: ModelConfig, seconds: float) -> Known | None:
    """Return what the cost model needs; rates are measured where a cell takes longer than measuring them."""
    found = known_of(processor(), config, _say if seconds > _MEASURING else None)
    return found if isinstance(found, Known) else None


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")

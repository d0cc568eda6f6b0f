"""Folders of tables without models: every cell of a plan gets a record whose answers are drawn by its trial's id."""

import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from greater_ray.config import TrialConfig, fingerprint
from greater_ray.grid.cells import Cell
from greater_ray.grid.transfer import transfer_cell
from greater_ray.paper.plan import TablePlan, grid_plan
from greater_ray.paper.store import PaperStore
from greater_ray.provenance import package_version
from greater_ray.records import EvaluationRecord, PromptRecord, RunConfigFile, TrialRecord
from greater_ray.statistics import score_interval

RUN = Path(__file__).parent / "recorded" / "0.1.0" / "greater-finished"
Rate = Callable[[Cell], float]


@cache
def _template() -> TrialRecord:
    return TrialRecord.model_validate_json((RUN / "record.json").read_bytes())


def made_record(config: TrialConfig, rate: float, rows: int) -> TrialRecord:
    """Return a record in which about this share of the test rows is answered rightly."""
    base = _template()
    rng = random.Random(config.trial_id())
    prompt = PromptRecord(ids=(1, 2), text=f"P{config.seed}", full_text=f"P{config.seed}", survives_retokenization=True)
    start = prompt.model_copy(update={"ids": (1,), "full_text": "P"})
    one = base.evaluations[0].examples[0]
    evaluations = []
    for found in (start, prompt):
        scores = [float(rng.random() < rate) for _ in range(rows)]
        limits = score_interval(scores)
        examples = tuple(
            one.model_copy(update={"id": f"{config.task.name}#{k}", "score": s, "strict_score": s})
            for k, s in enumerate(scores)
        )
        evaluations.append(
            EvaluationRecord.model_validate(
                base.evaluations[0].model_dump()
                | {
                    "split": "test",
                    "prompt_ids": found.ids,
                    "num_examples": rows,
                    "accuracy": sum(scores) / rows,
                    "accuracy_interval": (limits.low, limits.high),
                    "examples": [example.model_dump() for example in examples],
                }
            )
        )
    return base.model_copy(
        update={
            "trial_id": config.trial_id(),
            "config": config,
            "initial": start,
            "best": prompt,
            "finalists": (),
            "evaluations": tuple(evaluations),
            "comparisons": (),
            "model": {**base.model, "weights": fingerprint(config.model.name), "dtype": config.model.dtype},
            "task": {**base.task, "name": config.task.name, "rows_sha256": fingerprint(config.task.name)},
            "environment": {**base.environment, "versions": {"greater-ray": package_version()}},
        }
    )


def write_cell(store: PaperStore, cell: Cell, rate: float, rows: int) -> TrialRecord:
    """Write the run folder of a finished cell."""
    record = made_record(cell.config, rate, rows)
    folder = store.grid.cells / f"{cell.slug}-{cell.trial_id}-00000000"
    folder.mkdir(parents=True, exist_ok=True)
    noted = RunConfigFile(trial_id=cell.trial_id, config=cell.config)
    (folder / "config.json").write_text(noted.model_dump_json() + "\n")
    value = json.loads(record.model_dump_json())
    (folder / "record.json").write_text(json.dumps(value, indent=1) + "\n")
    return record


def made_tables(
    folder: Path, plans: Sequence[TablePlan], rate: Rate = lambda cell: 0.5, rows: int = 20, *, skip: Sequence[str] = ()
) -> PaperStore:
    """Return a folder in which some tables are done, but for cells of the methods in ``skip``."""
    store = PaperStore(folder)
    store.begin({plan.table.name: plan.view for plan in plans})
    found = grid_plan(plans)
    records = {c.trial_id: write_cell(store, c, rate(c), rows) for c in found.cells if c.method not in skip}
    transfers = [
        transfer_cell(records[source.trial_id], source, to.models[0], to.splits)
        for sources, to in found.transfers
        for source in sources
        if source.trial_id in records
    ]
    for cell in transfers:
        write_cell(store, cell, rate(cell), rows)
    store.grid.claim()
    store.grid.write_grid("paper", [*found.cells, *transfers], whole=False)
    store.grid.close()
    done = [cell.trial_id for cell in [*found.cells, *transfers] if cell.method not in skip]
    store.seal(store.grid.states(dict.fromkeys(done)).items())
    return store

"""Single runs: a config's parts, its folder and the loop; and one prompt measured on its own."""

from collections.abc import Callable, Mapping
from pathlib import Path

from greater_ray.assembly import Models, Parts, assemble, load_subject, row_hash
from greater_ray.config import TrialConfig
from greater_ray.demonstrations import evaluation_demonstrations, fitting
from greater_ray.errors import ConfigError, unknown_name
from greater_ray.evaluation import evaluate
from greater_ray.observer import Observer
from greater_ray.problem import inferred, moved, not_run
from greater_ray.protocols import SPLITS, encoded, rows_of
from greater_ray.records import EvaluationRecord, TrialRecord
from greater_ray.store import NoLines, RunStore, Unsaved, refuse_foreign
from greater_ray.trial import Trial
from greater_ray.types import TokenIds


def run_config(
    config: TrialConfig,
    out: Path | None = None,
    *,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    models: Models | None = None,
) -> TrialRecord:
    """Run, or continue, the optimization that a resolved config describes; ``models`` says where its models run.

    Raises:
        GreaterRayError: a wrong setting, wrong data, an unusable model or folder; ``Interrupted`` when asked to stop.
    """
    if out is None:
        return Trial(assemble(config, models), Unsaved(), observer, should_stop).run()
    refuse_foreign(out)
    if not (out / "config.json").exists():
        # Only once all is loaded is a new folder claimed: a mistyped model leaves nothing behind.
        return run_parts(assemble(config, models), out, observer=observer, should_stop=should_stop)
    with RunStore(out, config) as store:
        # A folder that is finished, or belongs to another run, is told before the long part.
        task = None
        if config.task.data != "hub" or config.task.rows is not None:
            from greater_ray.tasks import load_task

            task = load_task(config.task)
            store.match_inputs(row_hash(task))
        record = store.load_record()
        if record is not None:
            (observer or Observer()).finished(record)
            return record
        parts = assemble(config, models, task)
        store.match_inputs(parts.inputs)
        return Trial(parts, store, observer, should_stop).run()


def run_parts(
    parts: Parts,
    out: Path,
    *,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    files: Mapping[str, str] | None = None,
) -> TrialRecord:
    """Run, or continue, a trial whose parts are at hand.

    ``files`` are hashes of the models' files, noted in ``config.json`` beside those of rows and weights.

    Raises:
        GreaterRayError: as ``run_config``.
    """
    refuse_foreign(out)
    with RunStore(out, parts.config) as store:
        store.match_inputs({**parts.inputs, **(files or {})})
        return Trial(parts, store, observer, should_stop).run()


def evaluate_prompt(
    config: TrialConfig,
    prompt: str | TokenIds,
    split: str = "test",
    *,
    on_rows: Callable[[int, int], None] = lambda done, of: None,
    message: Callable[[str], None] = lambda text: None,
    models: Models | None = None,
) -> EvaluationRecord:
    """Score one prompt, given as text or as token ids, on a split, as a trial's final evaluation does.

    Raises:
        ConfigError: the prompt is empty or the split is unknown or has no rows.
    """
    subject = load_subject(config, models)
    task, model = subject.task, subject.model
    for note in filter(None, (inferred(task), moved(config, subject.facts), not_run(config, subject.facts))):
        message(note)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    ids = encoded(model, prompt) if isinstance(prompt, str) else prompt
    if not ids:
        raise ConfigError(f"{prompt!r} has no tokens; give at least one word.", setting="prompt", value=prompt)
    rows = rows_of(task, split)
    if not rows:
        raise ConfigError(f"'{split}' of '{config.task.name}' has no rows.", setting="split", value=split)
    shown = fitting(model, evaluation_demonstrations(config, task), [ids], rows, message)
    return evaluate(task, model.showing(shown, ids), split, rows, ids, NoLines(), on_rows=on_rows).record

"""Phase two: every optimized prompt on every target model, beside the prompt it started from, on the same rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from greater_ray.assembly import resolve_config
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.errors import ConfigError, StoreError
from greater_ray.grid.cells import Cell, model_settings, title_of
from greater_ray.grid.config import Entry, TransferConfig
from greater_ray.grid.store import GridStore
from greater_ray.records import TrialRecord
from greater_ray.settings import merged


class Missing(NamedTuple):
    """A source without a record that can be read: its transfers are not skipped in silence, they are listed."""

    source: str
    reason: str


def plan_transfer(
    store: GridStore,
    sources: Iterable[Cell],
    transfer: TransferConfig,
    inputs: Callable[[Cell], Mapping[str, str]],
) -> tuple[list[Cell], list[Missing]]:
    """Build the cells of phase two from the records of phase one; a failed source is listed as missing.

    ``inputs`` gives the hashes of a source's rows and weights as they are now: records of earlier ones do not count.
    Two sources that found the same prompt share one trial.
    """
    cells: list[Cell] = []
    missing = []
    sources = list(sources)
    states = store.states({source.trial_id: inputs(source) for source in sources})
    for source in sources:
        state = states[source.trial_id]
        if state.state != "done" or state.folder is None:
            missing.append(Missing(source.title, state.reason or "not finished"))
            continue
        try:
            record = store.record(state.folder)
        except StoreError as error:
            missing.append(Missing(source.title, str(error)))
            continue
        for entry in transfer.models:
            cell = transfer_cell(record, source, entry, transfer.splits)
            # Under the source's own model the prompt is measured already; with another dtype it is another model.
            if cell.config.model != record.config.model:
                cells.append(cell)
    return cells, missing


def sources_in(store: GridStore) -> tuple[list[Cell], list[Missing]]:
    """Return the cells of phase one that a grid's folder holds, and those without a record that can be read."""
    cells, missing = [], []
    entries = [entry for entry in store.entries() if entry.source is None]
    states = store.states(dict.fromkeys(entry.trial_id for entry in entries))
    for entry in entries:
        state = states[entry.trial_id]
        if state.state != "done" or state.folder is None:
            missing.append(Missing(title_of(entry.labels), state.reason or "not finished"))
            continue
        try:
            cells.append(Cell(config=store.record(state.folder).config, **entry.labels))
        except StoreError as error:
            missing.append(Missing(title_of(entry.labels), str(error)))
    return cells, missing


def transfer_models(config: TrialConfig, transfer: TransferConfig) -> list[ModelConfig]:
    """Return the target models as phase two will name them, before there is a prompt for them.

    ``config`` is that of a cell of phase one.

    Raises:
        ConfigError: a target cannot be resolved.
    """
    return [_measuring("Think.", None, config, entry, transfer.splits).model for entry in transfer.models]


def transfer_cell(record: TrialRecord, source: Cell, entry: Entry, splits: Iterable[str]) -> Cell:
    """Return the cell that measures a record's prompt on one target model; text is what travels, not token ids."""
    best, first = record.best.full_text, record.initial.full_text
    own, common = ({"demonstrations": p.given(), "nearest": p.nearest} for p in (record.best, record.initial))
    reference = None if (best, own) == (first, common) else first
    shown = {"evaluation": common} if own == common else {"method_config": own}
    return Cell(
        config=_measuring(best, reference, record.config, entry, splits, shown if record.best.demonstrations else {}),
        method=source.method,
        task=source.task,
        model=str(entry.get("label", entry["name"])),
        seed=source.seed,
        source=record.trial_id,
        source_model=source.model,
    )


def _measuring(
    prompt: str,
    reference: str | None,
    config: TrialConfig,
    entry: Entry,
    splits: Iterable[str],
    shown: Mapping[str, Any] | None = None,
) -> TrialConfig:
    """Return what measures two prompts on a target model, with rows and texts of the source's config.

    ``shown`` are settings for the demonstrations that stood with the source's prompts.
    """
    settings = merged(
        {
            "model": model_settings({key: value for key, value in entry.items() if key in ModelConfig.model_fields}),
            "task": config.task.model_dump(mode="json", exclude={"extractor"}),
            "method": "fixed",
            "method_config": {"prompt": prompt, "reference": reference},
            "layout": {**config.layout.model_dump(), "frozen_prefix": ""},
            "decoding": config.decoding.model_dump(),
            "evaluation": {"splits": list(splits)},
            "shard_size": config.shard_size,
        },
        shown or {},
    )
    try:
        return resolve_config(settings)
    except ConfigError as error:
        why = f"{entry['name']}: {error.told(lambda key: f'§{key}')}"
        raise ConfigError(why, setting="transfer.models") from error

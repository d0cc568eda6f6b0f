"""FOLIO: does a statement follow from premises; true, false or uncertain, asked as options A to C (paper App. A)."""

import re
from functools import partial
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.protocols import Task
from greater_ray.tasks._files import read_jsonl
from greater_ray.tasks._forms import letter_form
from greater_ray.tasks._sources import Row, Source, check_data_option, find_file, read_hub
from greater_ray.tasks._splits import DEV, SPLITS, TRAIN, first_of_each, grouped, shuffled
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest, refuse_other_type
from greater_ray.types import Example

# An open copy; the authors' own "yale-nlp/FOLIO" asks every user to request access.
HUB_ID = "tasksource/folio"
FORM = letter_form(3)
_ANSWERS = {"true": "(A)", "false": "(B)", "uncertain": "(C)", "unknown": "(C)"}  # v0.0 writes both of the last


def load(name: str, config: TaskConfig) -> Task:
    """Build FOLIO from the hub or from a folder with the official files.

    Raises:
        ConfigError: ``task.data`` is unusable or a setting does not apply.
    """
    refuse_other_type(name, config, FORM)
    check_data_option(config.data)
    if config.data == "synthetic":
        raise ConfigError(
            f"'{name}' has no synthetic rows; see bbh/web_of_lies, which has.", setting="task.data", value="synthetic"
        )
    return RowTask(name, FORM, partial(_load_rows, config))


def _source(config: TaskConfig, split: str) -> Source:
    if config.data == "hub":
        return read_hub(HUB_ID, split)
    file = find_file(config.data, [f"folio/folio-{split}.jsonl", f"folio-{split}.jsonl"], "folio")
    return read_jsonl(file, "task.data")


def _premises(row: Row) -> list[str]:
    """Premises one a line; version 0.0 has a list, version 2 one text with line breaks."""
    premises = row.values.get("premises") or []
    lines = premises.splitlines() if isinstance(premises, str) else [str(premise) for premise in premises]
    return [line.strip() for line in lines if line.strip()]


def _story(row: Row) -> frozenset[str]:
    """The premise set, whatever the order and the blanks."""
    return frozenset(re.sub(r"\s+", " ", premise).casefold() for premise in _premises(row))


def _example(split: str, row: Row) -> Example | None:
    """Write one row in the paper's form, or None if a part is missing."""
    target = _ANSWERS.get(str(row.values.get("label", "")).strip().lower())
    conclusion = str(row.values.get("conclusion") or "").strip()
    premises = "\n".join(_premises(row))
    if target is None or not conclusion or not premises:
        return None
    question = (
        f"Premise:\n{premises}\n\n"
        "Question:\nIs the following statement true, false or uncertain, given the premise?\n"
        f"Statement: {conclusion}\n"
        "Options:\n(A) True\n(B) False\n(C) Uncertain"
    )
    return Example(f"folio/{split}#{row.index}", question, target, target[1])


def _version(validation: Source) -> str:
    """Tell the two published versions apart: they differ in the form of the premises."""
    as_list = not isinstance(validation.rows[0].values.get("premises"), str)
    return "v0.0 (premises as a list)" if as_list else "v2 (premises as one text)"


def _train_and_dev(train: Source, test: Source, seed: int) -> tuple[list[Row], list[Row]]:
    """Take whole stories in a seeded order: no premise set is in two splits.

    The story that fills a split up is cut, and what is left of it is not used at all.
    """
    stories = [_story(row) for row in train.rows]
    in_test = {_story(row) for row in test.rows}
    groups = shuffled([group for group in grouped(stories) if stories[group[0]] not in in_test], seed, "folio-stories")
    splits: tuple[list[Row], list[Row]] = ([], [])
    remaining = iter(groups)
    for rows, size in zip(splits, (TRAIN, DEV), strict=True):
        while len(rows) < size:
            group = next(remaining, None)
            if group is None:
                raise DataError(
                    f"'{train.origin['location']}' has too few rows for {TRAIN} train and {DEV} dev.",
                    setting="task.data",
                )
            rows.extend(train.rows[i] for i in group[: size - len(rows)])
    return splits


def _load_rows(config: TaskConfig) -> Loaded:
    train, test = _source(config, "train"), _source(config, "validation")
    dropped: list[dict[str, str]] = []
    usable: dict[str, Source] = {}
    for split, source in (("train", train), ("validation", test)):
        kept = tuple(row for row in source.rows if _example(split, row) is not None)
        lost = sorted({row.index for row in source.rows} - {row.index for row in kept})
        dropped += [{"id": f"folio/{split}#{i}", "reason": "no premises, no conclusion or no label"} for i in lost]
        if not kept:
            raise DataError(
                f"'{source.origin['location']}' holds no FOLIO rows (premises, conclusion, label).", setting="task.data"
            )
        usable[split] = Source(kept, source.origin)
    train_rows, dev_rows = _train_and_dev(usable["train"], usable["validation"], config.seed)
    places = (("train", train_rows), ("train", dev_rows), ("validation", usable["validation"].rows))
    rows = {
        split: [example for row in chosen if (example := _example(source_split, row))]
        for split, (source_split, chosen) in zip(SPLITS, places, strict=True)
    }
    all_rows = [example for split in SPLITS for example in rows[split]]
    chosen_rows = first_of_each(rows, config, "folio")
    provenance: dict[str, Any] = {
        "source": train.origin["source"],
        "location": train.origin["location"],
        "version": _version(usable["validation"]),
        "rows": len(train.rows) + len(test.rows),
        "files": {"train": train.origin, "validation": test.origin},
        "split_rule": f"50 train and 100 dev rows from stories of the official train split in an order drawn from seed "
        f"{config.seed}, no premise set in two splits; test is the official validation split",
        "rows_sha256": digest(all_rows),
        "dropped": dropped,
        "duplicates": [
            [all_rows[i].id for i in group] for group in grouped([e.question for e in all_rows]) if len(group) > 1
        ],
    }
    return Loaded(chosen_rows["train"], chosen_rows["dev"], chosen_rows["test"], provenance)


PLUGIN = Family(
    tasks=(TaskInfo("folio", "letter", (), "does a statement follow from premises", False),),
    load=load,
)

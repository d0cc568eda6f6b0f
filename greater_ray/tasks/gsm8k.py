"""GSM8K: grade-school word problems with an integer answer, split as in the paper (App. A.1)."""

import re
from functools import cache, partial
from importlib.resources import files

import yaml

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.protocols import Task
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._sources import Row, Source, check_data_option, find_file, read_hub, read_jsonl
from greater_ray.tasks._splits import SPLITS, first_of_each
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest, refuse_other_type
from greater_ray.types import Example

HUB_ID = "openai/gsm8k"
FORM = AnswerForm("number")
_CALCULATOR = re.compile(r"<<[^<>]*>>")


@cache
def paper_indices() -> dict[str, list[int]]:
    """Rows of the official train split that the paper trained on and selected by."""
    text = files("greater_ray.tasks").joinpath("gsm8k_indices.yaml").read_text(encoding="utf-8")
    indices: dict[str, list[int]] = yaml.safe_load(text)
    return indices


def load(name: str, config: TaskConfig) -> Task:
    """Build GSM8K from the hub or from a folder with the official ``train.jsonl`` and ``test.jsonl``.

    Raises:
        ConfigError: ``--data`` is unusable or a setting does not apply.
    """
    refuse_other_type(name, config, FORM)
    check_data_option(config.data)
    if config.data == "synthetic":
        raise ConfigError(f"'{name}' has no synthetic rows; see bbh/object_counting, which has.", setting="task.data")
    return RowTask(name, FORM, partial(_load_rows, config))


def _source(config: TaskConfig, split: str) -> Source:
    if config.data == "hub":
        return read_hub(HUB_ID, split, "main")
    return read_jsonl(find_file(config.data, [f"gsm8k/{split}.jsonl", f"{split}.jsonl"], "gsm8k"), "task.data")


def _example(split: str, row: Row) -> Example | None:
    """Build one row; the gold answer is what follows ``####``, scored without thousands separators.

    The rationale is the solution in front of it, without the marks of a calculator.
    """
    solution, mark, answer = str(row.values.get("answer", "")).rpartition("####")
    target = answer.strip()
    label = FORM.label(target) if mark else None
    question = str(row.values.get("question", "")).strip()
    if not (label and question):
        return None
    rationale = _CALCULATOR.sub("", solution).strip() or None
    return Example(f"gsm8k/{split}#{row.index}", question, target, label, rationale=rationale)


def _load_rows(config: TaskConfig) -> Loaded:
    train, test = _source(config, "train"), _source(config, "test")
    indices = paper_indices()
    needed = max(max(indices["train"]), max(indices["dev"])) + 1
    if len(train.rows) < needed:
        location = train.origin["location"]
        raise DataError(
            f"'{location}' has {len(train.rows)} rows; the official train split (7473) is needed.", setting="task.data"
        )
    chosen_rows = {
        "train": [("train", train.rows[i]) for i in indices["train"]],
        "dev": [("train", train.rows[i]) for i in indices["dev"]],
        "test": [("test", row) for row in test.rows],
    }
    rows: dict[str, list[Example]] = {split: [] for split in SPLITS}
    dropped: list[dict[str, str]] = []
    for split, places in chosen_rows.items():
        for source_split, row in places:
            example = _example(source_split, row)
            if example is None:
                reason = "no question, or no number after ####"
                dropped.append({"id": f"gsm8k/{source_split}#{row.index}", "reason": reason})
            else:
                rows[split].append(example)
    chosen = first_of_each(rows, config, "gsm8k")
    provenance = {
        "source": train.origin["source"],
        "location": train.origin["location"],
        "rows": len(train.rows) + len(test.rows),
        "files": {"train": train.origin, "test": test.origin},
        "split_rule": "the paper's 100 train and 100 dev rows of the official train split; test is the official one",
        "rows_sha256": digest([example for split in SPLITS for example in rows[split]]),
        "dropped": dropped,
        "duplicates": [],
    }
    return Loaded(chosen["train"], chosen["dev"], chosen["test"], provenance)


PLUGIN = Family(
    tasks=(TaskInfo("gsm8k", "number", (), "grade-school word problems", False),),
    load=load,
    aliases={"gsm8k_cot_zeroshot": "gsm8k"},
)

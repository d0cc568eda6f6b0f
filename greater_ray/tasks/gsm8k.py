"""GSM8K: grade-school word problems with an integer answer, split as in the paper (App. A.1)."""

import re
from functools import cache, partial
from importlib.resources import files

import yaml

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.protocols import Task
from greater_ray.tasks._files import read_jsonl
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._given import GPO_RULE, find_gpo, given, read_gpo
from greater_ray.tasks._sources import Row, Source, check_data_option, find_file, read_hub
from greater_ray.tasks._splits import SPLITS, first_of_each
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest, refuse_other_type
from greater_ray.types import Example

HUB_ID = "openai/gsm8k"
FORM = AnswerForm("number")
_CALCULATOR = re.compile(r"<<[^<>]*>>")


@cache
def _indices(file: str) -> dict[str, list[int]]:
    indices: dict[str, list[int]] = yaml.safe_load(
        files("greater_ray.tasks").joinpath(file).read_text(encoding="utf-8")
    )
    return indices


def paper_indices() -> dict[str, list[int]]:
    """Rows of the official train split that the paper trained on and selected by."""
    return _indices("gsm8k_indices.yaml")


def gpo_indices() -> dict[str, list[int]]:
    """Rows of the official train split (for ``train`` and ``dev``) and test split that GPO's authors took."""
    return _indices("gsm8k_gpo_indices.yaml")


def load(name: str, config: TaskConfig) -> Task:
    """Build GSM8K from the hub or from a folder with the official ``train.jsonl`` and ``test.jsonl``.

    With ``task.split`` ``gpo`` the folder may also hold GPO's own files.

    Raises:
        ConfigError: ``task.data`` is unusable or a setting does not apply.
    """
    refuse_other_type(name, config, FORM, ("gpo",))
    check_data_option(config.data)
    if config.data == "synthetic":
        raise ConfigError(
            f"'{name}' has no synthetic rows; see bbh/object_counting, which has.",
            setting="task.data",
            value="synthetic",
        )
    return RowTask(name, FORM, partial(_load_rows if config.split is None else _load_gpo_rows, config))


def _source(config: TaskConfig, split: str) -> Source:
    if config.data == "hub":
        return read_hub(HUB_ID, split, "main")
    return read_jsonl(find_file(config.data, [f"gsm8k/{split}.jsonl", f"{split}.jsonl"], "gsm8k"), "task.data")


def _example(split: str, row: Row, question: str = "question", solution: str = "answer") -> Example | None:
    """Build one row; the gold answer is what follows ``####``, scored without thousands separators.

    The rationale is the solution in front of it, without the marks of a calculator.
    """
    steps, mark, answer = str(row.values.get(solution, "")).rpartition("####")
    target = answer.strip()
    label = FORM.label(target) if mark else None
    asked = str(row.values.get(question, "")).strip()
    if not (label and asked):
        return None
    rationale = _CALCULATOR.sub("", steps).strip() or None
    return Example(f"gsm8k/{split}#{row.index}", asked, target, label, rationale=rationale)


def _refuse_a_part(source: Source, needed: int, what: str, hint: str = "") -> None:
    """Refuse a part of an official split, in which rows have other numbers.

    Raises:
        DataError: there are too few rows.
    """
    if len(source.rows) < needed:
        location = source.origin["location"]
        why = f"'{location}' has {len(source.rows)} rows; the official {what} is needed{hint}."
        raise DataError(why, setting="task.data")


def _load_gpo_rows(config: TaskConfig) -> Loaded:
    """Take the rows of GPO's authors: from their files, or out of the official ones; ids and rows are the same."""
    needs = "a question and a number after ####"
    places = ["gsm8k", "."]
    if config.data != "hub" and find_gpo(config.data, places) is not None:
        read = partial(_example, question="input", solution="solution")
        sources = read_gpo(config.data, places, "gsm8k")
        return given("gsm8k", config, sources, lambda split, row: read(f"gpo-{split}", row), GPO_RULE, needs)
    train, test = _source(config, "train"), _source(config, "test")
    indices = gpo_indices()
    _refuse_a_part(train, max(*indices["train"], *indices["dev"]) + 1, "train split (7473)")
    _refuse_a_part(test, max(indices["test"]) + 1, "test split (1319)")
    official = {"train": train, "dev": train, "test": test}
    sources = {
        split: Source(
            tuple(Row(k, 0, official[split].rows[i].values) for k, i in enumerate(rows)), official[split].origin
        )
        for split, rows in indices.items()
    }
    rule = "the rows of GPO's authors out of the official splits: 100 train and 100 dev of train, 300 test of test"
    return given("gsm8k", config, sources, lambda split, row: _example(f"gpo-{split}", row), rule, needs)


def _load_rows(config: TaskConfig) -> Loaded:
    train, test = _source(config, "train"), _source(config, "test")
    indices = paper_indices()
    hint = ", or §task.split gpo for GPO's files"
    _refuse_a_part(train, max(*indices["train"], *indices["dev"]) + 1, "train split (7473)", hint)
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

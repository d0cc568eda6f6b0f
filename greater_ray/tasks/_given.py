"""Benchmarks whose splits are given: GPO's own files (train, eval, test), and rows that were told apart before."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.tasks._files import read_jsonl
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._made import made_source
from greater_ray.tasks._sources import Row, Source, plain
from greater_ray.tasks._splits import SPLITS, first_of_each, grouped
from greater_ray.tasks._task import Loaded, digest_of_splits
from greater_ray.types import Example

# What GPO's authors call their splits (Tang et al., AAAI 2025, the folder "data" of their repository).
GPO_FILES = {"train": "train.jsonl", "dev": "eval.jsonl", "test": "test.jsonl"}
GPO_RULE = "GPO's own train, eval and test rows as they are"

Make = Callable[[str, Row], Example | None]


def find_gpo(folder: str, places: Sequence[str]) -> Path | None:
    """Return the first of ``places`` below a folder that holds GPO's three files."""
    paths = (Path(folder) / place for place in places)
    return next((path for path in paths if all((path / file).is_file() for file in GPO_FILES.values())), None)


def read_gpo(folder: str, places: Sequence[str], name: str) -> dict[str, Source]:
    """Read GPO's three files of a task, by split.

    Raises:
        DataError: they are not there, or broken.
    """
    path = find_gpo(folder, places)
    if path is None:
        tried = " or ".join(f"'{place}'" for place in places)
        files = ", ".join(GPO_FILES.values())
        why = f"folder '{folder}' holds no GPO rows of '{name}' ({files} in {tried})."
        raise DataError(why, setting="task.data")
    return {split: read_jsonl(path / file, "task.data") for split, file in GPO_FILES.items()}


def refuse_gpo_without_files(name: str, config: TaskConfig, hint: str = "") -> None:
    """Refuse GPO's own rows where there is nothing to read them from.

    Raises:
        ConfigError: ``task.split`` is ``gpo``, and ``task.data`` no folder.
    """
    if config.split == "gpo" and config.data in ("hub", "synthetic"):
        why = f"GPO's own rows of '{name}' are read from a folder with their files (§task.data), not from "
        raise ConfigError(f"{why}'{config.data}'. {hint}".strip(), setting="task.split", value=config.split)


def gpo_row(name: str, form: AnswerForm) -> Make:
    """Return what makes an example of a row ``{"input", "output"}``; a list of outputs holds several right answers."""

    def make(split: str, row: Row) -> Example | None:
        question, output = row.values.get("input"), row.values.get("output")
        golds = [plain(gold).strip() for gold in (output if isinstance(output, list) else [output])]
        labels = [form.label(gold) for gold in dict.fromkeys(golds) if gold]
        if not isinstance(question, str) or not question.strip() or not labels or None in labels:
            return None
        label, *references = (label for label in labels if label is not None)
        return Example(f"{name}/{split}#{row.index}", question.strip(), golds[0], label, tuple(references))

    return make


def given(name: str, config: TaskConfig, sources: Mapping[str, Source], make: Make, rule: str, needs: str) -> Loaded:
    """Make a task of rows by split.

    Args:
        sources: the rows of each split.
        make: makes an example of a split's row, or None where a part is missing.
        rule: how the rows were split, in words.
        needs: what a row must hold, in words.

    Raises:
        DataError: a split has no rows, or fewer than are asked for.
    """
    rows: dict[str, list[Example]] = {split: [] for split in SPLITS}
    dropped: list[dict[str, str]] = []
    for split in SPLITS:
        for row in sources[split].rows:
            example = make(split, row)
            if example is None:
                dropped.append({"id": f"{name}/{split}#{row.index}", "reason": f"a row needs {needs}"})
            else:
                rows[split].append(example)
        if not rows[split]:
            location = sources[split].origin["location"]
            raise DataError(
                f"'{location}' holds no {split} rows of '{name}' ({needs}).", setting="task.data", value=location
            )
    chosen = first_of_each(rows, config, name)
    every = [example for split in SPLITS for example in rows[split]]
    origin = sources["test"].origin
    same = grouped([example.question for example in every])
    provenance: dict[str, Any] = {
        "source": origin["source"],
        "location": origin["location"],
        "rows": sum(len(source.rows) for source in sources.values()),
        "files": {split: source.origin for split, source in sources.items()},
        "split_rule": rule,
        "rows_sha256": digest_of_splits(rows),
        "dropped": dropped,
        "duplicates": [[every[i].id for i in group] for group in same if len(group) > 1],
    }
    return Loaded(chosen["train"], chosen["dev"], chosen["test"], provenance)


def by_position(source: Source, sizes: Mapping[str, int]) -> dict[str, Source]:
    """Cut a source into splits by position, train first; rows keep their numbers."""
    parts, start = {}, 0
    for split in SPLITS:
        parts[split] = Source(source.rows[start : start + sizes[split]], source.origin)
        start += sizes[split]
    return parts


def load_off_hub(
    name: str,
    config: TaskConfig,
    form: AnswerForm,
    sizes: Mapping[str, int],
    places: Sequence[str],
    needs: str,
    *made: str,
) -> Loaded:
    """Load rows that come from no hub: made ones, as many as ``sizes`` say, or GPO's files below a folder.

    ``made`` says what ``made_source`` makes; ``places`` is where the files may lie.

    Raises:
        DataError: there are no such files, or they are broken.
    """  # fmt: skip
    if config.data == "synthetic":
        kind, *of = made
        source = made_source(kind, sum(sizes.values()), config.seed, *of)
        rule = "made: " + ", ".join(f"{size} {split}" for split, size in sizes.items())
        return given(name, config, by_position(source, sizes), gpo_row(f"synthetic/{name}", form), rule, needs)
    return given(name, config, read_gpo(config.data, places, name), gpo_row(name, form), GPO_RULE, needs)

"""Which rows learn, which choose and which test. Rules go by the position in the source, so no row ever moves."""

import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from greater_ray.config import TaskConfig
from greater_ray.errors import DataError

T = TypeVar("T")
Sizes = dict[str, int]
SPLITS = ("train", "dev", "test")
TRAIN, DEV, TEST = 50, 100, 100  # paper App. A.1
MAX_TEST = 1000


def positional(total: int, name: str) -> tuple[dict[str, range], str]:
    """Split by position as TextGrad does, which the paper follows (App. A.1): rows 0-49, 50-149, 150-249.

    Three BBH tasks have fewer rows than that needs, and the paper does not say what it did there: what is left after
    row 49 is split in two halves, the first half for dev.

    Returns:
        The positions of each split, and the rule in words.

    Raises:
        DataError: too few rows to have any in each split.
    """
    if total >= TRAIN + DEV + TEST:
        ranges = {"train": range(TRAIN), "dev": range(TRAIN, 150), "test": range(150, 250)}
        return ranges, "rows 0-49 train, 50-149 dev, 150-249 test"
    if total < TRAIN + 2:
        why = f"'{name}' has {total} rows, but rows 0-49 are for training: at least {TRAIN + 2} are needed."
        raise DataError(why, setting="task.name", value=name)
    middle = TRAIN + (total - TRAIN) // 2
    ranges = {"train": range(TRAIN), "dev": range(TRAIN, middle), "test": range(middle, total)}
    return ranges, f"rows 0-49 train, then two halves: 50-{middle - 1} dev, {middle}-{total - 1} test"


def gpo_sizes(total: int, name: str) -> tuple[dict[str, range], str]:
    """Split by position into as many rows as GPO's authors have: 48, 48 and 144 of 250.

    They set ten rows aside (five shown to the writer, five demonstrations) and give a fifth of the others to train and
    dev each. Which rows they drew is not told by the numbers: these are other ones. The last ten are set aside here.

    Returns:
        The positions of each split, and the rule in words.

    Raises:
        DataError: too few rows to have any in each split.
    """
    fifth = (total - 10) // 5
    if fifth < 1:
        why = f"'{name}' has {total} rows; at least 15 are needed for a fifth of all but ten in train and dev."
        raise DataError(why, setting="task.name", value=name)
    ranges = {"train": range(fifth), "dev": range(fifth, 2 * fifth), "test": range(2 * fifth, total - 10)}
    shown = ", ".join(f"{rows.start}-{rows.stop - 1} {split}" for split, rows in ranges.items())
    return ranges, f"as many as in GPO: rows {shown}"


def first_of_each(rows: Mapping[str, Sequence[T]], config: TaskConfig, name: str) -> dict[str, tuple[T, ...]]:
    """Keep the first so many rows of each split, where a size is configured.

    Raises:
        DataError: a split has fewer rows than asked for.
    """
    asked = {"train": config.train_size, "dev": config.dev_size, "test": config.test_size}
    result: dict[str, tuple[T, ...]] = {}
    for split in SPLITS:
        size = asked[split]
        available = len(rows[split])
        if size is not None and size > available:
            why = f"the {split} split of '{name}' has {available} rows, but {size} were asked for."
            raise DataError(why, setting=f"task.{split}_size", value=size)
        result[split] = tuple(rows[split][:size])
    return result


def whole_groups(groups: Iterable[Sequence[int]], sizes: Sizes) -> dict[str, list[int]]:
    """Fill the splits one after the other with groups of rows; a group never lies in two splits.

    A group goes to the first split that has room for all of it, else nowhere.
    """
    result: dict[str, list[int]] = {split: [] for split in sizes}
    for group in groups:
        for split, size in sizes.items():
            if len(result[split]) + len(group) <= size:
                result[split].extend(group)
                break
    return result


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions with the same key, in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def shuffled(groups: Sequence[T], seed: int, purpose: str) -> list[T]:
    """Shuffle a copy with a generator of its own: the same (seed, purpose) gives the same order."""
    result = list(groups)
    random.Random(f"{seed}:{purpose}").shuffle(result)
    return result


def sizes_for(total: int, config: TaskConfig, where: str) -> tuple[Sizes, str]:
    """Sizes of the splits of a user's own rows, and the rule in words.

    Without configured sizes: 50 train, 100 dev and the rest test, at most 1000; with fewer than 250 rows 40 % train
    (at most 50), 20 % dev and the rest test. A configured size always holds, the others share what is left.

    Raises:
        DataError: more rows are asked for than there are, or a split without a configured size would be empty.
    """
    asked = {"train": config.train_size, "dev": config.dev_size, "test": config.test_size}
    given = {split: size for split, size in asked.items() if size is not None}
    rest = total - sum(given.values())
    if rest < 0:
        shown = ", ".join(f"§task.{split}_size {size}" for split, size in given.items())
        why = f"{where} has {total} rows, but {sum(given.values())} were asked for ({shown})."
        raise DataError(why, setting="task.rows")
    unset = [split for split in SPLITS if split not in given]
    full = {"train": TRAIN, "dev": DEV, "test": TEST}
    weights = {"train": 40, "dev": 20, "test": 40}
    if rest >= sum(full[split] for split in unset):
        sizes = {split: full[split] for split in unset}
        rule = "50 train, 100 dev, the rest test (at most 1000)"
    else:
        whole = sum(weights[split] for split in unset)
        sizes = {split: min(full[split], rest * weights[split] // whole) for split in unset}
        rule = "40 % train (at most 50), 20 % dev, the rest test"
    if "test" in unset:
        sizes["test"] = min(MAX_TEST, rest - sum(size for split, size in sizes.items() if split != "test"))
    for split in unset:
        if sizes[split] < 1:
            why = f"{where} has {total} rows, which leaves none for {split}; give more or set §task.{split}_size."
            raise DataError(why, setting="task.rows")
    result = {split: sizes.get(split, given.get(split, 0)) for split in SPLITS}
    return result, rule if not given else f"configured sizes {given}; otherwise {rule}"

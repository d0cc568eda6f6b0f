"""What the rows of a table can show, said before anything runs."""

from collections.abc import Iterator
from functools import cache
from statistics import median

from greater_ray.paper.cost import rows_of
from greater_ray.paper.measure import Filled
from greater_ray.paper.plan import Number
from greater_ray.statistics.power import detectable_difference, rows_needed

# Share of rows on which two prompts of a table differ, where no comparison is at hand to tell it.
SUPPOSED = 0.25
_SHOWN = 3  # numbers of rows that the sentence names


def resolutions(filled: Filled) -> list[str]:
    """Say what the rows of a table can show of the published differences between rows and their references.

    The rows of a mean over tasks are those of all its tasks. The discordance is the median of the comparisons that the
    table holds already, else it is supposed. Where nothing was published there is nothing to say.
    """
    looked_for = list(_published_differences(filled))
    if not looked_for:
        return []
    known = [value.compared.discordance for value in filled.values if value.compared is not None]
    known = [share for share in known if 0 < share <= 1]
    share = median(known) if known else SUPPOSED
    sizes = sorted({rows for _, rows in looked_for})
    told = [_shown(rows, share) for rows in dict.fromkeys([*sizes[: _SHOWN - 1], sizes[-1]])]
    points = [difference for difference, _ in looked_for]
    small = sum(not _is_shown(difference, rows, share) for difference, rows in looked_for)
    middle = median(points)
    needed = rows_needed(min(middle / 100, share), share)
    basis = f"as in {len(known)} comparisons here" if known else "supposed"
    return [
        f"Where two prompts differ on {100 * share:.0f} % of the rows ({basis}), {'; '.join(told)}. Of {len(points)} "
        f"published differences ({min(points):.1f} to {max(points):.1f} points) {small} are smaller than that; "
        f"the median, {middle:.1f} points, needs {'too many' if needed is None else f'{needed:,}'} rows."
    ]


def _shown(rows: int, share: float) -> str:
    smallest = _detectable(rows, share)
    if smallest is None:
        return f"{rows:,} rows are too few to show any difference"
    return f"{rows:,} rows show differences from {100 * smallest:.1f} points"


def _is_shown(points: float, rows: int, share: float) -> bool:
    smallest = _detectable(rows, share)
    return smallest is not None and points / 100 >= smallest


@cache
def _detectable(rows: int, share: float) -> float | None:
    return detectable_difference(rows, share) if rows > 0 else None


def _published_differences(filled: Filled) -> Iterator[tuple[float, int]]:
    """Yield every published difference other than 0, in points, with the rows that ours has for it."""
    plan = filled.plan
    for number in plan.numbers:
        reference = plan.reference(number.row)
        if reference is None or not number.cells:
            continue
        other = plan.at(reference, number.column)
        for ours, theirs in zip(number.published, other.published, strict=True):
            if ours.value is not None and theirs.value is not None and ours.value != theirs.value:
                yield abs(ours.value - theirs.value), _rows(number)


def _rows(number: Number) -> int:
    return sum(rows_of(cells[0].config).test for cells in number.cells)

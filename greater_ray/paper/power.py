"""What the rows of a table can show, said before anything runs."""

from collections.abc import Sequence
from statistics import median

from greater_ray.paper.measure import Filled
from greater_ray.statistics.power import resolution

# Share of rows on which two prompts of a table differ, where no comparison is at hand to tell it.
SUPPOSED = 0.25


def resolutions(filled: Filled, rows: int) -> list[str]:
    """Say what so many test rows per number can show of the published differences, in one sentence or none.

    The differences are those between every row and its reference row; the discordance is the median of the comparisons
    that the table holds already, else it is supposed.
    """
    looked_for = _published_differences(filled)
    if not looked_for or rows < 2:
        return []
    known = [value.compared.discordance for value in filled.values if value.compared is not None]
    known = [share for share in known if 0 < share <= 1]
    share = median(known) if known else SUPPOSED
    middle = min(median(looked_for) / 100, share)
    found = resolution(rows, middle, share)
    smallest = found.detectable
    small = sum(smallest is None or points / 100 < smallest for points in looked_for)
    basis = f"as in {len(known)} comparisons here" if known else "supposed"
    return [
        f"With {100 * share:.0f} % of rows answered differently ({basis}), {found} The published differences are "
        f"{min(looked_for):.1f} to {max(looked_for):.1f} points, half of them below {median(looked_for):.1f}; "
        f"{small} of {len(looked_for)} are smaller than what these rows show."
    ]


def _published_differences(filled: Filled) -> Sequence[float]:
    plan = filled.plan
    told = []
    for row in plan.table.rows:
        reference = plan.reference(row)
        if reference is not None:
            pairs = zip(row.published, reference.published, strict=False)
            told += [abs(a - b) for a, b in pairs if a is not None and b is not None and a != b]
    return told

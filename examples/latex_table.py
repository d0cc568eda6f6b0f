"""A LaTeX table of a grid: python examples/latex_table.py runs/mine"""

import sys

from greater_ray import load


def latex_table(folder: str) -> str:
    """Return accuracy on test rows before and after the search, one row per cell of the grid."""
    frame = load(folder).cell_frame()
    frame = frame[(frame["split"] == "test") & frame["source"].isna()]
    table = frame[["method", "task", "model", "seed"]].copy()
    for when in ("before", "after"):
        table[when] = (100 * frame[when]).map("{:.1f}".format)
    table["p"] = frame["p_value"].map("{:.2g}".format, na_action="ignore").fillna("--")
    return table.replace("_", r"\_", regex=True).to_latex(index=False, column_format="llllrrr")


if __name__ == "__main__":
    print(latex_table(sys.argv[1]))

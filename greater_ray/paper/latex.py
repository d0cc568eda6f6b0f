"""A table in LaTeX with booktabs: the matrix, its caption, and beneath it one line for every number."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greater_ray.paper.layout import Document

PREAMBLE = (
    "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[utf8]{inputenc}\n"
    "\\usepackage[landscape,margin=1cm]{geometry}\n\\usepackage{booktabs,longtable,graphicx}\n\\begin{document}\n"
)
END = "\\end{document}\n"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\u2019": "'",
    "\u2026": r"\ldots{}",
}


def escaped(text: str) -> str:
    """Return a text that LaTeX prints as it is; what T1 fonts lack becomes a question mark."""
    plain = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"[^\x20-\xff]", "?", plain)


def latex(found: "Document") -> str:
    """Return a table as LaTeX to be put into a document that loads booktabs, longtable and graphicx."""
    caption = " ".join(escaped(line) for line in found.caption)
    lines = [
        f"% {found.name}: needs \\usepackage{{booktabs,longtable,graphicx}}",
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{escaped(found.title)}. {caption}}}",
        f"\\label{{tab:{found.name}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * (len(found.heading) - 1)}}}",
        "\\toprule",
        _row(found.heading),
        "\\midrule",
    ]
    for number, row in enumerate(found.matrix):
        if number in found.groups:
            lines += ["\\addlinespace"] if number else []
            lines.append(
                f"\\multicolumn{{{len(found.heading)}}}{{l}}{{\\emph{{{escaped(found.groups[number])}}}}} \\\\"
            )
        lines.append(_row(row))
    lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table}", ""]
    # Records have long names without a blank: the table of lines goes without them.
    kept = len(found.line_heading) - 1
    lines += [
        "{\\scriptsize",
        f"\\begin{{longtable}}{{ll{'r' * (kept - 2)}}}",
        "\\toprule",
        _row(found.line_heading[:kept]),
        "\\midrule",
        "\\endhead",
        *(_row(line[:kept]) for line in found.lines),
        "\\bottomrule",
        "\\end{longtable}}",
        "",
        *(f"% record: {record}" for record in dict.fromkeys(line[-1] for line in found.lines) if record != "-"),
    ]
    if found.notes:
        lines += ["\\begin{itemize}", *(f"\\item {escaped(note)}" for note in found.notes), "\\end{itemize}"]
    return "\n".join(lines) + "\n"


def _row(values: Sequence[str]) -> str:
    return " & ".join(escaped(value) for value in values) + " \\\\"

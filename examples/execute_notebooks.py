"""Execute the notebooks and keep them with their outputs: python examples/execute_notebooks.py runs/notebooks

Each is read from its `.py` file in `examples/notebooks/` and written as `.ipynb`; the runs are kept beside them, so a
second time takes seconds.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent / "notebooks").glob("*.py"))


def execute(sources: Iterable[Path], out: Path, timeout: int = 600) -> dict[str, nbformat.NotebookNode]:
    """Execute notebooks in ``out``, one kernel for all but no name from one to the next, and return them by name.

    Raises:
        CellExecutionError: a cell has failed; it has the cell and the traceback.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = {}
    client = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=timeout,
        resources={"metadata": {"path": str(out)}},
        extra_arguments=["--log-level=ERROR"],
    )
    with client.setup_kernel():
        for source in sources:
            begin = time.monotonic()
            client.nb = jupytext.read(source)
            # As in a new kernel, but for the modules that are imported already.
            client.nb.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
            for number, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, number)
            del client.nb.cells[0]
            _number(client.nb)
            nbformat.write(client.nb, out / f"{source.stem}.ipynb")
            print(f"{out / source.stem}.ipynb ({time.monotonic() - begin:.0f} s)", flush=True)
            done[source.stem] = client.nb
    return done


def _number(notebook: nbformat.NotebookNode) -> None:
    """Count the cells of one notebook, not those of the kernel."""
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number


if __name__ == "__main__":
    execute(NOTEBOOKS, Path(sys.argv[1]))

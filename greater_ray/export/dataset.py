"""All answers of a folder as a data set: one Parquet file, as ``datasets`` and pandas read it."""

from io import BytesIO

from greater_ray.export import Format
from greater_ray.results import Results


def dataset(results: Results) -> bytes:
    """Return a Parquet file of ``Results.answer_frame``: one row per answered row, split and prompt.

    Raises:
        StoreError: a record cannot be read.
    """
    target = BytesIO()
    results.answer_frame().to_parquet(target, index=False)
    return target.getvalue()


PLUGIN = Format("all answers of the folder (a Parquet file)", dataset, of_results=True)

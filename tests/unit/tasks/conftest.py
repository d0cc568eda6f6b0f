"""Rows for the tests of benchmarks: made ones in the official layout everywhere, and the real ones where they are."""

import os
from pathlib import Path

import pytest

from tests.made_rows import write_made_rows

REPOSITORY = Path(__file__).resolve().parents[3]
OFFICIAL = Path(os.environ.get("GREATER_RAY_DATA") or REPOSITORY.parent / "shared" / "data")


@pytest.fixture(scope="session", params=["made", *(["official"] if (OFFICIAL / "bbh").is_dir() else [])])
def data_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder with made files of the official layout; then GREATER_RAY_DATA, or shared/data beside the checkout."""
    if request.param == "official":
        return str(OFFICIAL)
    return str(write_made_rows(tmp_path_factory.mktemp("made")))

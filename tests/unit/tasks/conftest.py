"""Where the real rows are, for the tests that want them."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def data_folder() -> str:
    """Folder with the official files: GREATER_RAY_DATA, else shared/data beside the checkout."""
    folder = Path(os.environ.get("GREATER_RAY_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "bbh").is_dir():
        pytest.skip(f"no real rows in '{folder}'; set GREATER_RAY_DATA to a folder with bbh/, gsm8k/ and folio/")
    return str(folder)

"""How long waiting threads spin is set before torch is there, and what the user set counts."""

import os
import subprocess
import sys

import pytest

SHOW = "import greater_ray, os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["nothing set", "spin count set", "policy set"],
)
def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(given, expected):
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run([sys.executable, "-c", SHOW], env=clean | given, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == expected

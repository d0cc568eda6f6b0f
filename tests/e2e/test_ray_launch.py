"""Ray's own commands run the grid on one machine: ``ray up`` with ``ray submit``, and ``ray job submit``."""

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e._ray_cli import (
    ROOT,
    Account,
    all_processes_ended,
    missing_for_ssh,
    one_machine,
    ray,
    remove_ssh_sockets,
    skip_without_ssh,
    ssh_server,
    start_head,
)

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs Linux: left-over processes are found in /proc"
)

PIPELINE = ROOT / "pipelines" / "bbh_grid.py"


def pipeline_arguments(model: Path, out: Path) -> list[str]:
    """Return how both tests call the pipeline: the one place to change when its options change."""
    return ["--preset", "smoke", "--model", str(model), "--replicas", "1", "--out", str(out)]


def check_finished(out: Path) -> None:
    """Check that cells were computed and recorded."""
    records = sorted(out.glob("cells/*/record.json"))
    assert records, f"no finished cell in {out}"
    for record in records:
        json.loads(record.read_text())


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder with a short name: Ray's Unix sockets below it may have at most 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="gr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@needs_proc
def test_whatever_was_started_is_ended_and_nothing_else(tmp_path: Path) -> None:
    """The machinery itself: a daemon that left its parent and does not listen, beside a process from before."""
    written = tmp_path / "pid"
    daemon = f"setsid sh -c 'echo $$ > {written}; trap \"\" TERM HUP; while :; do sleep 1; done' &"
    earlier = subprocess.Popen(["sleep", "60"])
    try:
        with all_processes_ended(patience=0.5):
            subprocess.run(["sh", "-c", daemon], check=True)
            while not (written.exists() and written.read_text().strip()):
                time.sleep(0.01)
            pid = int(written.read_text())
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert earlier.poll() is None
    finally:
        earlier.kill()
        earlier.wait()


def test_ray_up_and_ray_submit_run_the_grid(short_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    if lacking := missing_for_ssh():
        skip_without_ssh(lacking)
    node, user = Account.create(short_folder / "n"), Account.create(short_folder / "u")
    user.write_token()
    user.token.chmod(0o644)  # as `ray get-auth-token --generate` leaves it
    with all_processes_ended(), ssh_server(node, user) as key:
        config = one_machine(ROOT / "deploy" / "on-premise.yaml", node, user, key)
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(config))
        try:
            up = user.run(*ray("up", str(file), "--yes", "--no-config-cache"), cwd=tmp_path, timeout=60)
            assert up.returncode == 0, up.stdout
            assert stat.S_IMODE(node.token.stat().st_mode) == 0o600
            arguments = pipeline_arguments(tiny_folder, tmp_path / "grid")
            submit = ray("submit", "--no-config-cache", str(file), str(PIPELINE), "--", *arguments)
            done = user.run(*submit, cwd=tmp_path, timeout=120)
            assert done.returncode == 0, done.stdout
            assert "joining Ray at auto" in done.stdout, f"not on the launched Ray: {done.stdout}"
        finally:
            remove_ssh_sockets(config["cluster_name"])
    # Only the one file went to the node; everything else came from the installed package.
    assert (node.home / PIPELINE.name).read_text() == PIPELINE.read_text()
    check_finished(tmp_path / "grid")


@needs_proc
def test_ray_job_submit_runs_the_grid(short_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    account = Account.create(short_folder / "n")
    account.write_token()
    start, gcs, dashboard = start_head("--dashboard-host=127.0.0.1")
    with all_processes_ended():
        up = account.run(*ray(*start[1:]), cwd=tmp_path, timeout=60)
        assert up.returncode == 0, up.stdout
        url = f"http://127.0.0.1:{dashboard}"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/api/jobs/", timeout=10)
        where = ["--address", url, "--working-dir", str(PIPELINE.parent)]
        arguments = pipeline_arguments(tiny_folder, tmp_path / "grid")
        submit = ray("job", "submit", *where, "--", "python", PIPELINE.name, *arguments)
        done = account.run(*submit, cwd=tmp_path, timeout=120)
        assert done.returncode == 0, done.stdout
        # The job is told an address of this machine that Ray chose.
        assert re.search(rf"joining Ray at \S+:{gcs}\s", done.stdout), f"not on the launched Ray: {done.stdout}"
    check_finished(tmp_path / "grid")

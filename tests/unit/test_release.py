"""What is released is looked into: a file that is missing, or that does not belong there, ends the release."""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "release" / "check_archives.py"
BESIDE = (
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg",
)  # fmt: skip


def package() -> list[str]:
    done = subprocess.run(["git", "ls-files", "greater_ray"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    return done.stdout.split()


def write_archives(folder: Path, wheel: list[str], sdist: list[str]) -> None:
    with zipfile.ZipFile(folder / "x-1-py3-none-any.whl", "w") as archive:
        for name in [*wheel, "x-1.dist-info/RECORD"]:
            archive.writestr(name, "")
    with tarfile.open(folder / "x-1.tar.gz", "w:gz") as archive:
        for name in [*sdist, "greater_ray.egg-info/SOURCES.txt"]:
            archive.addfile(tarfile.TarInfo(f"x-1/{name}"), io.BytesIO())


def check(folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_complete_archives_pass(tmp_path: Path):
    files = package()
    write_archives(tmp_path, files, [*files, *BESIDE])
    code, lines = check(tmp_path)
    assert (code, len(lines)) == (0, 2)
    assert f"{len(files)} files of the package, {len(BESIDE)} beside it" in lines[1]


def test_what_is_missing_or_too_much_is_named(tmp_path: Path):
    files = package()
    wheel = [name for name in files if name != "greater_ray/py.typed"]
    write_archives(tmp_path, wheel, [*files, *BESIDE, "tests/test_x.py"])
    assert check(tmp_path) == (
        1,
        [
            "x-1-py3-none-any.whl: greater_ray/py.typed is missing",
            "x-1.tar.gz: tests/test_x.py does not belong there",
        ],
    )

"""Looks into a wheel and an sdist: each must hold what git tracks of the package, all of it, and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What an sdist holds beside the package: what builds it, and what its readers need.
_READ = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"}
BESIDE = _READ | {"MANIFEST.in", "PKG-INFO", "pyproject.toml", "setup.cfg"}


def tracked() -> set[str]:
    """Return the files of the package that git tracks."""
    done = subprocess.run(["git", "ls-files", "greater_ray"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def in_wheel(path: Path) -> set[str]:
    """Return the files of a wheel, but for what installers put beside the package."""
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}


def in_sdist(path: Path) -> set[str]:
    """Return the files of an sdist below its one folder, but for what setuptools notes there."""
    with tarfile.open(path) as archive:
        names = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    return {name for name in names if ".egg-info/" not in name}


def differences(what: str, found: set[str], wanted: set[str]) -> list[str]:
    """Return what is missing and what is too much, one line each."""
    return [f"{what}: {name} is missing" for name in sorted(wanted - found)] + [
        f"{what}: {name} does not belong there" for name in sorted(found - wanted)
    ]


def main(folder: Path) -> int:
    """Check the two archives of a folder, say what they hold, and return an exit code."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    package = tracked()
    wrong = differences(wheel.name, in_wheel(wheel), package)
    wrong += differences(sdist.name, in_sdist(sdist), package | BESIDE)
    for line in wrong:
        print(line)
    if not wrong:
        for path, beside in ((wheel, 0), (sdist, len(BESIDE))):
            size = path.stat().st_size / 1024
            print(f"{path.name}: {size:.0f} KiB, {len(package)} files of the package, {beside} beside it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

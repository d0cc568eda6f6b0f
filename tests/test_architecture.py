"""Rules that keep the project easy to read: light seams, small modules, telling file names, no machine's own paths."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import greater_ray

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "ray", "pandas", "datasets")
LIGHT_MODULES = (
    "greater_ray",
    "greater_ray.config",
    "greater_ray.protocols",
    "greater_ray.trial",
    "greater_ray.models.sources",
)
MAX_LINES = 400
VAGUE_NAMES = ("utils", "helpers", "common")
# Put together from parts, so that this file does not match itself.
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_.])/(" + "|".join(("wo" + "rk", "fa" + "rm")) + ")/")


def modules() -> list[Path]:
    return [
        file
        for top in ("greater_ray", "pipelines", "benchmarks", "docs", "release")
        for file in sorted((ROOT / top).rglob("*.py"))
    ]


def project_files() -> list[Path]:
    """Return what git tracks or would track, or every file of the folders when this is no git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    return [*modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.*")]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_public_name_is_there():
    for name in greater_ray.__all__:
        assert getattr(greater_ray, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = greater_ray.nothing


def test_modules_are_small():
    long = {
        str(file.relative_to(ROOT)): n for file in modules() if (n := len(file.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"split these modules: {long}"


def test_file_names_say_what_is_inside():
    vague = [str(file.relative_to(ROOT)) for file in modules() if file.stem.strip("_") in VAGUE_NAMES]
    assert not vague


def test_what_one_package_imports_from_another_is_public():
    found = []
    for file in (ROOT / "greater_ray").rglob("*.py"):
        own = ".".join(file.relative_to(ROOT).parts[:2])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not f"{node.module}.".startswith(f"{own}."):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                private = [name for name in names if name.startswith("_") and not name.startswith("__")]
                if node.module.startswith("greater_ray") and private:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.module} import {private}")
    assert not found, "give it a public name, or a door in its package's __init__"


def test_no_file_names_a_path_of_one_machine():
    found = []
    for file in project_files():
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found


# Heavy libraries, and the packages that import them; all others get what these make of them.
HOMES = {
    **dict.fromkeys(("torch", "transformers", "gguf", "safetensors"), ("models",)),
    "ray": ("cluster",),
    "datasets": ("tasks",),
    "pandas": ("results",),
    "matplotlib": ("plots", "paper"),
    "IPython": ("progress",),
}


def test_heavy_libraries_are_imported_in_their_packages_alone():
    strangers = []
    for file in sorted((ROOT / "greater_ray").rglob("*.py")):
        package = file.relative_to(ROOT / "greater_ray").parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            strangers += [
                f"{file.relative_to(ROOT)}:{node.lineno}: {name}"
                for name in names
                if package not in HOMES.get(name.partition(".")[0], (package,))
            ]
    assert not strangers

"""What ``benchmarks.fuzz`` makes its wrong inputs from: a case, and a folder in which wrong files are made."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

SIMULATED = "benchmarks.simulated:instant"
LONG = "x" * 5000
EITHER = 0  # 1 or 2: whose fault it is depends on where one looks


@dataclass(frozen=True)
class Case:
    """One wrong input: the command, what is wrong with it, and how it has to end.

    ``code`` is 2 where the user has to change what they gave, 1 where something around it is at fault, 0 where it may
    be either. ``left`` is a folder that must not hold anything afterwards.
    """

    kind: str
    name: str
    args: list[str]
    code: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    process: bool = False
    left: Path | None = None


class Workshop:
    """A folder in which wrong files are made, each with a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def path(self, ending: str = "") -> Path:
        """Return a path at which nothing is yet."""
        self._count += 1
        return self.folder / f"{self._count}{ending}"

    def file(self, content: str | bytes, ending: str) -> str:
        """Write a file."""
        path = self.path(ending)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    @cached_property
    def model(self) -> Path:
        """A folder with a small random model that is right."""
        from tests.families import save_tiny

        return save_tiny("llama", self.path("-model"))

    def case(self, kind: str, name: str, *options: str, command: str = "optimize", **details: object) -> Case:
        """Return a case of a small run that is right but for ``options``, which come last and so win.

        A file of settings has what lies below options, so there options set only what the file does not.
        """
        out = self.path("-out")
        small = ["--model", SIMULATED, "--max-reasoning-tokens", "4"]
        if "--config" not in options:
            small += ["--shard-size", "2"]
        if "--rows" not in options:
            small += ["--task", "bbh/navigate", "--data", "synthetic", "--train-size", "2", "--test-size", "2"]
            small += ["--dev-size", "0"]
        if command == "optimize":
            small += ["--out", str(out)] + ([] if "--config" in options else ["--steps", "1"])
        if command == "evaluate":
            small += ["--prompt", "Think."]
        return Case(kind, name, [command, *small, *options], left=out, **details)  # type: ignore[arg-type]

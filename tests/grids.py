"""Small grids on tiny models, and an observer that remembers what a grid told it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from greater_ray.config import ModelConfig
from greater_ray.grid.cells import Cell
from greater_ray.grid.config import GridConfig, load_grid
from greater_ray.grid.run import Progress
from greater_ray.settings import merged
from greater_ray.types import Usage
from greater_ray.work import BaseEngine, Unit

SMALL: dict[str, Any] = {
    "task": {"data": "synthetic", "train_size": 2, "dev_size": 0, "test_size": 2},
    "decoding": {"max_reasoning_tokens": 4, "max_answer_tokens": 2},
    "evaluation": {"splits": ["test"]},
    "shard_size": 2,
}
GREATER = {"name": "greater", "budget": {"steps": 1}, "method_config": {"num_evaluated": 1, "fluency": "nll"}}


def tiny_grid(folder: Path | str, **changes: Any) -> dict[str, Any]:
    """Return a grid of three cells: GReaTer with two seeds and zero-shot CoT."""
    return {
        "name": "tiny",
        "methods": [GREATER, "zero-shot-cot"],
        "tasks": ["bbh/boolean_expressions"],
        "models": [str(folder)],
        "seeds": [0, 1],
        "settings": merged(SMALL, changes.pop("settings", {})),
        **changes,
    }


def loaded(folder: Path | str, **changes: Any) -> GridConfig:
    return load_grid(tiny_grid(folder, **changes))


class Breaking(BaseEngine):
    """A model of one's own in which every unit of work raises."""

    facts: ClassVar[dict[str, Any]] = {"name": "breaking", "weights": "none"}

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        raise ValueError("the rope\nis too short")


def breaking_model(config: ModelConfig) -> Breaking:
    return Breaking()


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.begun: list[str] = []
        self.ends: list[tuple[str, str, str | None]] = []
        self.steps: list[Progress] = []
        self.looks: list[list[dict[str, Any]]] = []
        self.texts: list[str] = []

    def planned(self, phase: str, cells: Sequence[Cell], open_cells: Sequence[Cell]) -> None:
        self.phases.append((phase, len(cells), len(open_cells)))

    def started(self, cell: Cell) -> None:
        self.begun.append(cell.title)

    def progressed(self, cell: Cell, progress: Progress) -> None:
        self.steps.append(progress)

    def ended(self, cell: Cell, state: str, reason: str | None) -> None:
        self.ends.append((cell.title, state, reason))

    def pools(self, stats: Sequence[dict[str, Any]]) -> None:
        self.looks.append(list(stats))

    def message(self, text: str) -> None:
        self.texts.append(text)

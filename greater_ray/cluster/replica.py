"""One model in one process. The class is plain; it becomes a Ray actor where a pool launches it."""

import os
import socket
from typing import Any

from greater_ray.assembly import load_engine
from greater_ray.config import ModelConfig
from greater_ray.errors import ConfigError, ModelError
from greater_ray.grid.config import ALL_GPUS
from greater_ray.models.faults import device_faults
from greater_ray.provenance import processor
from greater_ray.types import Usage
from greater_ray.work import BaseEngine, Unit


class Replica:
    """Holds a model and runs units of work on it, one at a time.

    Loading is a call of its own: an exception there is an answer (the reason), while one in a constructor would be the
    death of the actor.
    """

    def __init__(self, prefix_memory: int, folder: str, gpus: float = 0.0) -> None:
        # Relative names of models mean the same as for the driver, where its folder exists.
        if os.path.isdir(folder):
            os.chdir(folder)
        self.prefix_memory, self.gpus = prefix_memory, gpus
        self.engine: BaseEngine | None = None

    def up(self) -> str:
        """Answer as soon as the process is there: with the name of its host."""
        return socket.gethostname()

    def load(self, config: ModelConfig) -> dict[str, Any]:
        """Load the weights from the node's own disk or cache; return facts about model and processor.

        Raises:
            ModelError: the model cannot be loaded, or the device is not the one this replica was given.
            DeviceError: nothing can be computed on the device.
        """
        spread = config
        if self.gpus > 1 and config.device in ALL_GPUS:
            # Ray shows a process the GPUs that it was given, and numbers them from 0.
            cards = ",".join(f"cuda:{number}" for number in range(round(self.gpus)))
            spread = config.model_copy(update={"device": cards})
        try:
            with device_faults():
                engine = self.engine = load_engine(spread)
        except ConfigError as error:
            if spread is config or error.setting != "model.device":
                raise
            raise self._elsewhere(config, "none of its GPUs") from error  # the setting is ours
        # A model of one's own need not tell its device.
        device = engine.facts.get("device")
        if self.gpus and device not in (None, "cuda"):
            raise self._elsewhere(config, f"the {device}")
        engine.limit_prefix_memory(self.prefix_memory)
        return {"model": engine.facts, "hardware": engine.hardware or processor()}

    def _elsewhere(self, config: ModelConfig, where: str) -> ModelError:
        why = (
            f"'{config.device}' put '{config.name}' on {where} of {socket.gethostname()}, though its replica was given "
            f"{self.gpus:g} GPU; install a torch that can use {'them' if self.gpus > 1 else 'it'}, or set "
            "replicas.gpus to 0."
        )
        return ModelError(why, setting="model.device")

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        """Compute one unit of work.

        Raises:
            DeviceError: nothing more can be computed on the device; the broker ends this process then.
        """
        assert self.engine is not None, "load comes first"
        with device_faults():  # one's own engine need not know them
            return self.engine.run(unit)

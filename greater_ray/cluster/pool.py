"""A pool of replicas as an ``Executor``: what a trial calls, wherever it runs."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from greater_ray.assembly import Served
from greater_ray.cluster.broker import Broker
from greater_ray.cluster.connect import driver_node, has_gpus
from greater_ray.cluster.metrics import PoolMetrics
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError, PoolError
from greater_ray.types import Usage
from greater_ray.work import Unit

_REPORT = 2.0  # seconds between two reports to Ray's metrics
_MANY = 10_000  # calls that a broker may hold open at once


class PoolExecutor:
    """Sends units of work to a broker and waits for the results; small enough to be handed to a coordinator."""

    def __init__(self, broker: Any, width: int) -> None:
        self.broker, self.width = broker, width

    def served(self) -> Served:
        """Wait until the first replica has loaded; return this executor with the facts about its model.

        Raises:
            PoolError: the model cannot be loaded; the sentence says why.
        """
        return Served(self, *_get(self.broker.ready.remote()))

    def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        """Compute the units; see ``Executor``.

        Raises:
            PoolError: the pool has stopped, or its broker is gone.
        """
        if not units:
            return []
        results: list[tuple[Any, Usage]] = _get(self.broker.run.remote(list(units)))
        return results


class AsyncBroker(Broker):
    """The broker as an actor: it launches its replicas itself, so they end with it."""

    def __init__(
        self, model: ModelConfig, demand: Demand, prefix_memory: int, folder: str, nodes: Sequence[str]
    ) -> None:
        options: dict[str, Any] = {
            "num_cpus": demand.cpus,
            "num_gpus": demand.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if not demand.gpus and has_gpus():
            # On a Ray that others started, a worker would see all GPUs of its machine.
            options["runtime_env"] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}}
        actor, planned = ray.remote(Replica), iter(nodes)

        def launch() -> Any:
            # One that takes the place of another finds its room wherever there is some.
            node = next(planned, None)
            where = "SPREAD" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
            replica = actor.options(**options, scheduling_strategy=where)
            return replica.remote(prefix_memory, folder, demand.gpus)

        super().__init__(model, demand.count or 1, launch, ray.kill)
        self.title = demand.model
        self._reporting = asyncio.get_running_loop().create_task(self._report())

    async def _report(self) -> None:
        metrics = PoolMetrics(self.title)
        while True:
            metrics.report(self.slots, len(self.queue))
            await asyncio.sleep(_REPORT)


@dataclass(eq=False)
class Pool:
    """A model that is being served, and the handle that keeps it so."""

    model: ModelConfig
    demand: Demand
    broker: Any

    @classmethod
    def launch(cls, model: ModelConfig, demand: Demand, prefix_memory: int, nodes: Sequence[str] = ()) -> "Pool":
        """Start broker and replicas, the first ones on ``nodes``; they load while others get ready to call them."""
        # On the driver's node: a worker that is lost takes replicas away, never the broker.
        near = NodeAffinitySchedulingStrategy(driver_node(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": _MANY, "scheduling_strategy": near}
        broker = ray.remote(AsyncBroker).options(**options).remote(model, demand, prefix_memory, os.getcwd(), nodes)
        return cls(model, demand, broker)

    @property
    def executor(self) -> PoolExecutor:
        """What trials call."""
        return PoolExecutor(self.broker, self.demand.count or 1)

    def stats(self) -> dict[str, Any]:
        """See ``Broker.stats``; the model goes by the name that no other pool has."""
        stats: dict[str, Any] = _get(self.broker.stats.remote())
        return stats | {"model": self.demand.model}

    def stop(self) -> None:
        """End broker and replicas and free their GPUs."""
        ray.kill(self.broker)


def _get(ref: Any) -> Any:
    """Return a result; errors come as they were raised over there, a dead broker as one sentence."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause: Any = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if isinstance(cause, GreaterRayError):
            raise cause from None
        raise cause or error from error
    except RayActorError as error:
        raise PoolError("the broker of a pool has died; the same command continues.") from error

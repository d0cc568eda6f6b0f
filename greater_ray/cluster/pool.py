"""A pool of replicas as an ``Executor``: what a trial calls, wherever it runs."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from greater_ray.assembly import Served
from greater_ray.cluster.broker import Broker
from greater_ray.cluster.connect import driver_node, has_gpus
from greater_ray.cluster.metrics import PoolMetrics
from greater_ray.cluster.patience import Patience
from greater_ray.cluster.placement import Demand
from greater_ray.cluster.replica import Replica
from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError, PoolError
from greater_ray.grid.config import ReplicaConfig
from greater_ray.types import Usage
from greater_ray.work import Unit

_REPORT = 2.0  # seconds between two reports to Ray's metrics
_ANSWER = 5.0  # seconds that figures are waited for at a time
_MANY = 10_000  # calls that a broker may hold open at once


class PoolExecutor:
    """Sends units of work to a broker and waits for the results; small enough to be handed to a coordinator.

    ``caller`` is the name under which the broker knows who waits.
    """

    def __init__(self, broker: Any, width: int, caller: str = "") -> None:
        self.broker, self.width, self.caller = broker, width, caller

    def served(self, caller: str) -> Served:
        """Wait until the first replica has loaded; return an executor of a caller with the facts about its model.

        Raises:
            PoolError: the model cannot be loaded; the sentence says why.
        """
        return Served(PoolExecutor(self.broker, self.width, caller), *_get(self.broker.ready.remote()))

    def run(self, units: Sequence[Unit]) -> list[tuple[Any, Usage]]:
        """Compute the units; see ``Executor``.

        Raises:
            PoolError: the pool has stopped, or its broker is gone.
        """
        if not units:
            return []
        results: list[tuple[Any, Usage]] = _get(self.broker.run.remote(list(units), self.caller))
        return results


class AsyncBroker(Broker):
    """The broker as an actor: it launches its replicas itself, so they end with it."""

    def __init__(
        self,
        model: ModelConfig,
        demand: Demand,
        prefix_memory: int,
        patience: float,
        folder: str,
        nodes: Sequence[str],
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

        super().__init__(model, demand.count or 1, launch, ray.kill, Patience(patience))
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
    _asked: Any = field(default=None, init=False)

    @classmethod
    def launch(cls, model: ModelConfig, demand: Demand, config: ReplicaConfig, nodes: Sequence[str] = ()) -> "Pool":
        """Start broker and replicas, the first ones on ``nodes``; they load while others get ready to call them."""
        # On the driver's node: a worker that is lost takes replicas away, never the broker.
        near = NodeAffinitySchedulingStrategy(driver_node(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": _MANY, "scheduling_strategy": near}
        actor = ray.remote(AsyncBroker).options(**options)
        memory = int(config.prefix_memory_gib * 2**30)
        return cls(model, demand, actor.remote(model, demand, memory, config.patience, os.getcwd(), nodes))

    @property
    def executor(self) -> PoolExecutor:
        """What trials call."""
        return PoolExecutor(self.broker, self.demand.count or 1)

    def stats(self) -> dict[str, Any] | None:
        """See ``Broker.stats``; the model goes by the name that no other pool has. None: no answer for seconds.

        Raises:
            PoolError: the broker is gone.
        """
        asked = self._asked or self.broker.stats.remote()
        answered, _ = ray.wait([asked], timeout=_ANSWER)
        self._asked = None if answered else asked
        stats: dict[str, Any] | None = _get(asked) if answered else None
        return stats and stats | {"model": self.demand.model, "gpus": self.demand.gpus}

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

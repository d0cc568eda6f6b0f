"""Lets a cluster of spot machines fall back to on-demand ones: how Ray's autoscaler chooses a node type.

Ray 2.60 notes which node types the cloud has just refused, for 30 minutes, but its own choice does not look at the
notes: it would ask for the same spot machine again and again. ``cluster.yaml`` names this function in
``RAY_AUTOSCALER_UTILIZATION_SCORER``. Only the autoscaler's first version, which that file selects, calls it.
"""

from typing import Any

from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def prefer_available(
    node_resources: dict[str, float],
    resources: list[dict[str, float]],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Return Ray's own score, behind whether the cloud still grants this node type; the largest score is launched.

    Node types with equal scores are tried in reverse order of their names, so ``gpu_spot`` goes before
    ``gpu_on_demand``.
    """
    score = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if score is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    return (record is None or record.is_available, *score)

"""Three nodes with replicas on all of them: one is lost in mid-grid, and the grid ends complete and correct."""

import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks.grid_records import records_in
from greater_ray.grid.config import ReplicaConfig
from greater_ray.grid.run import GridObserver, run_grid

# Nodes that are lost are noticed after a second in place of twenty.
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def test_a_lost_node_costs_only_its_shards(small_grid: Callable, tmp_path: Path):
    import ray
    from ray.cluster_utils import Cluster

    from greater_ray.cluster.connect import connected
    from greater_ray.cluster.grid import RayBackend

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": QUICK})
    lost = threading.Event()
    events: list[str] = []
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()

        class Watcher(GridObserver):
            hosts = 0

            def pools(self, stats):
                loaded = [s for p in stats for s in p["slots"] if s["state"] in ("idle", "busy")]
                self.hosts = max(self.hosts, len(loaded))

            def message(self, text):
                events.append(text)

            def progressed(self, cell, progress):
                # As soon as all three nodes compute and something is under way.
                if self.hosts == 3 and not lost.is_set():
                    lost.set()
                    threading.Thread(target=lambda: cluster.remove_node(nodes[0], allow_graceful=False)).start()

        watcher = Watcher()
        with connected(cluster.address):
            # More steps than elsewhere, so that the loss is in the middle.
            grid = small_grid(settings={"budget": {"steps": 16}})
            result = run_grid(grid, tmp_path / "out", RayBackend(default=ReplicaConfig(count=3)), observer=watcher)
        assert lost.is_set(), "the grid ended before all replicas were up"
        assert any("replica died" in text for text in events), "the lost replica was at work"
        assert result.complete
    finally:
        cluster.shutdown()
    from greater_ray.grid.run import LocalBackend

    assert run_grid(grid, tmp_path / "here", LocalBackend()).complete
    assert records_in(tmp_path / "out") == records_in(tmp_path / "here")

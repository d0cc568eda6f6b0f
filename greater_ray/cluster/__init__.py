"""Everything that needs Ray: pools of model replicas, the broker of their work, and grids on Ray Tune."""

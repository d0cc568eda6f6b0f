"""Benchmark rows, their splits, extractors and answer readers; rows from a hub, a folder, a file or a generator."""

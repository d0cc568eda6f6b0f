"""What the processes of a grid use, by role: memory and processor time of this one and its descendants (``/proc``)."""

import os
import statistics
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

ROLES = {
    "AsyncBroker": "broker",
    "SharingBroker": "broker",
    "Replica": "replicas",
    "Coordinator": "coordinators",
    "IDLE": "spare workers",
}
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20
_DEEP = 45  # looks per look at shared memory


def load() -> str:
    """Return the load of the machine and its cores, for the report."""
    return f"load {os.getloadavg()[0]:.2f} over the last minute on {os.cpu_count()} cores"


def _role(pid: int) -> str:
    if pid == os.getpid():
        return "driver"
    command = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    if not command:
        raise ProcessLookupError(f"{pid} has ended")
    if command.startswith("ray::"):
        name = command[5:].split(".")[0].split("(")[0].strip()
        return ROLES.get(name, "Ray itself")
    return "starting" if "default_worker" in command else "Ray itself"


def roles(root: int | None = None) -> dict[int, str]:
    """Return this process, or another one, and all its descendants, with what each is for."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(folder.name))
    found, todo = {}, [root or os.getpid()]
    while todo:
        pid = todo.pop()
        todo += children[pid]
        with suppress(OSError):
            found[pid] = _role(pid)
    return found


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def processor_of_all() -> float:
    """Return the processor time of this process and all its descendants so far."""
    seconds = 0.0
    for pid in roles():
        with suppress(OSError):
            seconds += processor_seconds(pid)
    return seconds


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * _PAGE / MIB


def proportional(pid: int) -> float:
    """Return the memory of a process in MiB, each shared page divided among those who share it."""
    for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Sampler:
    """Looks at the processes every ``every`` seconds from a thread of its own, between ``start`` and ``stop``."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.memory: dict[str, list[tuple[float, float]]] = {"driver": [], "broker": []}
        self.most: Counter[str] = Counter()
        self._seconds: dict[int, tuple[str, float]] = {}
        self.over_time: list[tuple[float, dict[str, float]]] = []  # processor seconds so far, by role
        self._shares: dict[str, list[float]] = {}
        self._looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.look()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
            self.look()

    def _run(self) -> None:
        while not self._ended.wait(self.every):
            self.look()

    def look(self) -> None:
        """Note memory and processor time of everybody, now and then also the share of each in the memory."""
        now, found = time.monotonic(), roles()
        for role, number in Counter(found.values()).items():
            self.most[role] = max(self.most[role], number)
        self._looks += 1
        # Reading how memory is shared takes the kernel milliseconds per process.
        deep = self._looks % _DEEP == 1
        shares: defaultdict[str, list[float]] = defaultdict(list)
        for pid, role in found.items():
            with suppress(OSError):
                # A worker changes its role when it becomes an actor: the last one counts.
                self._seconds[pid] = role, processor_seconds(pid)
                if role in self.memory:
                    self.memory[role].append((now, resident(pid)))
                if deep:
                    shares[role].append(proportional(pid))
        self.over_time.append((now, self.processor()))
        for role, values in shares.items():
            if sum(values) > sum(self._shares.get(role, [])):
                self._shares[role] = values

    def processor(self) -> dict[str, float]:
        """Return processor seconds by role so far."""
        result: defaultdict[str, float] = defaultdict(float)
        for role, seconds in self._seconds.values():
            result[role] += seconds
        return dict(result)

    def shares(self) -> dict[str, tuple[int, float, float]]:
        """Return per role, at the fullest: number of processes, MiB of one (median) and of all."""
        return {role: (len(v), statistics.median(v), sum(v)) for role, v in self._shares.items()}

    def processor_between(self, begin: float, end: float) -> dict[str, float]:
        """Return processor seconds by role between two moments, as closely as there were looks."""
        first = min(self.over_time, key=lambda look: abs(look[0] - begin))[1]
        last = min(self.over_time, key=lambda look: abs(look[0] - end))[1]
        return {role: last[role] - first.get(role, 0.0) for role in last}


def drift(samples: list[tuple[float, float]], begin: float, end: float) -> tuple[float, float, float]:
    """Return medians of the first and of the last third between two moments, and the slope in MiB per minute."""
    kept = [(t, v) for t, v in samples if begin <= t <= end]
    third = max(1, len(kept) // 3)
    if len(kept) < 3:
        return (kept[0][1], kept[-1][1], 0.0) if kept else (0.0, 0.0, 0.0)
    slope = statistics.linear_regression(*zip(*kept, strict=True)).slope
    first, last = (statistics.median(v for _, v in part) for part in (kept[:third], kept[-third:]))
    return first, last, 60 * slope

"""What a soak watches: the gateway's processes and metrics, and what became of requests."""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.request import urlopen

import psutil

from tidegate.load.result import Result
from tidegate.testing.deployment import Deployment
from tidegate.testing.traffic import Traffic

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. Memory in MB, resident."""

    at: float
    """Seconds since the soak began."""
    memory: dict[str, float]
    """By process: `supervisor`, `control`, and each worker by its number."""
    descriptors: int
    """Open files of all workers."""
    connections: int
    """Of clients, as the gateway's own metric counts them."""
    in_flight: int
    requests: int
    """Ended since the last look."""
    errors: dict[str, int]
    """Of those that failed, by kind."""
    trouble: str
    """What is going on."""


@dataclass(slots=True)
class Watch:
    """Looks at a deployment and folds results, so that it needs little memory itself."""

    up: Deployment
    loads: list[Traffic]
    began: float = field(default_factory=time.perf_counter)
    samples: list[Sample] = field(default_factory=list)
    requests: int = 0
    first_tokens: list[float] = field(default_factory=list)
    failed: list[Result] = field(default_factory=list)
    workers: dict[int, str] = field(default_factory=dict)
    """Names by process id, in order of their appearance."""

    def look(self, trouble: str) -> Sample:
        """Take one sample."""
        results = [result for load in self.loads for result in _taken(load)]
        self.requests += len(results)
        self.failed += [result for result in results if result.failed]
        self.first_tokens += [result.ttft_s for result in results if result.ttft_s is not None]
        workers = self.up.children("worker")
        metrics = self._metrics()
        sample = Sample(
            at=time.perf_counter() - self.began,
            memory=self._memory(workers),
            descriptors=sum(_descriptors(worker) for worker in workers),
            connections=metrics["tidegate_connections"],
            in_flight=metrics["tidegate_requests_in_flight"],
            requests=len(results),
            errors=dict(Counter(str(result.error) for result in results if result.failed)),
            trouble=trouble,
        )
        self.samples.append(sample)
        return sample

    def _memory(self, workers: list[psutil.Process]) -> dict[str, float]:
        for worker in sorted(workers, key=lambda one: one.pid):
            self.workers.setdefault(worker.pid, f"worker {len(self.workers) + 1}")
        processes = {self.workers[worker.pid]: worker for worker in workers}
        processes["supervisor"] = psutil.Process(self.up.process.pid)
        for control in self.up.children("control"):
            processes["control"] = control
        found = {}
        for name, process in processes.items():
            with suppress(psutil.NoSuchProcess):
                found[name] = process.memory_info().rss / MB
        return found

    def _metrics(self) -> Counter[str]:
        """Return the sums of the gauges; empty while nobody answers."""
        found: Counter[str] = Counter()
        with suppress(OSError):
            url = f"http://127.0.0.1:{self.up.metrics_port}/metrics"
            with urlopen(url, timeout=10) as answer:
                for line in answer.read().decode().splitlines():
                    name, _, value = line.partition(" ")
                    name = name.partition("{")[0]
                    if name in ("tidegate_connections", "tidegate_requests_in_flight"):
                        found[name] += int(float(value))
        return found


def _taken(load: Traffic) -> list[Result]:
    some = list(load.results)
    del load.results[: len(some)]
    return some


def _descriptors(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return process.num_fds()
    return 0

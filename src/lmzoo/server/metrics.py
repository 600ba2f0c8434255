"""Counts of requests and tokens, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmzoo.server.batching import Worker


class Metrics:
    """The metrics of a server whose models have the given workers."""

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("lmzoo_requests", "Requests", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "lmzoo_request_seconds", "Time from a request to the end of its answer", ["route"], registry=self._registry
        )
        self.prompt_tokens = Counter("lmzoo_prompt_tokens", "Tokens of prompts", ["model"], registry=self._registry)
        self.completion_tokens = Counter(
            "lmzoo_completion_tokens", "Generated tokens", ["model"], registry=self._registry
        )
        self._registry.register(_Workers(workers))

    def as_text(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Workers(Collector):
    """The load of the workers, read when the metrics are asked for."""

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily("lmzoo_running_texts", "Texts that a model is continuing", labels=["model"])
        waiting = GaugeMetricFamily("lmzoo_waiting", "Calls and texts that wait for a model", labels=["model"])
        for name, worker in list(self._workers.items()):
            running.add_metric([name], worker.n_running)
            waiting.add_metric([name], worker.n_waiting)
        yield running
        yield waiting

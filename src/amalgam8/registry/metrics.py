"""The registry's metrics, in a registry of their own. Every series of a tenant has its name as a label.

Counters are fed by event records of the edges; gauges are read off the store when somebody asks.
"""

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from amalgam8.registry.store import Happened, Store
from amalgam8.registry.watch import Watchers
from amalgam8.web.app import Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WATCH_ROUTE = "/api/v1/instances/watch"
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

METRICS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "a8_registry_requests_total": (
        "counter",
        ("tenant", "method", "route", "status"),
        "Requests answered; tenant is empty where none was known.",
    ),
    "a8_registry_request_seconds": (
        "histogram",
        ("tenant", "method", "route"),
        "Time from a request to the end of its answer; streams are left out.",
    ),
    "a8_registry_lease_events_total": (
        "counter",
        ("tenant", "event"),
        "What happened to leases: registered, changed, renewed, removed, expired.",
    ),
    "a8_registry_instances": ("gauge", ("tenant", "status"), "Instances by status."),
    "a8_registry_services": ("gauge", ("tenant",), "Services that have an instance."),
    "a8_registry_revision": ("gauge", ("tenant",), "Changes since the registry began."),
    "a8_registry_watchers": ("gauge", ("tenant",), "Watch streams that are open."),
}
"""Name → kind, labels, meaning."""


class Metrics:
    """All of METRICS. ``show`` renders them for ``GET /metrics``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("a8_registry_requests_total")
        self._events = self._counter("a8_registry_lease_events_total")
        _, labels, meaning = METRICS["a8_registry_request_seconds"]
        self._seconds = Histogram(
            "a8_registry_request_seconds", meaning, labels, registry=self._registry, buckets=_BUCKETS
        )
        # Looking a series up by its labels costs more than counting in it.
        self._request_series: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self._event_series: dict[tuple[str, str], Counter] = {}

    def watch(self, store: Store, watchers: Watchers) -> None:
        """Read gauges off these from now on."""
        self._registry.register(_Gauges(store, watchers))

    def served(self, event: Served) -> None:
        key = (event.tenant, event.method, event.route, event.status)
        series = self._request_series.get(key)
        if series is None:
            series = self._request_series[key] = (
                self._requests.labels(event.tenant, event.method, event.route, str(event.status)),
                self._seconds.labels(event.tenant, event.method, event.route),
            )
        series[0].inc()
        if event.route != WATCH_ROUTE:
            series[1].observe(event.seconds)

    def happened(self, event: Happened) -> None:
        key = (event.tenant, event.what)
        series = self._event_series.get(key)
        if series is None:
            series = self._event_series[key] = self._events.labels(event.tenant, event.what)
        series.inc()

    def show(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def _counter(self, name: str) -> Counter:
        _, labels, meaning = METRICS[name]
        return Counter(name, meaning, labels, registry=self._registry)


class _Gauges(Collector):
    def __init__(self, store: Store, watchers: Watchers) -> None:
        self._store = store
        self._watchers = watchers

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        instances, services = _gauge("a8_registry_instances"), _gauge("a8_registry_services")
        revision, watchers = _gauge("a8_registry_revision"), _gauge("a8_registry_watchers")
        for tenant in list(self._store.tenants()):
            view = self._store.view(tenant)
            statuses = Tally(lease.instance.status for lease in view)
            for status in sorted({"UP", *statuses}):
                instances.add_metric([tenant, status], statuses[status])
            services.add_metric([tenant], len(view.services()))
            revision.add_metric([tenant], view.feed.revision)
            watchers.add_metric([tenant], self._watchers.count(tenant))
        yield from (instances, services, revision, watchers)


def _gauge(name: str) -> GaugeMetricFamily:
    _, labels, meaning = METRICS[name]
    return GaugeMetricFamily(name, meaning, labels=labels)

"""The controller's metrics, in a registry of its own. Every series of a tenant has its name as a label.

Counters are fed by event records of the edges; gauges are read off the tenants when somebody asks.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from amalgam8.controller.fleet import STATES
from amalgam8.controller.tenants import Tenants, Wrote
from amalgam8.web.app import Served
from amalgam8.web.figures import OneTenant

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

METRICS = {
    "a8_controller_requests_total": "Requests answered; tenant is empty where none was known.",
    "a8_controller_request_seconds": "Time from a request to the end of its answer; streams are left out.",
    "a8_controller_writes_total": "Revisions written, by tenant and cause.",
    "a8_controller_write_seconds": "Time until a write was safe in the store.",
    "a8_controller_compilations_total": "Destinations compiled for a kind of caller.",
    "a8_controller_events_total": "Snapshots and deltas sent to sidecars.",
    "a8_controller_revision": "Newest revision of a tenant.",
    "a8_controller_rules": "Rules of a tenant at its newest revision.",
    "a8_controller_streams": "Plan streams that are open.",
    "a8_controller_sidecars": "Sidecars by state.",
}
"""What each metric means."""

Clock = Callable[[], float]
WATCH_ROUTE = "/v1/plan/watch"
PREFIX = "a8_controller_"


class Metrics:
    """All of METRICS. ``show`` renders them for ``GET /metrics``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("requests_total", "tenant", "method", "route", "status")
        self._request_seconds = self._histogram("request_seconds", "method", "route")
        self._writes = self._counter("writes_total", "tenant", "cause")
        self._write_seconds = self._histogram("write_seconds", "tenant")
        self._compilations = self._counter("compilations_total", "tenant")
        self._events = self._counter("events_total", "tenant", "event")

    def watch(self, tenants: Tenants, clock: Clock) -> None:
        """Read gauges off ``tenants`` from now on."""
        self._registry.register(_Gauges(tenants, clock))

    def served(self, event: Served) -> None:
        self._requests.labels(event.tenant, event.method, event.route, str(event.status)).inc()
        if event.route != WATCH_ROUTE:
            self._request_seconds.labels(event.method, event.route).observe(event.seconds)

    def wrote(self, event: Wrote) -> None:
        self._writes.labels(event.tenant, event.cause).inc()
        self._write_seconds.labels(event.tenant).observe(event.seconds)

    def compiled(self, tenant: str) -> None:
        self._compilations.labels(tenant).inc()

    def sent(self, tenant: str, event: str) -> None:
        self._events.labels(tenant, event).inc()

    def show(self, only: str | None = None) -> bytes:
        """The text format of Prometheus; ``only``: no series of other tenants than this one."""
        return generate_latest(self._registry if only is None else OneTenant(self._registry, only))

    def _counter(self, name: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, METRICS[PREFIX + name], labels, registry=self._registry)

    def _histogram(self, name: str, *labels: str) -> Histogram:
        return Histogram(
            PREFIX + name, METRICS[PREFIX + name], labels, registry=self._registry, buckets=_BUCKETS
        )


class _Gauges(Collector):
    def __init__(self, tenants: Tenants, clock: Clock) -> None:
        self._tenants = tenants
        self._clock = clock

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        revision, rules = _gauge("revision", "tenant"), _gauge("rules", "tenant")
        streams, sidecars = _gauge("streams", "tenant"), _gauge("sidecars", "tenant", "state")
        for tenant in self._tenants.known():
            book = tenant.mirror.book
            revision.add_metric([tenant.name], book.revision)
            rules.add_metric([tenant.name], len(book.rules))
            streams.add_metric([tenant.name], tenant.fleet.streams)
            states = Tally(row.state for row in tenant.fleet.rows(self._clock(), tenant.plans.plan))
            for state in STATES:
                sidecars.add_metric([tenant.name, state], states[state])
        yield from (revision, rules, streams, sidecars)


def _gauge(name: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, METRICS[PREFIX + name], labels=labels)
